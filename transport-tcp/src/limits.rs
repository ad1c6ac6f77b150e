//! What a transport bounds.

use std::time::Duration;

/// The transport's limits. Each exists so that no peer can hold more of the process than its share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest frame, its length word included. A longer one is malformed.
    ///
    /// Default 16 MiB, RocketMQ's own limit, which clients apply to what they receive.
    pub frame_bytes_max: usize,
    /// How many answered bytes a connection may leave unread before its requests wait.
    ///
    /// Default 32 MiB. Answers already begun are finished, so a connection may pass it by one answer.
    pub connection_bytes_max: usize,
    /// How many bytes all connections together may hold in buffers, beyond 64 KiB for each.
    ///
    /// Default 512 MiB, never less than one frame. A frame takes memory as its bytes arrive, at most twice of
    /// what has arrived: announcing a long one takes nothing. Once the total is used up, frames longer than
    /// 64 KiB wait in the order in which they first asked for memory, and connections with more than 64 KiB
    /// unread get no further requests served.
    ///
    /// So that frames that have arrived in part never wait for each other in a circle, the one that has waited
    /// longest may pass the total, one at a time, until it is complete: the total is exceeded by up to
    /// `frame_bytes_max`, and by answers already begun. A peer that stalls such a frame holds up the frames
    /// that wait until `slow_frame` ends its connection.
    pub total_bytes_max: usize,
    /// How many accepted connections a listener serves at a time. More are closed at once.
    ///
    /// Default 10,000.
    pub connections_max: usize,
    /// A connection on which nothing is read or written for so long is closed.
    ///
    /// Default 120 s, as in RocketMQ, whose clients send a heartbeat every 30 s.
    pub idle: Duration,
    /// How long a frame may take from its first byte to its last.
    ///
    /// Default 30 s: 16 MiB at 4.5 Mbit/s. The time in which it waits for memory counts, so no frame waits
    /// longer than this. The time in which the session takes no frames does not, unless the frame is the one
    /// that passes `total_bytes_max`.
    pub slow_frame: Duration,
    /// How long a peer may read nothing of what waits for it.
    ///
    /// Default 45 s.
    pub slow_reader: Duration,
    /// How long an outgoing connection may take to open.
    ///
    /// Default 3 s, as in RocketMQ's clients.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
            connection_bytes_max: 32 << 20,
            total_bytes_max: 512 << 20,
            connections_max: 10_000,
            idle: Duration::from_secs(120),
            slow_frame: Duration::from_secs(30),
            slow_reader: Duration::from_secs(45),
            connect: Duration::from_secs(3),
        }
    }
}
