//! Giving up the log's beginning, segment by segment: what retention asks for, or anybody else.
//!
//! ```text
//!  checkpoint, in both slots ──► readers are told ──► files removed ──► directory flushed
//! ```
//!
//! A crash behind the first step leaves files below the beginning, which the next opening removes. Nothing on the way
//! needs space, so that a full disk can be trimmed. Files are not kept for later segments: a reader may hold one
//! open, and must not see other bytes in it.

use std::io;
use std::sync::Arc;

use crate::log::shared::Shared;
use crate::offset::PhysicalOffset;
use crate::poison::{Cause, Stopped};
use crate::retention::{Cut, PinInfo, Retained, Retention, Situation};
use crate::segment::segment_name;

/// Why a log's beginning was not given up, or not wholly.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrimError {
    /// The newest segment that holds something durable stays. Nothing has changed.
    #[error(
        "the log cannot begin at {to}: at most at {limit}, its newest segment that holds something durable"
    )]
    Beyond {
        /// Where it should begin.
        to: PhysicalOffset,
        /// Where it may begin at most, as things are.
        limit: PhysicalOffset,
    },
    /// The log begins where it should, but takes more space than it needs: files were not removed, which the next
    /// trim, or the next opening, tries again.
    #[error("the log begins at {trimmed}, but a file below could not be removed: {error}")]
    Remains {
        /// Where the log begins.
        trimmed: PhysicalOffset,
        /// What the disk said.
        error: Arc<io::Error>,
    },
    /// The disk had no space for a checkpoint that was to take the place of another. The log begins where it did, which
    /// the next checkpoint says again, that of a closing included, and the same can be tried again. Until then a crash
    /// may leave it trimmed.
    #[error("the log was not trimmed: {0}")]
    NoSpace(Cause),
    /// The log has stopped. If it did so just now, the next opening finds it trimmed or not.
    #[error("the log was not trimmed: {0}")]
    Stopped(Stopped),
}

/// What a file that is removed gives back at a time.
const REMOVED_BYTES_MAX: u64 = 8 << 20;

impl Shared {
    /// The log's first byte that is kept.
    pub(crate) fn trimmed(&self) -> PhysicalOffset {
        self.trimmed.get()
    }

    /// Where the log may begin at most, as things are.
    fn trim_limit(&self) -> PhysicalOffset {
        let last_durable = PhysicalOffset::new(self.durable.get().get().saturating_sub(1));
        last_durable.align_down(self.segment_bytes)
    }

    /// See [`crate::CommitLog::cut`].
    pub(crate) fn cut(&self, retention: &Retention) -> Cut {
        self.pins.cut(retention, &self.situation(retention))
    }

    /// See [`crate::CommitLog::decide_cut`].
    pub(crate) fn decide_cut(&self, retention: &Retention) -> Cut {
        self.pins.decide_cut(retention, &self.situation(retention))
    }

    fn situation(&self, retention: &Retention) -> Situation {
        Situation {
            // Before the segments, so that all that are durable are among them.
            limit: self.trim_limit(),
            segments: self.segments.list(),
            now_ms: self.clock.wall_ms(),
            space: retention.clean_percent.and_then(|_| self.files.space().ok()),
            now: self.clock.monotonic(),
        }
    }

    /// See [`crate::CommitLog::apply_retention`].
    pub(crate) fn apply_retention(&self, retention: &Retention) -> Result<Retained, TrimError> {
        let Cut { to, held_back, .. } = self.decide_cut(retention);
        let segments = self.segments.list();
        let given_up = segments.iter().take_while(|segment| to.is_some_and(|to| segment.base < to));
        let stored_bytes: Vec<u64> = given_up.map(|segment| segment.stored_bytes).collect();
        let mut overtaken = self.pins.list();
        overtaken.retain(PinInfo::is_holding);
        // Where there is nothing to give up, files that an earlier trim could not remove are tried again.
        let trimmed = self.trim(to.unwrap_or(PhysicalOffset::ZERO))?;
        overtaken.retain(|pin| pin.from < trimmed);
        overtaken.iter_mut().for_each(|pin| pin.is_lost = true);
        Ok(Retained {
            trimmed,
            segments: stored_bytes.len(),
            freed_bytes: stored_bytes.iter().sum(),
            overtaken,
            held_back,
        })
    }

    /// See [`crate::CommitLog::trim`].
    pub(crate) fn trim(&self, to: PhysicalOffset) -> Result<PhysicalOffset, TrimError> {
        let mut remains = self.remains.lock();
        self.check_running()?;
        let to = to.align_down(self.segment_bytes);
        let trimmed = self.trimmed();
        if to > trimmed {
            let limit = self.trim_limit();
            if to > limit {
                return Err(TrimError::Beyond { to, limit });
            }
            let begun = self.begin_at(to);
            self.stop_on(begun)?;
            self.segments.trim(to);
            self.hot.trim(to);
            self.cold.trim(to);
            let mut base = trimmed;
            while base < to {
                remains.push_back(base);
                base = base.advance(self.segment_bytes);
            }
            self.trimmed.wake();
            tracing::info!(from = trimmed.get(), to = to.get(), "the log was trimmed");
        }
        if remains.is_empty() {
            return Ok(self.trimmed());
        }
        while let Some(base) = remains.front() {
            match self.remove_in_steps(&segment_name(*base)) {
                // Gone by somebody else's hand.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(TrimError::Remains { trimmed: self.trimmed(), error: Arc::new(error) });
                }
                _ => remains.pop_front(),
            };
        }
        // A failure may have been the report on another name in this directory, such as a segment's that was just
        // put to use, and nobody else would hear of it.
        let synced = self.files.sync_directory("log").map_err(|error| Cause::Directory(Arc::new(error)));
        self.stop_on(synced)?;
        Ok(self.trimmed())
    }

    /// Begins the log at `to` for good, and for everybody.
    fn begin_at(&self, to: PhysicalOffset) -> Result<(), Cause> {
        // Held to the end: a checkpoint of somebody else in between would name the old beginning again.
        let mut file = self.checkpoint.lock();
        // Into both slots: whichever is lost one day, the other names no file that is gone.
        for _ in 0..2 {
            self.store_checkpoint_in(&mut file, |checkpoint| checkpoint.oldest_segment = to)?;
        }
        // Whoever sees a segment's file gone sees this number too.
        self.trimmed.advance(to);
        Ok(())
    }

    /// Removes a file, most of it piece by piece: the file system is held up for as long as it takes to free what a
    /// removal frees at once, and the writer's flushes with it.
    fn remove_in_steps(&self, name: &str) -> io::Result<()> {
        if let Ok(file) = self.files.open(name) {
            let mut left = file.len().unwrap_or(0);
            while left > REMOVED_BYTES_MAX {
                left -= REMOVED_BYTES_MAX;
                if file.set_len(left).is_err() {
                    break;
                }
            }
        }
        self.files.remove(name)
    }

    fn check_running(&self) -> Result<(), TrimError> {
        self.stop.reason().map_or(Ok(()), |stopped| Err(TrimError::Stopped(stopped.clone())))
    }

    fn stop_on(&self, outcome: Result<(), Cause>) -> Result<(), TrimError> {
        match outcome {
            Err(cause) if cause.is_refused_write() => Err(TrimError::NoSpace(cause)),
            Err(cause) => {
                self.poison(cause);
                self.check_running()
            }
            Ok(()) => Ok(()),
        }
    }
}
