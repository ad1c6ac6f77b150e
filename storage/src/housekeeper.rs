//! What has to be done for the log now and then, and not by the writer: ground ahead of it, and checkpoints.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::log::Step;
use crate::log::shared::Shared;
use crate::offset::PhysicalOffset;
use crate::poison::Cause;

/// A checkpoint is due once so much has become durable since the last one: it bounds what a restart reads.
const CHECKPOINT_EVERY_BYTES: u64 = 64 << 20;
/// A checkpoint is due once the log has been idle for so long: the newest group has no later witness.
const IDLE: Duration = Duration::from_millis(200);
/// How long the thread sleeps when nobody wakes it.
const TICK: Duration = Duration::from_millis(100);

/// Prepares segment files ahead of the writer, and writes checkpoints. A log works without one, but slower.
pub struct Housekeeper {
    shared: Arc<Shared>,
    /// The durable end when it was last seen to move, and when that was.
    seen: (PhysicalOffset, Duration),
}

impl Housekeeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = (shared.durable.get(), shared.clock.monotonic());
        Self { shared, seen }
    }

    /// Does one thing that is due, if anything is.
    pub fn step(&mut self) -> Step {
        if self.shared.stop.reason().is_some() {
            return Step::Stopped;
        }
        match self.work() {
            Ok(true) => Step::Worked,
            Ok(false) => Step::Idle,
            Err(cause) => {
                self.shared.poison(cause);
                Step::Stopped
            }
        }
    }

    /// Does what is due until the log has stopped. For a thread of its own.
    pub fn run(mut self) {
        self.shared.housekeeper_bell.listen();
        let shared = Arc::clone(&self.shared);
        shared.guard_thread("housekeeper", move || {
            loop {
                match self.step() {
                    Step::Worked => {}
                    Step::Idle => thread::park_timeout(TICK),
                    Step::Stopped => return,
                }
            }
        });
    }

    fn work(&mut self) -> Result<bool, Cause> {
        if self.is_checkpoint_due() {
            self.shared.store_checkpoint(|_| ())?;
            return Ok(true);
        }
        let written_end = self.shared.written.get();
        self.shared.ground.prepare(written_end).map_err(|error| Cause::Segment(Arc::new(error)))
    }

    fn is_checkpoint_due(&mut self) -> bool {
        let (end, now) = (self.shared.durable.get(), self.shared.clock.monotonic());
        if end != self.seen.0 {
            self.seen = (end, now);
        }
        let checkpointed = self.shared.checkpoint.lock().current().durable_end;
        // The writer may have got further, and stored a checkpoint, since the end was read.
        let behind = end.get().saturating_sub(checkpointed.get());
        behind >= CHECKPOINT_EVERY_BYTES || (behind > 0 && now.saturating_sub(self.seen.1) >= IDLE)
    }
}
