//! The archivist: what becomes of a segment once the log has gone on to the next.
//!
//! ```text
//!  segment finished ──► index file ──► snapshot, read back ──► … age, size, disk ──► timers carried on ──► trimmed
//! ```
//!
//! One thread, which may wait for the disk and holds no lock while it does. What fails is tried again; nothing that
//! it does is needed for what is acknowledged, except that it keeps the disk from filling up.
//!
//! What keeps retention from getting on, and for how long:
//! - an index file that cannot be written: not at all. Where trims wait for a snapshot it is stored without the file,
//!   which a restart builds from the log; a segment that is to go does not need one any more;
//! - an index file that was lost and cannot be built again: for as long. It alone says which delayed messages wait in
//!   its segment;
//! - a snapshot that cannot be stored: at the older of the two that there are, until one can. Behind it the log is the
//!   only one that knows what happened, and giving that up would lose what was acknowledged;
//! - pins: until they expire, or the disk is too full;
//! - delayed messages, and half messages of open transactions: for as long as the log does not take them again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use skylark_index::{Entry, Extras, PushError, RebuildError, SealedError, remove_below};
use skylark_protocol::message::MessageError;
use skylark_storage::device::Files;
use skylark_storage::retention::Cut;
use skylark_storage::{PhysicalOffset, PinInfo, ReadError, TrimError};
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::folds::kinds;
use crate::indexing::indexed;
use crate::refusal;
use crate::snapshots::{Snapshot, Snapshots};
use crate::timers::{Carried, CarryError};

/// Age, size and disk are looked at this often.
const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// The disk's space is asked for this often.
const SPACE_EVERY: Duration = Duration::from_secs(1);
/// What failed is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What others leave for the archivist, and what it tells them.
#[derive(Default)]
pub struct Archive {
    orders: Mutex<Orders>,
    bell: Condvar,
    /// Why sends are refused, if the disk is too full for them, or memory.
    refusal: RwLock<Option<Arc<str>>>,
    /// Whether there is such a reason: every send asks, and takes no lock while there is none.
    refuses: AtomicBool,
}

#[derive(Default)]
struct Orders {
    /// The newest snapshot that was taken and not stored yet.
    snapshot: Option<Snapshot>,
    /// Somebody asked for what retention does not keep to go at once.
    clean: bool,
    rung: bool,
    closed: bool,
}

impl Archive {
    /// A snapshot was taken. It takes the place of an older one that was not stored yet.
    pub fn offer(&self, snapshot: Snapshot) {
        self.orders.lock().snapshot = Some(snapshot);
        self.ring();
    }

    /// Retention is to be looked at now.
    pub fn clean(&self) {
        self.orders.lock().clean = true;
        self.ring();
    }

    /// There may be something to do.
    pub fn ring(&self) {
        self.orders.lock().rung = true;
        self.bell.notify_one();
    }

    /// Lets [`Archivist::run`] return.
    pub fn close(&self) {
        self.orders.lock().closed = true;
        self.bell.notify_one();
    }

    /// Why sends are refused, if the disk is too full for them, or memory is.
    pub fn refusal(&self) -> Option<Arc<str>> {
        // Relaxed: a send that sees it late is one of those before.
        if !self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        self.refusal.read().clone()
    }

    fn set_refusal(&self, why: Option<String>) {
        let mut refusal = self.refusal.write();
        match (&why, &*refusal) {
            (Some(why), None) => error!(why, "sends are refused"),
            (None, Some(_)) => info!("sends are taken again"),
            _ => {}
        }
        *refusal = why.map(Into::into);
        self.refuses.store(refusal.is_some(), Ordering::Relaxed);
    }

    /// Waits for the bell, but not for ever; says whether to go on.
    fn wait(&self) -> bool {
        let mut orders = self.orders.lock();
        if !orders.rung && !orders.closed {
            self.bell.wait_for(&mut orders, SPACE_EVERY);
        }
        orders.rung = false;
        !orders.closed
    }
}

