//! The only module of the crate family that reads the clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// What time it is. A simulation brings its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970. May jump in either direction.
    ///
    /// A log's store times never go back: a record is stored as of this, or as of the record before if that is later. So
    /// after a jump ahead and back they stand still until the clock has caught up, and so does retention by age, which
    /// keeps more than it should. The housekeeper warns of it.
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

/// Clocks that stand still until they are moved. Clones are the same clocks.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    now: Arc<Mutex<Now>>,
}

#[derive(Debug)]
struct Now {
    wall_ms: u64,
    monotonic: Duration,
}

impl SimulatedClock {
    /// Shows `wall_ms` milliseconds since 1970; no time has passed.
    pub fn new(wall_ms: u64) -> Self {
        Self { now: Arc::new(Mutex::new(Now { wall_ms, monotonic: Duration::ZERO })) }
    }

    /// Lets time pass on both clocks. The wall clock shows whole milliseconds: it gains those that `by` brings to
    /// the monotonic clock's.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        let before = now.monotonic.as_millis();
        now.monotonic += by;
        let gained = u64::try_from(now.monotonic.as_millis() - before).unwrap_or(u64::MAX);
        now.wall_ms = now.wall_ms.saturating_add(gained);
    }

    /// Sets the wall clock, forwards or back, as an operator or a time server may. No time passes.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.now.lock().wall_ms = wall_ms;
    }
}

impl Clock for SimulatedClock {
    fn wall_ms(&self) -> u64 {
        self.now.lock().wall_ms
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_passes_only_when_told() {
        let clock = SimulatedClock::new(1_000);
        clock.advance(Duration::from_micros(1_600));
        clock.clone().advance(Duration::from_micros(400));
        assert_eq!((clock.wall_ms(), clock.monotonic()), (1_002, Duration::from_millis(2)));
        clock.set_wall_ms(5);
        assert_eq!(
            (clock.wall_ms(), clock.monotonic()),
            (5, Duration::from_millis(2)),
            "only the wall clock jumps"
        );
    }
}
