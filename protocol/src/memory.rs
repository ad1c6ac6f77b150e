//! The in-memory transport: two sessions joined without a socket.
//!
//! A [`Link`] carries the very bytes a socket would, in pieces of any size, so that a core behaves here as it
//! does on a network. Whoever holds it decides what moves when: a simulator moves it by hand from a seed, a
//! runtime drives it as a future.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;

use crate::frame;
use crate::transport::{CloseReason, Connector, Listener, Outbox, Peer, Service, Session};

/// One of the two ends of a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that was connected to.
    Server,
    /// The end that connected.
    Client,
}

impl Side {
    /// The end across.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// A connection between two sessions.
///
/// Bytes arrive whole and in order until one end closes or the link is cut; what is still under way then is
/// lost. Both sessions hear [`Session::closed`] exactly once, at the latest when the link is dropped.
pub struct Link {
    server: End,
    client: End,
    outbox_bytes_max: usize,
}

struct End {
    session: Box<dyn Session>,
    out: Outbox,
    inbox: BytesMut,
    state: State,
}

enum State {
    Open,
    /// The session has ended the connection; what it had said before is still delivered.
    Closing(CloseReason),
    Closed,
}

impl Link {
    /// Frames beyond this are refused, as on a network.
    pub const FRAME_BYTES_MAX: usize = 16 << 20;

    /// Joins two sessions.
    pub fn new(server: Box<dyn Session>, client: Box<dyn Session>) -> Self {
        Self { server: End::new(server), client: End::new(client), outbox_bytes_max: 1 << 20 }
    }

    /// Bounds what an end may have said and not yet delivered before it gets no further frames. 1 MiB unless
    /// set.
    #[must_use]
    pub fn outbox_bytes_max(mut self, bytes: usize) -> Self {
        self.outbox_bytes_max = bytes;
        self
    }

    /// Polls both sessions, moves at most `bytes_max` bytes to the end `to`, and hands that end every frame
    /// which is now whole. Returns whether anything came of it: after steps both ways that return `false`,
    /// nothing happens until one of the sessions wakes `cx` or time passes.
    pub fn step(&mut self, to: Side, bytes_max: usize, cx: &mut Context<'_>) -> bool {
        let outbox_bytes_max = self.outbox_bytes_max;
        let (from, to) = match to {
            Side::Server => (&mut self.client, &mut self.server),
            Side::Client => (&mut self.server, &mut self.client),
        };
        from.poll(cx);
        to.poll(cx);
        let moved = to.fetch(&mut from.out, bytes_max, outbox_bytes_max);
        let received = to.receive(outbox_bytes_max);
        if received {
            to.poll(cx);
        }
        let closed = from.out.is_empty() && from.close_if_closing();
        if closed {
            to.close(&CloseReason::ByPeer);
        }
        moved || received || closed
    }

    /// Bytes on their way to the end `to`.
    pub fn under_way(&self, to: Side) -> usize {
        match to {
            Side::Server => self.client.out.len(),
            Side::Client => self.server.out.len(),
        }
    }

    /// Cuts the link, as a failing network would. What is under way is lost.
    pub fn cut(&mut self) {
        let reason = CloseReason::Transport("the link was cut".into());
        self.server.close(&reason);
        self.client.close(&reason);
    }

    /// Whether both sessions have heard that the connection is gone.
    pub fn is_closed(&self) -> bool {
        matches!((&self.server.state, &self.client.state), (State::Closed, State::Closed))
    }

    /// Whether another step can do nothing before something outside the link happens: polling an end of its
    /// own accord may have given it something to say after its bytes were moved.
    fn is_quiet(&self) -> bool {
        let sees_nothing = |from: &End, to: &End| {
            let held = from.out.is_empty() || to.holds_bytes_back(self.outbox_bytes_max);
            held && !(from.out.is_empty() && matches!(from.state, State::Closing(_)))
        };
        sees_nothing(&self.server, &self.client) && sees_nothing(&self.client, &self.server)
    }

