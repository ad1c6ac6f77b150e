//! How long to leave alone what the disk has refused.

use std::time::Duration;

/// What failed is tried again after this time: often enough to go on soon after space has returned.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Since when something has failed, and when it may be tried again.
///
/// Failures in a row are told apart from the first, so that each row is reported once.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// The last failure, unless it has worked since.
    failed_at: Option<Duration>,
}

impl Pause {
    /// Whether to wait on.
    pub(crate) fn lasts(&self, now: Duration) -> bool {
        self.failed_at.is_some_and(|failed_at| now.saturating_sub(failed_at) < PAUSE)
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_on(&self) -> bool {
        self.failed_at.is_some()
    }

    /// Notes a failure; whether it is the first of its row.
    pub(crate) fn begin(&mut self, now: Duration) -> bool {
        self.failed_at.replace(now).is_none()
    }

    /// Notes a success; whether it ends a row of failures.
    pub(crate) fn end(&mut self) -> bool {
        self.failed_at.take().is_some()
    }
}
