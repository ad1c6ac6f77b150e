//! Listening, accepting, and shutting down.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use skylark_protocol::transport::{Listener, Peer, Service};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use crate::connection::Connection;
use crate::{Shared, TcpTransport};

/// A socket that accepts connections. When this is dropped, it and its connections are closed at once.
#[derive(Debug)]
pub struct Listening {
    local_addr: SocketAddr,
    stop: Arc<Stop>,
    accepting: JoinHandle<()>,
}

impl Listening {
    pub(crate) fn open(
        transport: &TcpTransport,
        address: SocketAddr,
        listener: Listener,
        service: Arc<dyn Service>,
    ) -> io::Result<Self> {
        let _inside = transport.runtime.enter();
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of a predecessor that still time out must not keep a restart from listening.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local_addr = socket.local_addr()?;
        let stop = Arc::new(Stop::default());
        let shared = Arc::clone(&transport.shared);
        let accept =
            Accept { listener, service, shared, stop: Arc::clone(&stop), connections: JoinSet::new() };
        let accepting = transport.runtime.spawn(accept.run(socket));
        Ok(Self { local_addr, stop, accepting })
    }

    /// Where it listens; tells the port when none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts and reads nothing more, polls each session once, writes what they have to say, and closes.
    /// Peers that have not read it within `grace` lose the rest. Returns when all connections are closed.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.begin(Instant::now() + grace);
        if let Err(error) = (&mut self.accepting).await {
            error!(%error, "accepting connections ended early");
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Tells connections that they are to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    deadline: OnceLock<Instant>,
    notify: Notify,
}

impl Stop {
    fn begin(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.notify.notify_waiters();
    }

    /// Wakes whoever polled it before the shutdown began; look at `deadline` after that, never before.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// When the last connection has to be gone. None while there is no shutdown.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }
}

const BACKLOG: u32 = 1024;
/// The process is out of descriptors or memory: connections that end give some back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

struct Accept {
    listener: Listener,
    service: Arc<dyn Service>,
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    connections: JoinSet<()>,
}

impl Accept {
    async fn run(mut self, socket: TcpListener) {
        let stop = Arc::clone(&self.stop);
        let mut stopping = std::pin::pin!(stop.notified());
        while stop.deadline().is_none() {
            tokio::select! {
                () = &mut stopping => break,
                Some(ended) = self.connections.join_next() => report(ended),
                accepted = socket.accept() => match accepted {
                    Ok((stream, address)) => self.accept(stream, address),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(socket);
        while let Some(ended) = self.connections.join_next().await {
            report(ended);
        }
    }

    fn accept(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.connections.len() >= self.shared.limits.connections_max {
            warn!(%address, limit = self.shared.limits.connections_max, "too many connections, one is refused");
            return;
        }
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = Peer { listener: self.listener, address, identity: None };
        let (service, shared, stop) =
            (Arc::clone(&self.service), Arc::clone(&self.shared), Arc::clone(&self.stop));
        self.connections.spawn(async move { serve(stream, peer, &*service, &shared, &stop).await });
    }
}

/// Everything that becomes of an accepted stream. Whatever the first byte tells apart is told apart here:
/// a remoting frame begins with 0x00, the high byte of its length.
async fn serve(stream: TcpStream, peer: Peer, service: &dyn Service, shared: &Arc<Shared>, stop: &Stop) {
    debug!(address = %peer.address, "accepted");
    let session = service.accept(peer);
    Connection::new(stream, session, shared).drive(stop).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // The session heard that its connection is closed; the panic's own message is on standard error.
        error!(%error, "a connection's task failed");
    }
}
