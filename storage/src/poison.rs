//! Why a log stops, and how everybody learns of it.

use std::io;
use std::sync::{Arc, OnceLock};

use crate::device::WriteRefused;
use crate::offset::PhysicalOffset;

/// What went wrong for good: after any of these the log must be opened again, and recovered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Pages that the kernel could not write may be gone, so no later flush can be believed.
    #[error("a write or flush of the log failed: {0}")]
    Write(Arc<io::Error>),
    /// The file of the segment in use, or of the next one, could not be made ready for a group. A disk without
    /// space does this only to a log that is to be closed; any other waits.
    #[error("a segment could not be prepared: {0}")]
    Segment(Arc<io::Error>),
    /// Which segments have their names for certain is in doubt.
    #[error("the names of segments could not be made durable: {0}")]
    Directory(Arc<io::Error>),
    /// What recovery starts from is in doubt.
    #[error("a checkpoint could not be stored: {0}")]
    Checkpoint(Arc<io::Error>),
    /// A callback that runs under the append lock panicked, so the state behind that lock is half changed.
    #[error("a callback under the append lock panicked")]
    Callback,
    /// The [`Writer`](crate::Writer) was dropped, without which nothing is written.
    #[error("the log's writer is gone")]
    WriterGone,
    /// A thread of the log panicked.
    #[error("the {0} panicked")]
    Thread(&'static str),
}

impl Cause {
    /// Whether nothing is in doubt yet: a write found no space, and no flush has failed, so that the same bytes may be
    /// written to the same place again.
    pub(crate) fn is_refused_write(&self) -> bool {
        match self {
            Self::Write(error) | Self::Checkpoint(error) => WriteRefused::is_in(error),
            _ => false,
        }
    }
}

/// Why nothing more is going to happen.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The log was closed in good order: everything that was appended is durable.
    #[error("the log is closed")]
    Closed,
    /// What the frontiers had reached stays true and readable; nothing more is acknowledged.
    #[error("nothing behind offset {at} is acknowledged until the log is opened again: {cause}")]
    Poisoned {
        /// The durable end when it happened.
        at: PhysicalOffset,
        /// What happened.
        cause: Cause,
    },
}

/// Holds the reason once there is one; the first one stays.
#[derive(Debug, Default)]
pub(crate) struct Stop(OnceLock<Stopped>);

impl Stop {
    /// The reason, if the log has stopped.
    pub(crate) fn reason(&self) -> Option<&Stopped> {
        self.0.get()
    }

    /// Records a reason; whether it is the first.
    pub(crate) fn set(&self, reason: Stopped) -> bool {
        self.0.set(reason).is_ok()
    }
}
