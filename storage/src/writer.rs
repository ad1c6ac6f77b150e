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
use crate::lack::Lack;
use crate::log::front::{Front, Lingering, Taken};
use crate::log::shared::{DurablePoint, Shared};
use crate::log::{Step, Visibility};
use crate::offset::PhysicalOffset;
use crate::pause::{PAUSE, Pause};
use crate::poison::{Cause, Stopped};
use crate::segment::{BLOCK_BYTES, segment_name};
use crate::staging::chunk::Pool;
use crate::staging::{Closed, OpenGroup, Sealed, Staging};

/// Writes what is appended, one group at a time: what arrives while one is under way forms the next.
///
/// ```text
///  take ──► seal ──► segment ready? ──► write, flush ──► publish ──► hand over ──► wake
///                         │ no: attach the next, which the housekeeper has prepared and named, or do that first
/// ```
///
/// After anything on this way fails nothing is published any more, and the log is poisoned. Only a disk without
/// space for the group is waited for, until the log is to be closed: no flush has failed then, and nobody was told
/// of the group, so no promise is in doubt. Some of it may have been written already, where the disk refuses a write
/// to a range that was prepared; the same bytes then go to the same place again. Appends are refused meanwhile.
///
/// An appender that is alone may go this way with its group while the writer sleeps: see [`crate::log::Gather`].
///
/// One that is dropped before the log has stopped, stops it: appends are refused from then on, and whoever waits learns
/// that nothing will come ([`Cause::WriterGone`]).
pub struct Writer<T> {
    shared: Arc<Shared>,
    front: Arc<Front<T>>,
}

/// Why a group is not on the disk.
enum Obstacle {
    /// There is no space; trying again is safe.
    Full(Cause),
    Failed(Cause),
}

/// What writes. The only one who moves the log's frontiers, whatever thread it works on.
pub(crate) struct Press {
    shared: Arc<Shared>,
    device: Box<dyn Device>,
    /// The group that waits for space.
    held: Option<Sealed>,
    /// Of making the segment ready for it.
    pause: Pause,
    /// How many waited for the last group.
    woken: usize,
    /// How long the last group was.
    group_bytes: u64,
    /// How long the last group's write and flush took.
    took: Duration,
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

/// The writer lingers for this long at most for those who were woken, and for half of what a flush takes.
const LINGER_MAX: Duration = Duration::from_micros(250);
/// It does not for more than so many, as the first would be back long before the last,
const RETURNS_MAX: usize = 32;
/// nor behind a larger group, whose transfer is better spent on staging the next one.
const LINGER_BELOW_BYTES: u64 = 64 << 10;
/// How many groups are written before lingering is tried again that has not paid.
const SKIPPED_MAX: u32 = 127;
/// With [`Visibility::Written`] a group that nobody waits for is written once it has so many bytes,
const GATHERED_BYTES: u64 = 1 << 20;
/// or after this time.
const GATHER_AT_MOST: Duration = Duration::from_millis(2);
/// A writer that sleeps looks by itself after this time: what was appended while others gathered rings nobody, and
/// must not wait for as long as one of them takes, who may even have forgotten to end.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// With [`Visibility::Written`] a flush is due after this time.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// With [`Visibility::Written`] a flush is due after so many bytes, before the kernel begins to throttle writes. What
/// is appended during a flush of so much, as fast as the disk takes it, finds room in the default stage.
const UNFLUSHED_BYTES_MAX: u64 = 16 << 20;

/// What an appender writes itself: more than a lone one brings along at a time keeps others waiting for its thread.
const ALONE_BYTES_MAX: u64 = 16 << 10;

impl<T: Send + 'static> Writer<T> {
    pub(crate) fn new(shared: Arc<Shared>, front: Arc<Front<T>>) -> Self {
        Self { shared, front }
    }

    /// Writes the next group, if there is one, or does what is due without one. Blocks on the disk only. Behind
    /// [`Step::Idle`] an appender that is alone may write by itself, until the next step.
    pub fn step(&mut self) -> Step {
        let step = self.work();
        self.wake_rest();
        if step == Step::Idle {
            self.front.may_sleep();
        }
        step
    }