/// Seals, snapshots, trims.
pub struct Archivist {
    broker: Arc<Broker>,
    files: Arc<dyn Files>,
    snapshots: Snapshots,
    /// When what has to be done every so often is due again.
    retention_at: Duration,
    space_at: Duration,
    /// After a failure nothing is tried before this.
    retry_at: Duration,
    /// Behind the delayed messages that were appended again for the next trim.
    carried_to: Option<PhysicalOffset>,
    /// The next trim gives up less than it seems: some of it was appended again.
    has_carried: bool,
    /// Before this, a full disk is no reason for another trim.
    patient_until: Duration,
    /// Why a segment has no index file yet, if that failed.
    unsealed: Option<io::Error>,
    /// What keeps segments that should go, so that it is reported once.
    held_back: Option<PinInfo>,
}

/// Why something was not done this time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The disk refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The log cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// An index file cannot be read.
    #[error("{0}")]
    Sealed(#[from] SealedError),
    /// The log was not trimmed.
    #[error("{0}")]
    Trim(#[from] TrimError),
    /// A segment is not there any more.
    #[error("{0}")]
    Rebuild(#[from] RebuildError),
    /// A record that was indexed once cannot be indexed again.
    #[error("the record at {at} cannot be indexed: {cause}")]
    Message {
        /// Where it lies.
        at: PhysicalOffset,
        /// What is wrong with it.
        cause: MessageError,
    },
    /// A record that was indexed once cannot be indexed again.
    #[error("the record at {at} cannot be indexed: {cause}")]
    Push {
        /// Where it lies.
        at: PhysicalOffset,
        /// What is wrong with it.
        cause: PushError,
    },
}

impl Archivist {
    /// An archivist for a broker that was restored from these snapshots.
    pub fn new(broker: Arc<Broker>, files: Arc<dyn Files>, snapshots: Snapshots) -> Self {
        Self {
            broker,
            files,
            snapshots,
            retention_at: Duration::ZERO,
            space_at: Duration::ZERO,
            retry_at: Duration::ZERO,
            carried_to: None,
            has_carried: false,
            patient_until: Duration::ZERO,
            unsealed: None,
            held_back: None,
        }
    }

    /// Works until [`Archive::close`].
    pub fn run(mut self) {
        let broker = Arc::clone(&self.broker);
        while broker.archive.wait() {
            while self.step() {
                // One unit of delayed messages at a time, so that senders keep their room.
                if let Some(end) = self.carried_to.take()
                    && broker.applied.wait_blocking(end).is_err()
                {
                    return;
                }
            }
        }
    }

    /// Does one thing that is due; says whether there was one.
    pub fn step(&mut self) -> bool {
        let now = self.broker.clock.monotonic();
        if now >= self.space_at {
            self.space_at = now + SPACE_EVERY;
            self.look_at_space(now);
        }
        if now < self.retry_at || self.broker.log.stopped().is_some() {
            return false;
        }
        match self.work(now) {
            Ok(worked) => worked,
            Err(error) => {
                self.retry_at = now + RETRY_AFTER;
                error!(%error, "sealing, snapshots or retention failed; this is tried again");
                if let ArchiveError::Sealed(error) = &error {
                    // One that is damaged is built again.
                    self.broker.unreadable(error);
                }
                false
            }
        }
    }

    fn work(&mut self, now: Duration) -> Result<bool, ArchiveError> {
        let kept = self.keep();
        if let Ok(true) = kept {
            return Ok(true);
        }
        // What needs space must not hold up what gives it back.
        let asked = std::mem::take(&mut self.broker.archive.orders.lock().clean);
        if now < self.retention_at && !asked {
            return kept;
        }
        self.retention_at = now + RETENTION_EVERY;
        let trimmed = self.trim(now)?;
        if trimmed { Ok(true) } else { kept }
    }

    /// Makes of finished segments what is kept of them: one thing at a time.
    fn keep(&mut self) -> Result<bool, ArchiveError> {
        match self.index() {
            // A snapshot that is stored once they all have their files spares a restart to build them.
            Ok(false) => self.store_snapshot(),
            Ok(true) => Ok(true),
            // But trims wait for snapshots, and must not wait for these files.
            Err(error) => {
                if self.is_held_up_by_snapshots() {
                    self.store_snapshot()?;
                }
                Err(error)
            }
        }
    }

    /// Sees to it that every finished segment has its index file: one at a time.
    fn index(&mut self) -> Result<bool, ArchiveError> {
        Ok(self.seal()? || self.rebuild()? || self.raise_minima()?)
    }

    /// Writes the index of the oldest finished segment to its file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn seal(&mut self) -> Result<bool, ArchiveError> {
        let Some(unsealed) = self.broker.index.read().unsealed() else { return Ok(false) };
        match unsealed.write(&self.files, self.broker.log.log_id()) {
            Ok(sealed) => {
                self.broker.index.write().attach(sealed);
                self.unsealed = None;
                Ok(true)
            }
            Err(error) => {
                let said = io::Error::new(error.kind(), error.to_string());
                self.unsealed = Some(said);
                Err(error.into())
            }
        }
    }

    /// Builds a missing index file from the log.
    fn rebuild(&mut self) -> Result<bool, ArchiveError> {
        let Some(base) = self.broker.index.read().missing().first().copied() else { return Ok(false) };
        let started = self.broker.clock.monotonic();
        let log = &self.broker.log;
        let plan = self.broker.index.write().rebuild(base)?;
        let mut rebuild = plan.begin()?;
        let mut keys = Vec::new();
        for group in log.scan(base) {
            let group = group?;
            if log.segment_base(group.start) != base {
                break;
            }
            for (at, record) in group.records() {
                if !kinds::is_message(record.header.fields().kind) {
                    continue;
                }
                keys.clear();
                let message = indexed(at, &record, &mut keys);
                let message = message.map_err(|cause| ArchiveError::Message { at, cause })?;
                let extras = Extras { keys: &keys, due: message.due };
                let pushed = rebuild.push(message.topic, message.queue, message.entry, extras);
                pushed.map_err(|cause| ArchiveError::Push { at, cause })?;
                for (name, queue_offset) in message.light {
                    let entry = Entry { queue_offset, ..message.entry };
                    let pushed = rebuild.push(name, 0, entry, Extras { keys: &[], due: None });
                    pushed.map_err(|cause| ArchiveError::Push { at, cause })?;
                }
            }
        }
        let sealed = rebuild.write(&self.files, log.log_id())?;
        self.broker.index.write().attach(sealed);
        let elapsed_ms = (self.broker.clock.monotonic() - started).as_millis();
        info!(segment = base.get(), elapsed_ms, "index file built again");
        Ok(true)
    }

    /// Finds out where queues begin, if a restart could not because the files of segments that are gone were missing:
    /// those that are left tell it too, once all of them are there.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn raise_minima(&mut self) -> Result<bool, ArchiveError> {
        let plan = {
            let index = self.broker.index.read();
            if !index.missing().is_empty() {
                return Ok(false);
            }
            index.trim_plan(PhysicalOffset::ZERO)
        };
        let Some(plan) = plan else { return Ok(false) };
        let trim = plan.read()?;
        self.broker.index.write().trim(trim);
        Ok(true)
    }

    /// Whether more would be trimmed if there were newer snapshots.
    fn is_held_up_by_snapshots(&self) -> bool {
        let wanted = self.broker.log.cut(&self.broker.retention).to;
        wanted.is_some_and(|wanted| self.snapshots.trim_limit().is_none_or(|limit| limit < wanted))
    }

    /// Stores the newest snapshot.
    fn store_snapshot(&mut self) -> Result<bool, ArchiveError> {
        let Some(snapshot) = self.broker.archive.orders.lock().snapshot.take() else { return Ok(false) };
        let stored = self.snapshots.write(&snapshot);
        if let Err(error) = stored {
            // Unless a newer one has come meanwhile.
            self.broker.archive.orders.lock().snapshot.get_or_insert(snapshot);
            return Err(error.into());
        }
        info!(position = snapshot.head.position.get(), "snapshot stored");
        Ok(true)
    }

    /// Gives up what is not kept any longer, as far as the snapshots allow: one segment, so that nobody waits for long.
    fn trim(&mut self, now: Duration) -> Result<bool, ArchiveError> {
        let broker = &*self.broker;
        let Cut { to: wanted, held_back, .. } = broker.log.decide_cut(&broker.retention);
        let holder = held_back.map(|held_back| held_back.by);
        if let Some(PinInfo { holder, from, .. }) = &holder
            && self.held_back.as_ref().is_none_or(|known| known.holder != *holder)
        {
            warn!(%holder, from = from.get(), "retention waits for a pin");
        }
        self.held_back = holder;
        let (Some(wanted), Some(limit)) = (wanted, self.snapshots.trim_limit()) else { return Ok(false) };
        let segments = broker.log.segments();
        let next = segments.get(1).map_or(PhysicalOffset::ZERO, |second| second.base);
        if next > wanted.min(limit) {
            return Ok(false);
        }
        let timers = || broker.timers.carry_forward(broker, next);
        let carries: [&dyn Fn() -> Result<Carried, CarryError>; 2] =
            [&timers, &|| broker.transactions.carry_forward(broker, next)];
        for carry in carries {
            match carry() {
                Ok(Carried::Some { end }) => {
                    (self.carried_to, self.has_carried) = (Some(end), true);
                    self.retention_at = Duration::ZERO;
                    return Ok(true);
                }
                Ok(Carried::All { end }) if broker.applied.get() < end => {
                    self.retention_at = Duration::ZERO;
                    return Ok(false);
                }
                Ok(Carried::All { .. }) => {}
                Err(error) => {
                    warn!(%error, "the log's old end has to wait for delayed or half messages that are to be kept");
                    return Ok(false);
                }
            }
        }
        // First nobody is led there any more, then it goes. What has no index file by now needs none.
        broker.index.write().abandon_unsealed(next);
        loop {
            // Not as the loop's condition, where the guard would live on.
            let plan = broker.index.read().trim_plan(next);
            let Some(plan) = plan else { break };
            let trim = plan.read()?;
            broker.index.write().trim(trim);
        }
        let trimmed = broker.log.trim(next)?;
        // A snapshot from before the trim does not know of it, but the index file does.
        if let Some(needed) = self.snapshots.older_oldest_segment() {
            remove_below(&*self.files, needed)?;
        }
        info!(from = trimmed.get(), "the log begins later: retention");
        // The rest of it comes at once; but where the log is full of what waits, trims must not chase their own tail.
        if std::mem::take(&mut self.has_carried) {
            self.patient_until = now + RETENTION_EVERY;
        } else {
            self.retention_at = Duration::ZERO;
        }
        Ok(true)
    }

    fn look_at_space(&mut self, now: Duration) {
        let broker = &*self.broker;
        let space = match self.files.space() {
            Ok(space) => space,
            Err(error) => return warn!(%error, "how full the disk is cannot be found out"),
        };
        let pending_max = space.total_bytes / 100 * u64::from(broker.policy.pending_disk_percent);
        broker.timers.limit_pending(pending_max);
        let used_percent = space.used_percent();
        let is_tight = |clean_percent| used_percent > f64::from(clean_percent);
        if broker.retention.clean_percent.is_some_and(is_tight) && now >= self.patient_until {
            // Senders may fill what is left before retention's turn comes.
            self.retention_at = now;
        }
        let by_space = refusal::by_space(&self.files.describe(), broker.policy.disk_refuse_percent, space);
        let unsealed_count = broker.index.read().unsealed_count();
        let by_unsealed = || refusal::by_unsealed(unsealed_count, self.unsealed.as_ref());
        broker.archive.set_refusal(by_space.or_else(by_unsealed));
    }
}
