//! How far a queue was consumed.

use std::collections::BTreeMap;

/// The messages of one queue that were pulled and are not yet consumed.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Bytes by queue offset.
    open: BTreeMap<u64, usize>,
    open_bytes: usize,
    /// What to pull next; everything below is open or done.
    next: u64,
    committed: Option<u64>,
}

impl Progress {
    /// A queue whose consumption begins at `start`. `committed` is what the broker has stored.
    pub(crate) fn new(start: u64, committed: Option<u64>) -> Self {
        Self { open: BTreeMap::new(), open_bytes: 0, next: start, committed }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A message has been pulled.
    pub(crate) fn begin(&mut self, queue_offset: u64, bytes: usize) {
        if self.open.insert(queue_offset, bytes).is_none() {
            self.open_bytes += bytes;
        }
    }

    /// Everything below `next` has been pulled or skipped.
    pub(crate) fn advance(&mut self, next: u64) {
        self.next = next;
    }

    /// A message has been consumed.
    pub(crate) fn finish(&mut self, queue_offset: u64) {
        if let Some(bytes) = self.open.remove(&queue_offset) {
            self.open_bytes -= bytes;
        }
    }

    /// Whether as much is open as may be.
    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.open.len() >= messages_max || self.open_bytes >= bytes_max
    }

    /// The offset up to which everything was consumed.
    pub(crate) fn consumed(&self) -> u64 {
        self.open.first_key_value().map_or(self.next, |(first, _)| *first)
    }

    /// What to commit, if it is news.
    pub(crate) fn uncommitted(&self) -> Option<u64> {
        let consumed = self.consumed();
        (self.committed != Some(consumed)).then_some(consumed)
    }

    pub(crate) fn committed(&mut self, offset: u64) {
        self.committed = Some(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_message_holds_the_commit_back_and_what_is_behind_it_does_not_count() {
        let mut progress = Progress::new(10, None);
        assert_eq!(progress.uncommitted(), Some(10), "a queue that starts is committed where it starts");
        progress.committed(10);
        for offset in 10..14 {
            progress.begin(offset, 100);
        }
        progress.advance(14);
        progress.finish(12);
        progress.finish(11);
        assert_eq!(progress.uncommitted(), None);
        progress.finish(10);
        assert_eq!(progress.uncommitted(), Some(13));
        progress.committed(13);
        progress.finish(13);
        assert_eq!(progress.uncommitted(), Some(14));
    }

    #[test]
    fn fullness_counts_messages_and_bytes() {
        let mut progress = Progress::new(0, None);
        progress.begin(0, 60);
        assert!(!progress.is_full(2, 100));
        progress.begin(1, 60);
        assert!(progress.is_full(2, 1000) && progress.is_full(100, 100));
        progress.finish(0);
        assert!(!progress.is_full(2, 100));
    }
}