    /// As [`Self::step`], but those who wait for the group may still have to be woken.
    fn work(&self) -> Step {
        let mut press = self.front.press.lock();
        press.as_mut().map_or(Step::Stopped, |press| press.step(&self.front))
    }

    fn wake_rest(&self) {
        self.shared.written.wake();
        self.shared.durable.wake();
    }

    /// Writes what is appended until the log has stopped. For a thread of its own.
    pub fn run(self) {
        self.shared.writer_bell.listen();
        // Borrowed, so that a panic is what the log stops for, and not the drop behind it.
        self.shared.guard_thread("writer", || {
            let mut patience = Patience::default();
            loop {
                match self.work() {
                    Step::Worked => self.linger(&mut patience),
                    Step::Idle => self.sleep(),
                    Step::Stopped => return,
                }
            }
        });
    }

    /// Waits a little where that makes for better groups than taking what is there.
    fn linger(&self, patience: &mut Patience) {
        match self.shared.visibility {
            Visibility::Durable => self.linger_for_returns(patience),
            Visibility::Written => self.linger_for_bytes(),
        }
    }

    /// Those who were woken together come back together, if they come back at all. Taking what is there before
    /// they have would part them in two halves for good, each of which waits for the other's flush too.
    fn linger_for_returns(&self, patience: &mut Patience) {
        let Some((woken, took, group_bytes)) =
            self.front.press.lock().as_ref().map(|press| (press.woken, press.took, press.group_bytes))
        else {
            return;
        };
        if !(2..=RETURNS_MAX).contains(&woken) || group_bytes >= LINGER_BELOW_BYTES || !patience.lasts() {
            return;
        }
        self.wake_rest();
        let wanted = |_: &Staging| Lingering { arrivals: woken, staged_bytes: u64::MAX };
        if self.front.may_linger(wanted) {
            thread::park_timeout((took / 2).min(LINGER_MAX));
            let missing = self.front.end_lingering();
            patience.note(missing * 2 <= woken);
        }
    }

    /// Where nobody waits, small writes only cost more.
    fn linger_for_bytes(&self) {
        let shared = &*self.shared;
        if shared.written.has_waiters() || shared.durable.has_waiters() {
            return;
        }
        let wanted = |staging: &Staging| Lingering {
            arrivals: usize::MAX,
            staged_bytes: staging.taken_bytes() + GATHERED_BYTES,
        };
        if self.front.may_linger(wanted) {
            thread::park_timeout(GATHER_AT_MOST);
            self.front.end_lingering();
        }
    }

    fn sleep(&self) {
        self.wake_rest();
        let Some((pauses, flush_in)) =
            self.front.press.lock().as_ref().map(|press| (press.pause.is_on(), press.flush_in()))
        else {
            return;
        };
        if pauses {
            thread::park_timeout(flush_in.unwrap_or(PAUSE));
            return;
        }
        if !self.front.may_sleep() {
            return;
        }
        thread::park_timeout(flush_in.map_or(SLEEP_MAX, |flush_in| flush_in.min(SLEEP_MAX)));
        if self.shared.visibility == Visibility::Written {
            self.linger_for_bytes();
        }
    }
}

/// Whether lingering has paid.
#[derive(Debug, Default)]
struct Patience {
    /// Groups to be written without lingering.
    skipped: u32,
    /// How many were skipped after the last time that it did not pay.
    lost: u32,
}

impl Patience {
    /// Whether to try.
    fn lasts(&mut self) -> bool {
        if self.skipped == 0 {
            return true;
        }
        self.skipped -= 1;
        false
    }

    /// Notes whether it has paid.
    fn note(&mut self, paid: bool) {
        self.lost = if paid { 0 } else { (self.lost * 2 + 1).min(SKIPPED_MAX) };
        self.skipped = self.lost;
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        // Without a writer nobody writes, and the device lets go of its segment.
        drop(self.front.press.lock().take());
        let at = self.shared.durable.get();
        self.shared.stop(Stopped::Poisoned { at, cause: Cause::WriterGone });
    }
}

