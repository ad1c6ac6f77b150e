//! Takes groups, writes them, makes them durable, and says so: the only one who moves the log's frontiers.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::catalogue::SegmentInfo;
use crate::device::{Device, Operation};
use crate::ground::Unready;
use crate::group::Chain;
use crate::handover::Group;
use crate::log::shared::{DurablePoint, Shared};
use crate::log::{Front, Step, Visibility};
use crate::offset::PhysicalOffset;
use crate::pause::{PAUSE, Pause};
use crate::poison::{Cause, Stopped};
use crate::segment::{BLOCK_BYTES, segment_name};
use crate::staging::Sealed;
use crate::staging::chunk::Pool;

/// Writes what is appended, one group at a time: what arrives while one is under way forms the next.
///
/// ```text
///  take ──► seal ──► segment ready? ──► write, flush ──► publish ──► hand over ──► wake
///                         │ no: attach the next, which the housekeeper has prepared and named, or do that first
/// ```
///
/// After anything on this way fails nothing is published any more, and the log is poisoned. Only a disk without
/// space for the group is waited for, until the log is to be closed: nothing of the group has been written then, so
/// no promise is in doubt. Appends are held back by the bytes that are staged meanwhile.
pub struct Writer<T> {
    front: Arc<Front<T>>,
    press: Press,
    /// The group that waits for space.
    held: Option<Sealed>,
    /// Of making the segment ready for it.
    pause: Pause,
}

/// Why a segment is not ready for a group.
enum Obstacle {
    /// There is no space; trying again is safe.
    Full(Cause),
    Failed(Cause),
}

/// The part of a writer that does not know whose log it is.
struct Press {
    shared: Arc<Shared>,
    device: Box<dyn Device>,
    /// The segment that the device writes to.
    attached: Option<PhysicalOffset>,
    /// What the next group carries.
    chain: Chain,
    /// What will be durable after the next flush.
    written: DurablePoint,
    /// End of what is stored in the attached segment.
    stored_end: PhysicalOffset,
    durable_end: PhysicalOffset,
    flushed_at: Duration,
    /// Memory for last blocks.
    blocks: Arc<Pool>,
}

/// With [`Visibility::Written`] a flush is due after this time.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// With [`Visibility::Written`] a flush is due after so many bytes, before the kernel begins to throttle writes.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;

impl<T: Send + 'static> Writer<T> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        front: Arc<Front<T>>,
        device: Box<dyn Device>,
        recovered: DurablePoint,
    ) -> Self {
        let flushed_at = shared.clock.monotonic();
        #[expect(clippy::cast_possible_truncation, reason = "a block is small")]
        let blocks = Pool::new(BLOCK_BYTES as usize, 4);
        let press = Press {
            shared,
            device,
            attached: None,
            chain: recovered.chain,
            written: recovered,
            stored_end: recovered.end,
            durable_end: recovered.end,
            flushed_at,
            blocks,
        };
        Self { front, press, held: None, pause: Pause::default() }
    }

    /// Writes the next group, if there is one, or does what is due without one. Blocks on the disk only.
    pub fn step(&mut self) -> Step {
        let shared = Arc::clone(&self.press.shared);
        if shared.stop.reason().is_some() {
            return Step::Stopped;
        }
        let outcome = match self.next_group() {
            // Whoever closes the log gets an answer at once.
            Some(group) if self.pause.lasts(shared.clock.monotonic()) && !self.front.is_closing() => {
                self.held = Some(group);
                self.press.flush_if_due()
            }
            Some(group) => self.write(group),
            // Behind a callback that panicked nothing is taken, though groups may be left.
            None if shared.stop.reason().is_some() => return Step::Stopped,
            None if self.front.is_closing() => self.press.finish().map(|()| Step::Stopped),
            None => self.press.flush_if_due(),
        };
        outcome.unwrap_or_else(|cause| {
            shared.poison(cause);
            Step::Stopped
        })
    }

    /// Writes what is appended until the log has stopped. For a thread of its own.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.press.shared);
        shared.writer_bell.listen();
        shared.guard_thread("writer", move || {
            loop {
                match self.step() {
                    Step::Worked => {}
                    Step::Idle => self.sleep(),
                    Step::Stopped => return,
                }
            }
        });
    }

    fn next_group(&mut self) -> Option<Sealed> {
        let Press { shared, chain, durable_end, .. } = &self.press;
        self.held.take().or_else(|| Some(self.front.take()?.seal(shared.seed, *chain, *durable_end)))
    }

    fn write(&mut self, group: Sealed) -> Result<Step, Cause> {
        match self.press.make_ready(&group) {
            Ok(()) => {
                if self.pause.end() {
                    tracing::info!("the log goes on: there is space again");
                }
                self.press.print(&group).map(|()| Step::Worked)
            }
            Err(Obstacle::Full(cause)) if !self.front.is_closing() => {
                if self.pause.begin(self.press.shared.clock.monotonic()) {
                    tracing::warn!(%cause, start = group.start.get(), "the log waits for space");
                }
                self.held = Some(group);
                self.press.flush_if_due()
            }
            Err(Obstacle::Full(cause) | Obstacle::Failed(cause)) => Err(cause),
        }
    }

    fn sleep(&self) {
        if self.pause.is_on() {
            let unflushed = self.press.is_unflushed();
            thread::park_timeout(if unflushed { FLUSH_EVERY } else { PAUSE });
            return;
        }
        if !self.front.may_sleep() {
            return;
        }
        if self.press.is_unflushed() {
            thread::park_timeout(FLUSH_EVERY);
        } else {
            thread::park();
        }
    }
}

