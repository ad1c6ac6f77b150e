//! What a log that waits for space lacks: the writer notes it, and appends that are refused meanwhile repeat it.

use std::sync::Arc;

use crate::log::AppendError;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Space that a group needs and the disk does not have.
#[derive(Clone, Debug)]
pub(crate) struct Lack {
    /// Where it is lacking.
    pub(crate) directory: Arc<str>,
    /// What the group in front needs besides what is prepared.
    pub(crate) needed_bytes: u64,
    /// What the disk said it has.
    pub(crate) available_bytes: u64,
}

/// The lack there is, if there is one. Set by the writer alone.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    /// Not zero while there is one: appends ask each time, and take no lock when all is well.
    is_any: AtomicU64,
    lack: Mutex<Option<Lack>>,
}

impl Lacking {
    pub(crate) fn set(&self, lack: Option<Lack>) {
        let is_any = u64::from(lack.is_some());
        *self.lack.lock() = lack;
        // Relaxed: an append that sees it late is one of those before.
        self.is_any.store(is_any, Ordering::Relaxed);
    }

    /// Why an append is refused in front of which so many bytes wait for space.
    pub(crate) fn refusal(&self, staged_bytes: u64) -> Option<AppendError> {
        if self.is_any.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let Lack { directory, needed_bytes, available_bytes } = self.lack.lock().clone()?;
        Some(AppendError::NoSpace { directory, needed_bytes, available_bytes, staged_bytes })
    }
}
