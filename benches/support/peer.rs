//! Logs of others, as contestants.

use std::path::Path;

/// A write-ahead log from the registry.
pub trait Peer {
    /// Its name and version.
    fn name(&self) -> &'static str;
    /// How it is set up, as far as it matters for what is measured.
    fn settings(&self) -> &'static str;
    /// Opens a log in an empty directory, ready for appends.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, directory: &Path) -> Result<Box<dyn PeerLog>, Box<dyn std::error::Error>>;
}

/// An open log of a peer.
pub trait PeerLog: Send + Sync {
    /// Appends `records` of this payload as one unit, and returns once they are durable. `appender` tells threads
    /// apart; two calls with the same one do not overlap.
    ///
    /// # Panics
    /// When the log refuses.
    fn append(&self, appender: usize, payload: &[u8], records: usize);
    /// Gives up what the log keeps of earlier appends, between two measurements.
    fn tidy(&self) {}
}
