//! The commit log as its users see it: open, append, wait, read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catalogue::SegmentInfo;
use crate::clock::Clock;
use crate::device::Files;
use crate::epoch::EpochStart;
use crate::frontier::Frontier;
use crate::handover::GroupQueue;
use crate::housekeeper::Housekeeper;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::poison::{Cause, Stopped};
use crate::reader::{ChainPoint, OwnedRecord, ReadError, Scan};
use crate::recovery::{OpenError, RecoveryReport};
use crate::retention::{Cut, Pin, PinError, PinInfo, Retained, Retention};
use crate::segment::SEGMENT_BYTES_DEFAULT;
use crate::staging::{NewRecord, Place, TailPolicy, Unit};
use crate::writer::Writer;

use front::Front;
use shared::Shared;

pub use gather::{CommitError, Gather, Gatherer};
pub use running::Running;
pub use trim::TrimError;

pub(crate) mod front;
mod gather;
mod open;
mod running;
pub(crate) mod shared;
mod trim;

/// How a log is opened. Fields may be added in any release: write what you choose, and `..Options::default()`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of each segment file of a log that this opening creates; an existing log keeps its own.
    ///
    /// Default 256 MiB. A multiple of 4096 from 64 KiB to 2 GiB. Space is given back by whole segments.
    pub segment_bytes: u64,
    /// How many bytes may be staged: appended, but not yet durable or not yet folded. Beyond it appends see
    /// [`AppendError::Backpressure`], save one that finds nothing else staged. While the log waits for space on the
    /// disk they see [`AppendError::NoSpace`] at once.
    ///
    /// Default 32 MiB. More absorbs longer stalls of the disk, and lets latency grow with them.
    pub undurable_bytes_max: u64,
    /// How many bytes of the segment in use are kept prepared ahead of the writer, at most all of it. A writer that
    /// outruns them takes ground that is only reserved, where flushes of large groups take about 1.7 times as long.
    ///
    /// Default `None`: 32 MiB, or a quarter of the segment if that is less. More lets longer bursts find prepared ground;
    /// an idle log takes that much more space on the disk.
    pub prepared_bytes: Option<u64>,
    /// How many of the newest bytes stay in memory for readers, at least; 10 MiB on top at most.
    ///
    /// Default 32 MiB. Whoever reads further behind reads files. Readers share this memory for as long as they keep what
    /// they have read: once they hold as much again that is among the newest no longer, or 10 MiB if that is more, they
    /// are given copies until they have let go. What they hold of the newest by then comes on top.
    pub tail_bytes: u64,
    /// How many older bytes are kept in memory for those who read them in small steps; taken as they are read.
    ///
    /// Default 32 MiB. They come on top of `tail_bytes`, which no reader of older bytes can take.
    pub cold_cache_bytes: u64,
    /// How many bytes a second readers may take from files together while groups are being written. Lookups of single
    /// records are not held up by it, and nobody is while no group has been written for 50 ms.
    ///
    /// Default 128 MiB. More lets a replay end sooner, and makes appends beside it slower.
    pub cold_bytes_per_second: u64,
    /// Which frontier readers and folds follow.
    pub visibility: Visibility,
    /// How groups follow each other.
    pub tail: TailPolicy,
    /// Cut at corruption, and report it, instead of refusing to open.
    pub repair: bool,
    /// For a repair: where an inspection has found damage below the durable end. The log is cut in front of the group
    /// that holds it, and everything behind it is given up.
    ///
    /// Default `None`: such damage keeps nobody from opening the log, only from reading there.
    pub damaged_at: Option<PhysicalOffset>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            undurable_bytes_max: 32 << 20,
            prepared_bytes: None,
            tail_bytes: 32 << 20,
            cold_cache_bytes: 32 << 20,
            cold_bytes_per_second: 128 << 20,
            visibility: Visibility::default(),
            tail: TailPolicy::default(),
            repair: false,
            damaged_at: None,
        }
    }
}

/// Which frontier `visible_end` follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// What readers see survives a power cut. Each group is flushed before anybody learns of it.
    #[default]
    Durable,
    /// What readers see survives the end of the process. The log is flushed within 200 ms, or as soon as
    /// somebody waits for the durable end.
    Written,
}

/// What an opening gives: the log, and the machines that somebody must drive.
pub struct Opened<T> {
    /// For appends and reads.
    pub log: CommitLog<T>,
    /// Writes what is appended. Nothing becomes durable unless somebody steps or runs it, and without it the log stops.
    pub writer: Writer<T>,
    /// Prepares segment files and writes checkpoints.
    pub housekeeper: Housekeeper,
    /// The groups of this opening as they become visible. What was there before is read with [`CommitLog::scan`].
    pub groups: GroupQueue,
    /// What was found.
    pub recovery: RecoveryReport,
}