impl Press {
    pub(crate) fn new(shared: Arc<Shared>, device: Box<dyn Device>, recovered: DurablePoint) -> Self {
        let flushed_at = shared.clock.monotonic();
        #[expect(clippy::cast_possible_truncation, reason = "a block is small")]
        let blocks = Pool::new(BLOCK_BYTES as usize, 4);
        Self {
            shared,
            device,
            held: None,
            pause: Pause::default(),
            woken: 0,
            group_bytes: 0,
            took: Duration::ZERO,
            attached: None,
            chain: recovered.chain,
            written: recovered,
            stored_end: recovered.end,
            durable_end: recovered.end,
            flushed_at,
            blocks,
        }
    }

    fn step<T>(&mut self, front: &Front<T>) -> Step {
        let shared = Arc::clone(&self.shared);
        if shared.stop.reason().is_some() {
            return Step::Stopped;
        }
        let outcome = match self.held.take() {
            // Whoever closes the log gets an answer at once.
            Some(group) if self.pause.lasts(shared.clock.monotonic()) && !front.is_closing() => {
                self.held = Some(group);
                self.flush_if_due()
            }
            Some(group) => self.write(front, group),
            None => match front.take() {
                Taken::Group(group) => {
                    let group = self.seal(group);
                    self.write(front, group)
                }
                // Behind a callback that panicked nothing is taken, though groups may be left.
                _ if shared.stop.reason().is_some() => return Step::Stopped,
                Taken::NoMore => self.finish().map(|()| Step::Stopped),
                Taken::Nothing => self.flush_if_due(),
            },
        };
        outcome.unwrap_or_else(|cause| {
            shared.poison(cause);
            Step::Stopped
        })
    }

    /// Whether a group that nobody else takes part in may be written by whoever has appended it: nobody else is kept
    /// waiting, and nothing is in the way that takes longer than a write and a flush.
    pub(crate) fn is_alone(&self, group: Option<&OpenGroup>) -> bool {
        group.is_some_and(|group| {
            self.shared.visibility == Visibility::Durable
                && self.device.any_thread()
                && self.woken < 2
                && self.held.is_none()
                && self.attached == Some(group.segment_base)
                && group.end.since(group.start) <= ALONE_BYTES_MAX
                && self.shared.ground.is_reached(group.end.align_up(BLOCK_BYTES))
                && !self.shared.durable.has_waiters()
                && self.shared.stop.reason().is_none()
        })
    }

    /// Brings a group to the disk for whoever has found itself alone; whether the writer has nothing left to do with it.
    pub(crate) fn write_alone<T>(&mut self, front: &Front<T>, group: Closed) -> bool {
        let group = self.seal(group);
        if let Err(cause) = self.write(front, group) {
            self.shared.poison(cause);
        }
        self.held.is_none()
    }

    fn seal(&self, group: Closed) -> Sealed {
        group.seal(self.shared.seed, self.chain, self.durable_end)
    }

    fn write<T>(&mut self, front: &Front<T>, group: Sealed) -> Result<Step, Cause> {
        match self.make_ready(&group).and_then(|()| self.print(&group)) {
            Ok(()) => {
                if self.pause.end() {
                    self.shared.lacking.set(None);
                    tracing::info!("the log goes on: there is space again");
                }
                self.publish(group).map(|()| Step::Worked)
            }
            Err(Obstacle::Full(cause)) if !front.is_closing() => {
                let lack = self.lack(&group);
                if self.pause.begin(self.shared.clock.monotonic()) {
                    let Lack { directory, needed_bytes, available_bytes } = &lack;
                    tracing::warn!(
                        %cause, %directory, needed_bytes, available_bytes, start = group.start.get(),
                        "the log waits for space"
                    );
                }
                self.shared.lacking.set(Some(lack));
                self.held = Some(group);
                self.flush_if_due()
            }
            Err(Obstacle::Full(cause) | Obstacle::Failed(cause)) => Err(cause),
        }
    }