impl Press {
    /// Sees to it that the bytes a group goes to are there. May be asked again for the same group.
    fn make_ready(&mut self, group: &Sealed) -> Result<(), Obstacle> {
        self.enter_segment(group.segment_base)?;
        self.shared.ground.reach(group.stored_end.align_up(BLOCK_BYTES))?;
        Ok(())
    }

    /// Brings a group, for which the segment is ready, to the disk and to everybody who waits for it.
    fn print(&mut self, group: &Sealed) -> Result<(), Cause> {
        let flush = self.shared.visibility == Visibility::Durable;
        let at = group.write_from.since(group.segment_base);
        self.operate(Operation { at, pieces: group.pieces(&self.blocks), flush })?;
        self.chain = group.chain;
        self.stored_end = group.stored_end;
        // A group that only seals what the opening before left stands in front of this opening's epoch.
        let own = self.shared.epochs.last().filter(|own| own.start < group.end);
        let epoch = own.copied().unwrap_or(self.written.epoch);
        self.written = DurablePoint { end: group.end, chain: group.chain, stored_at: group.stored_at, epoch };
        self.shared.segments.extend(SegmentInfo {
            base: group.segment_base,
            created_at: group.segment_created_at,
            stored_bytes: group.stored_end.since(group.segment_base),
        });
        // Bytes first, then the ends that promise them, then those who wait for the promise.
        self.shared.hot.extend(group.chunk_base, group.chunk.clone());
        self.shared.written.advance(group.end);
        if flush {
            self.publish_durable();
        }
        self.shared.written.wake();
        if flush {
            self.shared.durable.wake();
        } else if self.written.end.since(self.durable_end) >= UNFLUSHED_BYTES_MAX {
            self.flush()?;
        } else {
            self.flush_if_due()?;
        }
        // After those who wait for the group: on a machine with few cores they would wait for its folding too.
        self.shared.handover.push(Group {
            start: group.start,
            end: group.end,
            created_at: group.segment_created_at,
            epoch: self.written.epoch.epoch,
            chain: group.chain,
            bytes: group.bytes(),
        });
        if self.shared.ground.is_urgent(group.end) {
            self.shared.housekeeper_bell.ring();
        }
        Ok(())
    }

    /// Directs the device at the segment of the next group, and meets what must be true before a group goes there:
    /// the file exists under its name, and a checkpoint names it.
    fn enter_segment(&mut self, base: PhysicalOffset) -> Result<(), Obstacle> {
        if self.attached == Some(base) {
            return Ok(());
        }
        if self.is_unflushed() {
            self.flush()?;
        }
        let shared = Arc::clone(&self.shared);
        shared.ground.advance(base)?;
        if !shared.ground.is_named(base) {
            shared.name_segment(base)?;
        }
        let attached = self.device.attach(&segment_name(base));
        attached.map_err(|error| Cause::Segment(Arc::new(error)))?;
        if let Some(sealed) = self.attached.replace(base) {
            shared.ground.note_sealed(sealed, self.stored_end.since(sealed));
        }
        Ok(())
    }

    fn operate(&mut self, operation: Operation) -> Result<(), Cause> {
        let ticket = self.device.submit(operation);
        let outcome = match self.device.complete() {
            Some((completed, outcome)) if completed == ticket => outcome,
            _ => Err(io::Error::other("the device lost an operation")),
        };
        outcome.map_err(|error| Cause::Write(Arc::new(error)))
    }

    fn is_unflushed(&self) -> bool {
        self.durable_end < self.written.end
    }

    fn flush_if_due(&mut self) -> Result<Step, Cause> {
        let is_due = self.is_unflushed()
            && (self.shared.durable.is_awaited(self.written.end)
                || self.shared.clock.monotonic().saturating_sub(self.flushed_at) >= FLUSH_EVERY);
        if !is_due {
            return Ok(Step::Idle);
        }
        self.flush()?;
        Ok(Step::Worked)
    }

    fn flush(&mut self) -> Result<(), Cause> {
        self.operate(Operation { at: 0, pieces: smallvec::SmallVec::new(), flush: true })?;
        self.publish_durable();
        self.shared.durable.wake();
        Ok(())
    }

    fn publish_durable(&mut self) {
        self.durable_end = self.written.end;
        self.flushed_at = self.shared.clock.monotonic();
        *self.shared.durable_point.lock() = self.written;
        self.shared.durable.advance(self.durable_end);
    }

    /// Ends a log that takes no more appends: everything durable, and a checkpoint that says so.
    fn finish(&mut self) -> Result<(), Cause> {
        if self.is_unflushed() {
            self.flush()?;
        }
        self.shared.store_checkpoint(|checkpoint| checkpoint.clean = true)?;
        self.shared.stop(Stopped::Closed);
        Ok(())
    }
}

impl From<Unready> for Obstacle {
    fn from(unready: Unready) -> Self {
        if unready.is_full() { Self::Full(unready.into()) } else { Self::Failed(unready.into()) }
    }
}

impl From<Cause> for Obstacle {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}
