//! What has to be done for the log now and then, and not by the writer: ground ahead of it, checkpoints, cutting what
//! was sealed, and a look at the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::ground::Unready;
use crate::log::Step;
use crate::log::shared::Shared;
use crate::offset::PhysicalOffset;
use crate::pause::Pause;
use crate::poison::Cause;

mod left_over;

/// A checkpoint is due once so much has become durable since the last one: it bounds what a restart reads.
const CHECKPOINT_EVERY_BYTES: u64 = 64 << 20;
/// A checkpoint is due once the log has been idle for so long: the newest group has no later witness.
const IDLE: Duration = Duration::from_millis(200);
/// A clock that is behind the store times by more than this is told of. Time servers move clocks by less.
const CLOCK_BEHIND_MS_MAX: u64 = 5_000;
/// How long the thread sleeps when nobody wakes it.
const TICK: Duration = Duration::from_millis(100);

/// Prepares segment files ahead of the writer, and writes checkpoints. A log works without one, but slower.
pub struct Housekeeper {
    shared: Arc<Shared>,
    /// The durable end when it was last seen to move, and when that was.
    seen: (PhysicalOffset, Duration),
    /// Of storing checkpoints.
    checkpoint_pause: Pause,
    /// Of filling the segment in use.
    active_pause: Pause,
    /// Of preparing the next one.
    next_pause: Pause,
    /// Segments that earlier openings have sealed, and may not have cut.
    left_over: VecDeque<PhysicalOffset>,
    /// The clock was found behind the store times, and that has been told.
    is_clock_behind: bool,
}

impl Housekeeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = (shared.durable.get(), shared.clock.monotonic());
        Self {
            left_over: left_over::sealed_before(&shared),
            shared,
            seen,
            checkpoint_pause: Pause::default(),
            active_pause: Pause::default(),
            next_pause: Pause::default(),
            is_clock_behind: false,
        }
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
        self.look_at_clock();
        if self.is_checkpoint_due() && !self.checkpoint_pause.lasts(self.shared.clock.monotonic()) {
            return self.checkpoint();
        }
        // What gives space back comes before what takes it, but for a look through files that nothing depends on.
        Ok(self.cut_sealed()
            || self.prepare_active()?
            || self.cut_left_over()
            || self.prepare_next()?
            || self.name_next()?)
    }

    /// Stores a checkpoint. Where the disk has no space for it the one before does: a restart reads more.
    fn checkpoint(&mut self) -> Result<bool, Cause> {
        match self.shared.store_checkpoint(|_| ()) {
            Err(cause) if cause.is_refused_write() => {
                if self.checkpoint_pause.begin(self.shared.clock.monotonic()) {
                    tracing::warn!(%cause, "a checkpoint waits for space");
                }
                Ok(false)
            }
            stored => {
                stored?;
                if self.checkpoint_pause.end() {
                    tracing::info!("a checkpoint was stored again");
                }
                Ok(true)
            }
        }
    }

    /// Fills the segment in use ahead of the writer. A disk that refuses is no harm yet: there may be enough
    /// for the writer, who fills what it cannot do without.
    fn prepare_active(&mut self) -> Result<bool, Cause> {
        let now = self.shared.clock.monotonic();
        if self.active_pause.lasts(now) {
            return Ok(false);
        }
        match self.shared.ground.prepare_active(self.shared.written.get()) {
            Ok(worked) => {
                if self.active_pause.end() {
                    tracing::info!("the segment in use is prepared ahead again");
                }
                Ok(worked)
            }
            Err(Unready::Refused(error)) => {
                if self.active_pause.begin(now) {
                    tracing::warn!(%error, "the segment in use is not prepared ahead; this is tried again");
                }
                Ok(false)
            }
            // It was to cover what the writer has written there as well.
            Err(error @ Unready::InDoubt(_)) => Err(error.into()),
        }
    }

    /// Fills the next segment, and gives it its name.
    fn prepare_next(&mut self) -> Result<bool, Cause> {
        let now = self.shared.clock.monotonic();
        if self.next_pause.lasts(now) {
            return Ok(false);
        }
        match self.shared.ground.prepare_next(self.shared.written.get()) {
            Ok(worked) => {
                if self.next_pause.end() {
                    tracing::info!("the next segment is prepared again");
                }
                Ok(worked)
            }
            Err(Unready::Refused(error)) => {
                if self.next_pause.begin(now) {
                    tracing::warn!(%error, "the next segment is not prepared; this is tried again");
                }
                Ok(false)
            }
            Err(error @ Unready::InDoubt(_)) => Err(error.into()),
        }
    }

    /// Names the next segment in a checkpoint, which a roll would otherwise have to wait for.
    fn name_next(&mut self) -> Result<bool, Cause> {
        if self.next_pause.lasts(self.shared.clock.monotonic()) {
            return Ok(false);
        }
        let Some(next) = self.shared.ground.unnamed() else {
            return Ok(false);
        };
        match self.shared.name_segment(next) {
            // The roll, or the next step, tries again.
            Err(cause) if cause.is_refused_write() => {
                if self.next_pause.begin(self.shared.clock.monotonic()) {
                    tracing::warn!(%cause, "the next segment is not named; this is tried again");
                }
                Ok(false)
            }
            named => named.map(|()| true),
        }
    }

    /// Cuts a sealed segment's file behind its last group. Only space hangs on it, and the next opening does not mind.
    fn cut_sealed(&self) -> bool {
        let Some((base, bytes)) = self.shared.ground.take_sealed() else {
            return false;
        };
        self.cut_segment(base, bytes);
        true
    }

    /// The same, of a segment that was sealed before this opening.
    fn cut_left_over(&mut self) -> bool {
        let Some(base) = self.left_over.pop_front() else {
            return false;
        };
        match left_over::used_bytes(&self.shared, base) {
            Ok(Some(bytes)) => self.cut_segment(base, bytes),
            Ok(None) => {}
            // A trim may have been faster.
            Err(error) if base >= self.shared.trimmed() => {
                tracing::warn!(%error, segment = base.get(), "a sealed segment cannot be looked at");
            }
            Err(_) => {}
        }
        true
    }

    fn cut_segment(&self, base: PhysicalOffset, bytes: u64) {
        let stored_bytes = self.shared.ground.cut(base, bytes).unwrap_or_else(|error| {
            // A trim may have been faster.
            if base >= self.shared.trimmed() {
                tracing::warn!(%error, segment = base.get(), "a sealed segment keeps its full length");
            }
            self.shared.segment_bytes
        });
        self.shared.segments.resize(base, stored_bytes);
    }

    /// Tells once of a clock that is behind the last store time, and once that it is not any more. Until it has caught up
    /// records are stored as of that time, so what goes by their age waits too.
    fn look_at_clock(&mut self) {
        let stored_at_ms = self.shared.durable_point.lock().stored_at;
        let clock_ms = self.shared.clock.wall_ms();
        let behind_ms = stored_at_ms.saturating_sub(clock_ms);
        if behind_ms > CLOCK_BEHIND_MS_MAX && !self.is_clock_behind {
            self.is_clock_behind = true;
            tracing::warn!(
                clock_ms,
                stored_at_ms,
                behind_ms,
                "the system's clock is behind the log's last store time: store times stand still, and retention by age \
                 with them, until it has caught up"
            );
        } else if behind_ms == 0 && self.is_clock_behind {
            self.is_clock_behind = false;
            tracing::info!(
                clock_ms,
                stored_at_ms,
                "the system's clock has caught up with the log's store times"
            );
        }
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
