//! The only module of the crate family that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What time it is. A simulation brings its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970. May jump in either direction.
    fn wall_ms(&self) -> u64;
    /// Time since some moment in the past. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts counting.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
