//! The transport boundary: what a server or client core sees of a connection, and all that it sees.
//!
//! A transport moves frames. What answers them is a [`Session`]: a value the transport feeds with frames and
//! drains of bytes, from one task, without locks. A session never names a socket, and a transport never looks
//! into a frame beyond its length. Both ends of a connection are sessions; TCP, QUIC and the in-memory
//! transport drive the same ones.
//!
//! ```text
//!   socket ──bytes──► decoder ──frames──► Session::receive ─┐
//!     ▲                                                     ├──► Outbox ──► socket, written together
//!     └── other tasks ──► Mailbox ──wakes──► Session::poll ─┘
//! ```
//!
//! **Back-pressure.** A transport reads no further while [`Session::ready`] is false or the [`Outbox`] holds
//! more than its limit: a slow reader, or a full log, throttles its own connection and no other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use crate::frame::Frame;

mod mailbox;
mod outbox;

pub use mailbox::{Mailbox, MailboxFull};
pub use outbox::Outbox;

/// One end of a connection.
///
/// A transport calls `receive` for each whole frame it has read, then `received`, then `poll` once, then writes what
/// is in the outbox. It calls `poll` again whenever the waker it passed was woken.
pub trait Session: Send {
    /// Takes one frame from the peer. Answers go into `out`, now or from a later [`Session::poll`].
    ///
    /// # Errors
    /// The connection is closed, without answering what is still open, after what `out` holds was written.
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason>;

    /// The frames that were read together have been handed over, all of them or up to one that ends the connection.
    /// Nothing has been waited for since the first of them.
    fn received(&mut self) {}

    /// Moves what has become ready (mail, answers that are now durable) into `out`, and leaves the context's
    /// waker wherever more may come from.
    ///
    /// # Errors
    /// As for [`Session::receive`].
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason>;

    /// Whether the session takes further frames. While it does not, frames stay with the transport, and the
    /// transport asks again after each `poll`.
    fn ready(&self) -> bool {
        true
    }

    /// The connection is gone; nothing else will be called.
    fn closed(&mut self, reason: &CloseReason);
}

/// Makes a session for each connection that peers open.
pub trait Service: Send + Sync {
    /// A peer has connected.
    fn accept(&self, peer: Peer) -> Box<dyn Session>;
}

/// Who is at the other end, as far as the transport can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which of the server's listeners took the connection.
    pub listener: Listener,
    /// The peer's address; an IPv4-mapped IPv6 address is given as IPv4.
    pub address: SocketAddr,
    /// Whom the peer has proved to be (a certificate's subject), if the transport asks for proof.
    pub identity: Option<Arc<str>>,
}

/// A listener, by its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Listener {
    /// A nameserver's.
    NameServer,
    /// A broker's main listener.
    Broker,
    /// A broker's second listener, two ports below, which some clients use for sends and commits.
    BrokerFast,
    /// None: this side opened the connection.
    Outbound,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    ByPeer,
    /// This side shuts down.
    Shutdown,
    /// Nothing was read or written for the time allowed.
    Idle,
    /// A frame was begun and not finished within the time allowed.
    SlowFrame,
    /// The peer did not read what was sent to it within the time allowed.
    SlowReader,
    /// The bytes are no frames; says which rule they broke.
    Malformed(String),
    /// The transport failed.
    Transport(String),
    /// The session ended it; says why.
    Session(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => f.write_str("closed by the peer"),
            Self::Shutdown => f.write_str("shutting down"),
            Self::Idle => f.write_str("idle"),
            Self::SlowFrame => f.write_str("frame not finished in time"),
            Self::SlowReader => f.write_str("answers not read in time"),
            Self::Malformed(what) => write!(f, "malformed frame: {what}"),
            Self::Transport(what) => write!(f, "transport failed: {what}"),
            Self::Session(what) => f.write_str(what),
        }
    }
}

/// Opens connections to addresses in routes.
///
/// Implemented by each transport; written as a trait object so that a client can hold several.
pub trait Connector: Send + Sync {
    /// Begins to connect to `address` (`host:port`). `session` drives the connection once it is open, and hears
    /// [`Session::closed`] exactly once, also when it could not be opened.
    fn connect(&self, address: &str, session: Box<dyn Session>);
}
