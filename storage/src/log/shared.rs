//! What the threads of a log share besides the append lock.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::clock::Clock;
use crate::device::Files;
use crate::epoch::EpochStart;
use crate::frontier::Frontier;
use crate::ground::Ground;
use crate::group::Chain;
use crate::handover::Handover;
use crate::lack::Lacking;
use crate::log::Visibility;
use crate::log_id::{LogId, Seed};
use crate::offset::{Epoch, PhysicalOffset};
use crate::poison::{Cause, Stop, Stopped};
use crate::reader::{Cold, HotTail};
use crate::retention::pin::Pins;
use crate::sync::{Doorbell, Mutex};

/// Everything about an open log but its state and its staging.
pub(crate) struct Shared {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_id: LogId,
    pub(crate) seed: Seed,
    pub(crate) segment_bytes: u64,
    pub(crate) unit_bytes_max: u64,
    pub(crate) undurable_bytes_max: u64,
    pub(crate) visibility: Visibility,
    pub(crate) epoch: Epoch,
    pub(crate) epochs: Vec<EpochStart>,
    /// Moved by the writer alone, as is `written`.
    pub(crate) durable: Frontier,
    pub(crate) written: Frontier,
    pub(crate) stop: Stop,
    pub(crate) handover: Arc<Handover>,
    pub(crate) ground: Ground,
    pub(crate) lacking: Lacking,
    /// The first byte that is kept. Moved by [`Shared::trim`] alone, under `remains` and `checkpoint`.
    pub(crate) trimmed: Frontier,
    pub(crate) pins: Arc<Pins>,
    /// Bases of trimmed segments whose files are still to be removed. Taken before `checkpoint`.
    pub(crate) remains: Mutex<VecDeque<PhysicalOffset>>,
    pub(crate) segments: Catalogue,
    pub(crate) hot: HotTail,
    pub(crate) cold: Cold,
    pub(crate) writer_bell: Arc<Doorbell>,
    pub(crate) housekeeper_bell: Doorbell,
    /// Taken before `durable_point` where both are needed.
    pub(crate) checkpoint: Mutex<CheckpointFile>,
    /// What the next checkpoint says. Set by the writer before it publishes the end.
    pub(crate) durable_point: Mutex<DurablePoint>,
    /// Keeps every other opening of the directory out until the last user of this one is gone.
    pub(crate) _directory_lock: Box<dyn Send + Sync>,
}

/// The end of a durable group, and what recovery needs to go on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurablePoint {
    pub(crate) end: PhysicalOffset,
    pub(crate) chain: Chain,
    pub(crate) stored_at: u64,
    /// Of the last record below `end`.
    pub(crate) epoch: EpochStart,
}

impl Shared {
    pub(crate) fn visible(&self) -> &Frontier {
        match self.visibility {
            Visibility::Durable => &self.durable,
            Visibility::Written => &self.written,
        }
    }

    /// Stores a checkpoint of the durable end, with what `change` changes in it. Once one has said that the log is
    /// closed, those behind it say so too: nothing is appended any more.
    pub(crate) fn store_checkpoint(&self, change: impl FnOnce(&mut Checkpoint)) -> Result<(), Cause> {
        self.store_checkpoint_in(&mut self.checkpoint.lock(), change)
    }

    /// The same, for who stores several in a row. Whatever an earlier one said, the log begins where everybody is told:
    /// a trim that failed between its checkpoints is taken back by the next.
    pub(crate) fn store_checkpoint_in(
        &self,
        file: &mut CheckpointFile,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), Cause> {
        let point = *self.durable_point.lock();
        let mut next = Checkpoint {
            durable_end: point.end,
            chain: point.chain,
            stored_at: point.stored_at,
            epoch: point.epoch.epoch,
            epoch_start: point.epoch.start,
            oldest_segment: self.trimmed(),
            ..*file.current()
        };
        change(&mut next);
        file.store(next).map_err(|error| Cause::Checkpoint(Arc::new(error)))
    }

    /// Stores a checkpoint that names the segments up to the one at `base`, whose own name is durable.
    pub(crate) fn name_segment(&self, base: PhysicalOffset) -> Result<(), Cause> {
        self.store_checkpoint(|checkpoint| checkpoint.newest_segment = checkpoint.newest_segment.max(base))?;
        self.ground.note_named(base);
        Ok(())
    }

    /// Stops the log for good: nothing more is acknowledged, and everybody who waits for it learns so.
    pub(crate) fn poison(&self, cause: Cause) {
        let at = self.durable.get();
        if self.stop(Stopped::Poisoned { at, cause: cause.clone() }) {
            tracing::error!(durable_end = at.get(), %cause, "the log takes no more appends until it is opened again");
        }
    }

    /// Ends the log, for the first reason that is given; whether this is it.
    pub(crate) fn stop(&self, reason: Stopped) -> bool {
        let is_first = self.stop.set(reason.clone());
        if is_first {
            self.durable.stop(&reason);
            self.written.stop(&reason);
            self.trimmed.stop(&reason);
            self.handover.end();
            self.writer_bell.ring();
            self.housekeeper_bell.ring();
        }
        is_first
    }

    /// Runs a thread's body. If it panics the log is poisoned: whoever waits for that thread must not wait for ever.
    pub(crate) fn guard_thread(&self, name: &'static str, body: impl FnOnce()) {
        struct Alarm<'a>(&'a Shared, &'static str);
        impl Drop for Alarm<'_> {
            fn drop(&mut self) {
                self.0.poison(Cause::Thread(self.1));
            }
        }
        let alarm = Alarm(self, name);
        body();
        std::mem::forget(alarm);
    }
}
