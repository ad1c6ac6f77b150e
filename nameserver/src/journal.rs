//! Where changes of the key–value configuration are made durable.

use std::fmt;
use std::pin::Pin;

use crate::KvChange;

/// Makes changes durable: a file when a nameserver is alone, the log when a broker hosts it.
///
/// A nameserver records one change at a time, so what is recorded first comes into effect first.
pub trait KvJournal: Send {
    /// Records a change, which is not in effect yet.
    ///
    /// # Errors
    /// When it was not recorded. It does not come into effect.
    fn record(&mut self, change: &KvChange) -> Result<Recorded, JournalError>;
}

/// How far a change is recorded.
pub enum Recorded {
    /// It is durable. The nameserver makes it.
    Now,
    /// It will be durable. Whoever recorded it makes it, by [`NameServer::apply_kv`](crate::NameServer::apply_kv),
    /// before this is done; until then the request is not answered.
    Later(Pending),
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now => "Now",
            Self::Later(_) => "Later",
        })
    }
}

/// Done when a change is durable and in effect, or when nobody can tell any more.
pub type Pending = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>;

/// Why a change was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It is not in effect, and will not be after a restart.
    #[error("the change is not recorded: {reason}")]
    Refused {
        /// What is in its way.
        reason: String,
    },
    /// It is not in effect, and may be after a restart.
    #[error("the change is not known to be recorded: {reason}")]
    Unknown {
        /// What went wrong.
        reason: String,
    },
}