/// What one step of a machine came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// There was nothing to do.
    Idle,
    /// The log has stopped; there will never be anything to do again.
    Stopped,
}

/// A segmented log that shares flushes among appends. Clones are handles of the same log.
///
/// `T` is state that belongs to the order of appends, such as the next number of each queue: it is reached only
/// under the append lock.
pub struct CommitLog<T> {
    shared: Arc<Shared>,
    front: Arc<Front<T>>,
}

/// Where an appended unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The first byte of its first record's header.
    pub start: PhysicalOffset,
    /// Behind its last record. It is acknowledged once the frontier that its policy names has got here.
    pub end: PhysicalOffset,
    /// The epoch it carries.
    pub epoch: Epoch,
}

/// Why an append was refused. The log and its state are unchanged in every case.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No group or segment of this log could hold the unit.
    #[error("the records take {unit_bytes} bytes together, the limit is {max_bytes}")]
    TooLarge {
        /// What the unit takes, headers included.
        unit_bytes: u64,
        /// What it may.
        max_bytes: u64,
    },
    /// The disk, or whoever folds, is behind. Room comes back as they catch up.
    #[error("{staged_bytes} bytes are waiting to become durable and folded, the limit is {limit_bytes}")]
    Backpressure {
        /// Bytes staged before this append.
        staged_bytes: u64,
        /// How many may be.
        limit_bytes: u64,
    },
    /// The disk has no space for what was appended before. The log goes on by itself, within a second, once there is
    /// space.
    #[error(
        "no space left in {directory}: the log needs {needed_bytes} bytes more to go on, {available_bytes} are left, \
         and {staged_bytes} appended bytes wait for them"
    )]
    NoSpace {
        /// Where the log is.
        directory: Arc<str>,
        /// What the first group that waits needs, besides what is prepared for it.
        needed_bytes: u64,
        /// What the disk said is left: it may keep some of that for others, or for its own bookkeeping.
        available_bytes: u64,
        /// Bytes staged before this append.
        staged_bytes: u64,
    },
    /// The log takes no appends until it is opened again and recovered. What was durable stays readable.
    #[error("the log has taken no appends since the one at {at}: {cause}")]
    Poisoned {
        /// The durable end when it happened.
        at: PhysicalOffset,
        /// What happened.
        cause: Cause,
    },
    /// [`CommitLog::close`] was called.
    #[error("the log is closed")]
    Closed,
}

/// How far the log has got, at one moment. `trimmed ≤ durable_end ≤ written_end ≤ appended_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frontiers {
    /// The first byte that is still kept.
    pub trimmed: PhysicalOffset,
    /// Everything below survives a power cut.
    pub durable_end: PhysicalOffset,
    /// Everything below survives the end of the process.
    pub written_end: PhysicalOffset,
    /// Everything below has its place in the log.
    pub appended_end: PhysicalOffset,
    /// Everything below may be read: one of the two ends above it, as [`Options::visibility`] says.
    pub visible_end: PhysicalOffset,
}

