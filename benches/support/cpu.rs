//! Processor time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What all threads of this process have used so far, in user and in system mode, those that have ended included.
///
/// Work that the kernel does in threads of its own (write-back, completions of a direct transfer) is nobody's, whoever
/// asked for it.
pub fn process() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(used.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), nanoseconds)
}