    /// Sees to it that the bytes a group goes to are there. May be asked again for the same group.
    fn make_ready(&mut self, group: &Sealed) -> Result<(), Obstacle> {
        self.enter_segment(group.segment_base)?;
        self.shared.ground.reach(group.stored_end.align_up(BLOCK_BYTES))?;
        Ok(())
    }

    /// Brings a group, for which the segment is ready, to the disk. May be asked again for the same group.
    fn print(&mut self, group: &Sealed) -> Result<(), Obstacle> {
        let at = group.write_from.since(group.segment_base);
        let pieces = group.pieces(&self.blocks);
        let began = self.shared.clock.monotonic();
        self.operate(Operation { at, pieces, flush: self.flushes(group) })?;
        self.took = self.shared.clock.monotonic().saturating_sub(began);
        self.group_bytes = group.stored_end.since(group.start);
        Ok(())
    }

    /// Whether a group is flushed as it is written. A segment that is finished is durable before anybody learns of it,
    /// so that nothing made of it outlives it.
    fn flushes(&self, group: &Sealed) -> bool {
        let is_finished = group.end == group.segment_base.advance(self.shared.segment_bytes);
        is_finished || self.shared.visibility == Visibility::Durable
    }

    /// What the disk lacks for a group.
    fn lack(&self, group: &Sealed) -> Lack {
        let (ground, files) = (&self.shared.ground, &self.shared.files);
        let end = group.stored_end.align_up(BLOCK_BYTES);
        // Where the ground is there, the disk has refused to write to it.
        let missing = ground.missing_bytes(group.segment_base, end);
        let needed_bytes = if missing > 0 { missing } else { end.since(group.write_from) };
        let available_bytes = files.space().map_or(0, |space| space.available_bytes);
        Lack { directory: files.describe().into(), needed_bytes, available_bytes }
    }

    /// Takes a group that is on the disk to everybody who waits for it.
    fn publish(&mut self, group: Sealed) -> Result<(), Cause> {
        let flush = self.flushes(&group);
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
        let bytes = group.bytes();
        self.shared.hot.extend(group.chunk_base, group.chunk, group.watch);
        self.shared.written.advance(group.end);
        if flush {
            self.publish_durable();
        }
        self.shared.written.begin_to_wake();
        if flush {
            self.woken = self.shared.durable.reached();
            self.shared.durable.begin_to_wake();
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
            bytes,
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
            // Never tried again, whatever the device says of it.
            self.flush().map_err(Obstacle::Failed)?;
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

    fn operate(&mut self, operation: Operation) -> Result<(), Obstacle> {
        let ticket = self.device.submit(operation);
        let outcome = match self.device.complete() {
            Some((completed, outcome)) if completed == ticket => outcome,
            _ => Err(io::Error::other("the device lost an operation")),
        };
        outcome.map_err(|error| Cause::Write(Arc::new(error)).into())
    }

    fn is_unflushed(&self) -> bool {
        self.durable_end < self.written.end
    }

    /// How long what is written may wait for a flush, if anything does.
    fn flush_in(&self) -> Option<Duration> {
        let due_at = self.flushed_at.saturating_add(FLUSH_EVERY);
        self.is_unflushed().then(|| due_at.saturating_sub(self.shared.clock.monotonic()))
    }

    fn flush_if_due(&mut self) -> Result<Step, Cause> {
        let is_due = self
            .flush_in()
            .is_some_and(|left| left.is_zero() || self.shared.durable.is_awaited(self.written.end));
        if !is_due {
            return Ok(Step::Idle);
        }
        self.flush()?;
        Ok(Step::Worked)
    }

    fn flush(&mut self) -> Result<(), Cause> {
        // It takes long where groups are not flushed one by one.
        self.shared.written.wake();
        let flushed = self.operate(Operation { at: 0, pieces: smallvec::SmallVec::new(), flush: true });
        // Whatever it was, a flush is not tried again.
        flushed.map_err(|(Obstacle::Full(cause) | Obstacle::Failed(cause))| cause)?;
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
        if cause.is_refused_write() { Self::Full(cause) } else { Self::Failed(cause) }
    }
}