impl<T: Send + 'static> CommitLog<T> {
    /// Takes the directory's lock, recovers the log, or creates one, and opens a new epoch: its epoch record is
    /// the first append. Nothing is written before somebody drives the writer.
    ///
    /// # Errors
    /// When the directory is in use, the disk refuses, or bytes that had been durable are gone.
    pub fn open(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        options: Options,
        state: T,
    ) -> Result<Opened<T>, OpenError> {
        open::open(files, clock, &options, state)
    }

    /// Appends records as a unit: one behind the other, in one segment and one group, so that a restart keeps all
    /// of them or none.
    ///
    /// `fill` runs under the append lock, once for each record in order, after every check has passed, and may
    /// finish the record's head in place. It must not use this log, which would wait for that lock for ever: not even
    /// ask for its [`Frontiers`], close it or end a [`Gather`]. It must not block, and must not panic: that poisons the log.
    ///
    /// The unit is not acknowledged yet: wait until [`Self::durable`], or [`Self::written`], has reached
    /// [`Appended::end`].
    ///
    /// # Errors
    /// See [`AppendError`]; the log is unchanged.
    ///
    /// # Panics
    /// When `unit` is empty, a head has more than 255 bytes, or a kind belongs to storage.
    pub fn append(
        &self,
        unit: &[NewRecord<'_>],
        mut fill: impl FnMut(&mut T, Place, &mut [u8]),
    ) -> Result<Appended, AppendError> {
        assert!(unit.iter().all(|record| !record.kind.is_internal()), "kinds below 16 belong to storage");
        let shared = &*self.shared;
        let max_bytes = shared.unit_bytes_max;
        let unit = Unit::new(shared.seed, unit, max_bytes)
            .map_err(|long| AppendError::TooLarge { unit_bytes: long.unit_bytes, max_bytes })?;
        let now_ms = shared.clock.wall_ms();
        let mut guard = self.front.lock();
        let locked = &mut *guard;
        locked.check(shared)?;
        let staged_bytes = locked.staging.staged_bytes().saturating_sub(shared.handover.released_bytes());
        let limit_bytes = shared.undurable_bytes_max;
        if staged_bytes > 0
            && let Some(refusal) = shared.lacking.refusal(staged_bytes)
        {
            return Err(refusal);
        }
        if staged_bytes > 0 && staged_bytes + unit.bytes() as u64 > limit_bytes {
            // Whoever waits for room may be gathering.
            let rings = locked.is_due();
            drop(guard);
            if rings {
                shared.writer_bell.ring();
            }
            return Err(AppendError::Backpressure { staged_bytes, limit_bytes });
        }
        let (placed, copy) = locked.call_back(shared, |state, staging| {
            staging.append(&unit, now_ms, |place, head| fill(&mut *state, place, head))
        });
        let rings = self.front.rings(locked);
        drop(guard);
        if let Some(copy) = copy {
            copy.complete(&unit);
        }
        if rings {
            shared.writer_bell.ring();
        }
        Ok(Appended { start: placed.start, end: placed.end, epoch: shared.epoch })
    }

    /// The state that the append lock owns. For what is rare, such as restoring it: appends wait meanwhile.
    ///
    /// `f` must not use this log, which would wait for the append lock for ever: neither append to it nor ask for its
    /// [`Frontiers`], close it or end a [`Gather`]. It must not panic: that poisons the log.
    pub fn with_state<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.front.lock().call_back(&self.shared, |state, _| f(state))
    }

    /// How far the log has got.
    pub fn frontiers(&self) -> Frontiers {
        // From the oldest to the newest, so that what is read later can only be further on.
        let trimmed = self.shared.trimmed();
        let durable_end = self.durable().get();
        let visible_end = self.visible().get();
        let written_end = self.written().get();
        let appended_end = self.front.lock().staging.appended_end();
        Frontiers { trimmed, durable_end, written_end, appended_end, visible_end }
    }

    /// Where the log begins: the low watermark, which others may follow and wait for.
    ///
    /// Whoever sees it here can rely on three things. No crash brings back what lies below: both checkpoints name this
    /// beginning already. Reads that begin afterwards are refused below with [`ReadError::Trimmed`], and no pin is
    /// granted there. The files may still be there for a moment: their space is free once the trim has returned.
    /// Waiters are woken in the middle of a trim, before the files go.
    pub fn trimmed(&self) -> &Frontier {
        &self.shared.trimmed
    }

    /// End of what survives a power cut.
    pub fn durable(&self) -> &Frontier {
        &self.shared.durable
    }

    /// End of what survives the end of the process.
    pub fn written(&self) -> &Frontier {
        &self.shared.written
    }

    /// End of what may be read.
    pub fn visible(&self) -> &Frontier {
        self.shared.visible()
    }

    /// `bytes` of the log from `at` on, if they are visible and all still in memory: that memory itself, or a copy, as
    /// [`Options::tail_bytes`] says; less than 512 bytes are always copied. Takes no more than a short lock.
    pub fn read_hot(&self, at: PhysicalOffset, bytes: u32) -> Option<Bytes> {
        self.shared.read_hot(at, bytes)
    }

    /// `bytes` of the log from `at` on, from the segment's file, or from memory if they were read not long ago. Who goes
    /// on where it left off is read ahead of. Blocks: not for async threads.
    ///
    /// # Errors
    /// When they are not all visible, or cannot be read. Of a range that holds a damaged place the rest can be read.
    pub fn read_cold(&self, at: PhysicalOffset, bytes: u32) -> Result<Bytes, ReadError> {
        self.shared.read_cold(at, bytes)
    }

    /// The record whose header stands at exactly this offset, checked whole. May block: not for async threads.
    ///
    /// # Errors
    /// When no record of the log's user stands there, it is not visible, or cannot be read.
    pub fn record_at(&self, at: PhysicalOffset) -> Result<OwnedRecord, ReadError> {
        self.shared.record_at(at)
    }

    /// The visible groups from `from` on, which is where a group or a segment starts or a group ends. Each is
    /// checked whole, and against the one before. Blocks: not for async threads.
    pub fn scan(&self, from: PhysicalOffset) -> Scan<'_> {
        Scan::new(&self.shared, from)
    }

    /// The segments that hold groups, oldest first: from the first that was not trimmed to the newest that is written
    /// to. Kept in memory, and filled from the headers that an opening reads anyway.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments.list()
    }

    /// What came before the segment at `base`: the same for as long as the log lives, and in no other log, so that
    /// who keeps state as of `base` can tell later whether it belongs here. `None` when no segment of this log
    /// begins there, that is durable up to `base` and not trimmed. May block: not for async threads.
    ///
    /// # Errors
    /// When the segment's first group cannot be read.
    pub fn chain_at(&self, base: PhysicalOffset) -> Result<Option<ChainPoint>, ReadError> {
        self.shared.chain_at(base)
    }

    /// Gives up the segments that lie wholly below `to`, and returns where the log begins from now on: at the base of
    /// the segment that holds `to`, or where it has begun if that is further on. Whoever reads below is told so with
    /// [`ReadError::Trimmed`]; bytes that were read stay with whoever holds them.
    ///
    /// Once it returns, no crash brings the segments back. Needs no space on the disk. Blocks on it, for two flushes of
    /// the checkpoint and one of the directory: not for async threads. Files that an earlier trim could not remove
    /// are tried again.
    ///
    /// Pins do not stand in the way: whoever calls this has decided. [`Self::cut`] respects them.
    ///
    /// # Errors
    /// When `to` lies beyond the newest segment that holds something durable, the log has stopped, or files are in
    /// the way. If the checkpoint or the directory cannot be made durable, the log is poisoned.
    pub fn trim(&self, to: PhysicalOffset) -> Result<PhysicalOffset, TrimError> {
        self.shared.trim(to)
    }

    /// Where the log may begin by this policy, the pins, the clock and the disk's space, as things are. A question,
    /// which changes nothing. Asks the system for the disk's space if there is a watermark.
    pub fn cut(&self, retention: &Retention) -> Cut {
        self.shared.cut(retention)
    }

    /// As [`Self::cut`], for who has to do something before [`Self::trim`]: no pin is granted below from now until the
    /// next decision, so that what is about to go is not held any more.
    pub fn decide_cut(&self, retention: &Retention) -> Cut {
        self.shared.decide_cut(retention)
    }

    /// Gives up what this policy does not keep: [`Self::decide_cut`], then [`Self::trim`]. To be called every so often.
    ///
    /// # Errors
    /// As those of [`Self::trim`].
    pub fn apply_retention(&self, retention: &Retention) -> Result<Retained, TrimError> {
        self.shared.apply_retention(retention)
    }

    /// Holds everything from `from` on against trims by age and by size, for as long as the lease lasts; see
    /// [`Pin`]. `holder` says who it is, to a person. The place may lie ahead of the log's end.
    ///
    /// # Errors
    /// When the log begins behind `from` or is about to, the lease is too long, or there are too many pins.
    pub fn pin(&self, from: PhysicalOffset, lease: Duration, holder: &str) -> Result<Pin, PinError> {
        self.shared.pins.pin(from, lease, holder)
    }

    /// The pins that were granted and not dropped, in their order.
    pub fn pins(&self) -> Vec<PinInfo> {
        self.shared.pins.list()
    }

    /// Every epoch of the log that is still known, oldest first; the last one is this opening's.
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.shared.epochs.clone()
    }

    /// Up to where the segment in use is prepared: see [`Options::prepared_bytes`].
    pub fn prepared_end(&self) -> PhysicalOffset {
        self.shared.ground.filled_end()
    }

    /// The epoch of this opening.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// The log's identity.
    pub fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    /// Length of the log's segments.
    pub fn segment_bytes(&self) -> u64 {
        self.shared.segment_bytes
    }

    /// The first byte of the segment that holds `at`.
    pub fn segment_base(&self, at: PhysicalOffset) -> PhysicalOffset {
        at.align_down(self.shared.segment_bytes)
    }

    /// What a unit may take at most, with the 32-byte headers and the filling of its records.
    pub fn unit_bytes_max(&self) -> u64 {
        self.shared.unit_bytes_max
    }

    /// Refuses appends from now on. Once the writer has made everything durable it stores a clean checkpoint, and
    /// the log has stopped; [`Self::wait_stopped`] waits for that. Where the disk has no space for what is appended
    /// the log is poisoned instead.
    pub fn close(&self) {
        self.front.close();
        self.shared.writer_bell.ring();
    }

    /// Why the log has stopped, if it has.
    pub fn stopped(&self) -> Option<Stopped> {
        self.shared.stop.reason().cloned()
    }

    /// Sleeps until the log has stopped.
    pub fn wait_stopped(&self) -> Stopped {
        loop {
            // No log gets there, so only a stop ends this wait.
            if let Err(stopped) = self.durable().wait_blocking(PhysicalOffset::new(u64::MAX)) {
                return stopped;
            }
        }
    }
}

impl<T> Clone for CommitLog<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), front: Arc::clone(&self.front) }
    }
}

impl<T> fmt::Debug for CommitLog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitLog")
            .field("log_id", &self.shared.log_id)
            .field("durable", &self.shared.durable)
            .field("written", &self.shared.written)
            .finish_non_exhaustive()
    }
}