    /// Moves everything as soon as it can, until the link is closed. For a runtime of any kind.
    pub fn drive(mut self) -> impl Future<Output = ()> + Send {
        poll_fn(move |cx| {
            for _ in 0..ROUNDS_PER_POLL {
                let worked = [Side::Server, Side::Client].map(|to| self.step(to, PIECE_BYTES, cx));
                if self.is_closed() {
                    return Poll::Ready(());
                }
                if worked == [false, false] && self.is_quiet() {
                    return Poll::Pending;
                }
            }
            // Two busy sessions must not keep the thread to themselves.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.close(&CloseReason::Shutdown);
        self.client.close(&CloseReason::Shutdown);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("to_server", &self.under_way(Side::Server))
            .field("to_client", &self.under_way(Side::Client))
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl End {
    fn new(session: Box<dyn Session>) -> Self {
        Self { session, out: Outbox::default(), inbox: BytesMut::new(), state: State::Open }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if matches!(self.state, State::Open)
            && let Err(reason) = self.session.poll(cx, &mut self.out)
        {
            self.state = State::Closing(reason);
        }
    }

    fn takes_frames(&self, outbox_bytes_max: usize) -> bool {
        matches!(self.state, State::Open) && self.out.len() <= outbox_bytes_max && self.session.ready()
    }

    fn holds_bytes_back(&self, outbox_bytes_max: usize) -> bool {
        matches!(self.state, State::Open) && !self.takes_frames(outbox_bytes_max)
    }

    /// Takes bytes off `from`. An end that is gone takes and forgets them, one that is not ready leaves them.
    fn fetch(&mut self, from: &mut Outbox, bytes_max: usize, outbox_bytes_max: usize) -> bool {
        if self.holds_bytes_back(outbox_bytes_max) {
            return false;
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = from.slices(&mut slices);
        let mut moved = 0;
        for slice in &slices[..filled] {
            let piece = slice.len().min(bytes_max - moved);
            if matches!(self.state, State::Open) {
                self.inbox.extend_from_slice(&slice[..piece]);
            }
            moved += piece;
        }
        from.advance(moved);
        moved > 0
    }

    fn receive(&mut self, outbox_bytes_max: usize) -> bool {
        let mut received = false;
        while self.takes_frames(outbox_bytes_max) {
            let result = match frame::decode(&self.inbox, Link::FRAME_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some((frame, bytes))) => self.session.receive(frame, &mut self.out).map(|()| bytes),
                Err(error) => Err(CloseReason::Malformed(error.to_string())),
            };
            received = true;
            match result {
                Ok(bytes) => self.inbox.advance(bytes),
                Err(reason) => self.state = State::Closing(reason),
            }
        }
        if received {
            self.session.received();
        }
        received
    }

    fn close_if_closing(&mut self) -> bool {
        let State::Closing(reason) = &self.state else { return false };
        let reason = reason.clone();
        self.close(&reason);
        true
    }

    fn close(&mut self, reason: &CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.session.closed(reason);
            self.out = Outbox::default();
            self.inbox.clear();
        }
    }
}

const ROUNDS_PER_POLL: usize = 32;
const PIECE_BYTES: usize = 64 << 10;

type Bound = (Listener, Arc<dyn Service>);
type Run = dyn Fn(&str, Link) + Send + Sync;

/// Services by address, and the links to them.
///
/// What becomes of a new link is its user's choice: a runtime spawns [`Link::drive`], a simulator keeps the
/// link and steps it.
pub struct MemoryNetwork {
    services: Mutex<HashMap<String, Bound>>,
    run: Box<Run>,
    next_port: AtomicU16,
}

impl MemoryNetwork {
    /// A network without services. `run` is given every new link, with the address that was connected to.
    pub fn new(run: impl Fn(&str, Link) + Send + Sync + 'static) -> Self {
        let services = Mutex::default();
        Self { services, run: Box::new(run), next_port: AtomicU16::new(FIRST_CLIENT_PORT) }
    }

    /// Makes `service` answer at `address`, in place of what did before.
    pub fn bind(&self, address: &str, listener: Listener, service: Arc<dyn Service>) {
        self.services.lock().insert(address.to_owned(), (listener, service));
    }

    /// Connections to `address` are refused from now on; those there are stay.
    pub fn unbind(&self, address: &str) {
        self.services.lock().remove(address);
    }

    fn next_peer(&self, listener: Listener) -> Peer {
        // Relaxed: the number only has to differ from its neighbours.
        let port = self.next_port.fetch_add(1, Ordering::Relaxed).max(FIRST_CLIENT_PORT);
        Peer { listener, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), identity: None }
    }
}

impl Connector for MemoryNetwork {
    fn connect(&self, address: &str, mut session: Box<dyn Session>) {
        let service = self.services.lock().get(address).cloned();
        match service {
            Some((listener, service)) => {
                let server = service.accept(self.next_peer(listener));
                (self.run)(address, Link::new(server, session));
            }
            None => session.closed(&CloseReason::Transport(format!("nothing listens at {address}"))),
        }
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").finish_non_exhaustive()
    }
}

/// Where systems hand out ports to clients from.
const FIRST_CLIENT_PORT: u16 = 49152;

#[cfg(test)]
mod tests;
