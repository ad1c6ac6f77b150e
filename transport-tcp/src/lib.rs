//! RocketMQ remoting frames over TCP.
//!
//! ```text
//!  accept ─► serve ─► one task per connection: read ─► Session::receive ─► Session::poll ─► one vectored write
//! ```
//!
//! | to change…                                   | open         |
//! |----------------------------------------------|--------------|
//! | when bytes are read, written, and waited for | `connection` |
//! | how connections come to be, and shut down    | `listener`   |
//! | what is bounded, and by how much             | `limits`     |
//! | how all connections share one bound          | `budget`     |
//! | where a frame grows while it arrives         | `buffer`     |
//!
//! Promise: a connection costs one task, and a message costs no task, channel, wake-up or allocation of the
//! transport's. A peer that does not read, or does not finish what it began, holds up its own connection,
//! then loses it; the others do not notice. Start reading at [`TcpTransport::listen`].

#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use skylark_protocol::transport::{CloseReason, Connector, Listener, Service, Session};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

mod budget;
mod buffer;
mod connection;
mod limits;
mod listener;

pub use limits::Limits;
pub use listener::Listening;

use budget::Budget;
use connection::Connection;
use listener::Stop;

/// Everything TCP that shares one set of limits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TcpTransport {
    shared: Arc<Shared>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    budget: Arc<Budget>,
}

impl TcpTransport {
    /// A transport whose tasks run on `runtime`, which needs its I/O and time drivers.
    pub fn new(limits: Limits, runtime: Handle) -> Self {
        let budget = Arc::new(Budget::new(limits.total_bytes_max.max(limits.frame_bytes_max)));
        Self { shared: Arc::new(Shared { limits, budget }), runtime }
    }

    /// Listens on `address` and makes a session with `service` for every peer that connects.
    ///
    /// # Errors
    /// When the address cannot be bound; nothing listens then.
    pub fn listen(
        &self,
        address: SocketAddr,
        listener: Listener,
        service: Arc<dyn Service>,
    ) -> io::Result<Listening> {
        Listening::open(self, address, listener, service)
    }

    /// Bytes that connections hold in buffers beyond what each is granted anyway.
    pub fn bytes_in_flight(&self) -> usize {
        self.shared.budget.used()
    }
}

impl Connector for TcpTransport {
    fn connect(&self, address: &str, mut session: Box<dyn Session>) {
        let address = address.to_owned();
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let connecting = timeout(shared.limits.connect, TcpStream::connect(&address));
            match connecting.await {
                Ok(Ok(stream)) => Connection::new(stream, session, &shared).drive(&Stop::default()).await,
                Ok(Err(error)) => session.closed(&failed_to_connect(&address, &error)),
                Err(_elapsed) => session.closed(&failed_to_connect(&address, &"no answer in time")),
            }
        });
    }
}

fn failed_to_connect(address: &str, cause: &dyn std::fmt::Display) -> CloseReason {
    CloseReason::Transport(format!("cannot connect to {address}: {cause}"))
}

#[cfg(test)]
mod tests;
