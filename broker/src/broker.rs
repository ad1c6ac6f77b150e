//! The broker's shared state, and how it comes to be.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use skylark_index::{Index, QueueId, SealedError};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::message::UniqueKeys;
use skylark_protocol::message::properties;
use skylark_storage::clock::Clock;
use skylark_storage::device::{Files, Space};
use skylark_storage::{
    AppendError, CommitLog, Housekeeper, Kind, NewRecord, OpenError, Opened, Options, OwnFrontier,
    PhysicalOffset, ReadError, RecoveryReport, Writer,
};
use tracing::{error, info};

use crate::archivist::{Archive, ArchiveError, Archivist};
use crate::calls::Calls;
use crate::config::{Config, Identity, Policy, shown};
use crate::context::Refusal;
use crate::dispatch::{ApplyError, Dispatcher};
use crate::folds::groups::GroupPut;
use crate::folds::offsets::OffsetsReset;
use crate::folds::payload::Payload;
use crate::folds::topics::{TopicConfig, TopicPut};
use crate::folds::{Groups, Kv, LockOwners, OffsetsOverlay, Topics};
use crate::hosted::Hosted;
use crate::locks::QueueLocks;
use crate::membership::{ConnectionId, Membership};
use crate::parking::Parking;
use crate::progress::{CommitOrder, Progress};
use crate::readers::Readers;
use crate::retention::Retention;
use crate::snapshots::Snapshots;
use crate::stamp::Tentative;
use crate::state::{Restored, State, StateError};
use crate::statistics::Statistics;
use crate::system::{self, SystemTopics};
use crate::timers::TimerEngine;

/// Consumer offsets that changed are appended together this often.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// Parked pulls, silent members and expired locks are looked at this often.
pub const TICK: Duration = Duration::from_millis(100);

/// What every session, the dispatcher and the housekeeping share.
///
/// Each part has one writer, named beside it, or a lock of its own. Where two locks are needed they are taken in the
/// order of the fields, save `latest_change` and that of the timers' engine, which come before all others; membership and
/// parking are innermost.
pub struct Broker {
    /// Who this broker is.
    pub identity: Identity,
    /// What it does unasked.
    pub policy: Policy,
    /// What it was configured to, in RocketMQ's words: for the tools.
    pub shown_config: BTreeMap<&'static str, String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Topics and groups: written by the dispatcher.
    pub catalog: RwLock<Catalog>,
    /// Consume queues: written by the dispatcher.
    pub index: RwLock<Index>,
    /// Consumer offsets: commits are written by sessions, the fold beneath by the dispatcher.
    pub offsets: Mutex<Progress>,
    /// The log; its append lock owns the next queue offsets.
    pub log: CommitLog<Tentative>,
    /// Everything before it was applied by the dispatcher, which publishes it.
    pub applied: OwnFrontier,
    /// The end of the last group that changed a topic: published by the dispatcher.
    pub topics_changed: OwnFrontier,
    /// Topics put before it have been told to the nameservers: published by the registrar.
    pub registered: OwnFrontier,
    /// Who is connected.
    pub membership: Membership,
    /// Who may consume in order.
    pub locks: QueueLocks,
    /// Pulls that wait.
    pub parking: Parking,
    /// What clients were asked and have not answered.
    pub calls: Calls,
    /// Work that may wait for the disk.
    pub readers: Readers,
    /// Delivers delayed messages.
    pub timers: TimerEngine,
    /// What becomes of finished segments.
    pub archive: Archive,
    /// The nameserver inside.
    pub hosted: Hosted,
    /// How long messages are kept.
    pub retention: Retention,
    /// Where folding began at this start: at the newest snapshot.
    pub founded_on: PhysicalOffset,
    /// What is counted.
    pub statistics: Statistics,
    /// The system's own topics.
    pub system_topics: SystemTopics,
    /// Properties that every single message gets.
    pub added_properties: Box<[u8]>,
    /// Names for messages whose client gave none.
    pub unique_keys: UniqueKeys,
    files: Arc<dyn Files>,
    /// The end of the latest change of topics or groups, held while one is decided.
    latest_change: Mutex<PhysicalOffset>,
    commit_order: CommitOrder,
    connections: AtomicU64,
    picks: AtomicU32,
}

/// Topics and groups, with what is derived from a topic's queues.
#[derive(Default)]
pub struct Catalog {
    /// The fold of topics.
    pub topics: Topics,
    /// The fold of groups.
    pub groups: Groups,
    /// The fold of the owners of queue locks.
    pub lock_owners: LockOwners,
    /// The fold of what the nameserver inside was told.
    pub kv: Kv,
    queues: HashMap<Box<str>, Box<[QueueId]>, RandomState>,
}

impl Catalog {
    /// A catalog with the queues of all topics.
    pub fn new(topics: Topics, groups: Groups, lock_owners: LockOwners, kv: Kv, index: &mut Index) -> Self {
        let names: Vec<String> = topics.iter().map(|(topic, _)| topic.to_owned()).collect();
        let mut catalog = Self { topics, groups, lock_owners, kv, queues: HashMap::default() };
        names.iter().for_each(|topic| catalog.resolve(topic, index));
        catalog
    }

    /// The queues of a topic, by number.
    pub fn queues(&self, topic: &str) -> Option<&[QueueId]> {
        self.queues.get(topic).map(|queues| &**queues)
    }

    /// A topic's configuration and queues.
    pub fn topic(&self, topic: &str) -> Option<(&TopicConfig, &[QueueId])> {
        Some((self.topics.get(topic)?, self.queues(topic)?))
    }

    /// Derives the queues of a topic anew, after its configuration changed. A topic never has fewer queues than
    /// before: what lies in them stays readable by offset.
    pub fn resolve(&mut self, topic: &str, index: &mut Index) {
        let Some(config) = self.topics.get(topic) else {
            self.queues.remove(topic);
            return;
        };
        let known = self.queues.get(topic).map_or(0, |queues| queues.len());
        let count = usize::try_from(config.read_queues.max(config.write_queues)).unwrap_or(0).max(known);
        let queues =
            (0..count).map(|number| index.register(topic, u32::try_from(number).unwrap_or(u32::MAX)));
        let queues = queues.collect();
        self.queues.insert(topic.into(), queues);
    }
}

/// A broker that has recovered and folded its log, and the parts that its threads drive.
pub struct Running {
    /// The shared state.
    pub broker: Arc<Broker>,
    /// Applies durable groups.
    pub dispatcher: Dispatcher,
    /// Seals, snapshots and trims.
    pub archivist: Archivist,
    /// Writes groups.
    pub writer: Writer<Tentative>,
    /// Prepares segments and writes checkpoints.
    pub housekeeper: Housekeeper,
    /// What recovery found.
    pub recovery: RecoveryReport,
    /// The system's own topics and groups are there once the folds have applied everything before this.
    pub prepared: PhysicalOffset,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// What was computed from the log's beginning cannot be loaded.
    #[error("{0}")]
    State(#[from] StateError),
    /// The index of a segment cannot be written.
    #[error("a segment's index cannot be written: {0}")]
    Archive(#[from] ArchiveError),
    /// A record of the log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A record of the log cannot be applied.
    #[error("the log cannot be folded: {0}")]
    Apply(#[from] ApplyError),
    /// The system's own topics could not be appended.
    #[error("the first records cannot be appended: {0}")]
    Append(#[from] AppendError),
}

impl Broker {
    /// Opens the log, folds it, and appends what a new store needs. Nothing runs yet.
    ///
    /// # Errors
    /// When the store cannot be opened or its contents not be understood; what is durable is unchanged.
    pub fn open(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        config: &Config,
    ) -> Result<Running, StartError> {
        let options = Options {
            segment_bytes: config.segment_bytes,
            undurable_bytes_max: config.undurable_bytes_max,
            tail_bytes: config.tail_bytes,
            ..Options::default()
        };
        let Opened { log, writer, housekeeper, groups, recovery } =
            CommitLog::open(Arc::clone(&files), Arc::clone(&clock), options, Tentative::default())?;
        let mut snapshots = Snapshots::open(Arc::clone(&files)).map_err(StateError::from)?;
        let Restored { state, position: start, epoch } = State::restore(&log, &files, &mut snapshots)?;
        let identity = config.identity.clone();
        let policy = config.policy.clone();
        let auto_create_queues = policy.auto_create_topics.then_some(policy.default_topic_queues);
        let instance = log.epochs().last().map_or(0, |epoch| epoch.epoch.get());
        let store_ip = (*identity.store_host.ip()).into();
        let delay_levels = policy.delay_levels.count();
        let system_topics =
            SystemTopics::new(&identity.cluster, &identity.broker, auto_create_queues, delay_levels);
        let broker = Arc::new(Self {
            statistics: Statistics::new(clock.monotonic(), clock.wall_ms(), system_topics.clone()),
            system_topics,
            added_properties: added_properties(&identity).into(),
            unique_keys: UniqueKeys::new(store_ip, identity.store_host.port().into(), instance),
            shown_config: shown::config(config),
            identity,
            policy,
            clock,
            catalog: RwLock::new(state.catalog),
            index: RwLock::new(state.index),
            offsets: Mutex::new(Progress::from(state.offsets)),
            applied: OwnFrontier::new(start),
            topics_changed: OwnFrontier::new(start),
            registered: OwnFrontier::new(start),
            readers: Readers::default(),
            timers: TimerEngine::new(state.timers),
            archive: Archive::default(),
            hosted: Hosted::default(),
            retention: config.retention,
            founded_on: start,
            log,
            membership: Membership::default(),
            locks: QueueLocks::default(),
            parking: Parking::default(),
            calls: Calls::default(),
            files: Arc::clone(&files),
            latest_change: Mutex::new(start),
            commit_order: CommitOrder::default(),
            connections: AtomicU64::new(0),
            picks: AtomicU32::new(0),
        });
        let mut archivist = Archivist::new(Arc::clone(&broker), files, snapshots);
        let mut dispatcher = Dispatcher::new(Arc::clone(&broker), groups, state.heads, epoch);
        broker.fold(&mut dispatcher, &mut archivist)?;
        let prepared = broker.prepare()?;
        Ok(Running { broker, dispatcher, archivist, writer, housekeeper, recovery, prepared })
    }

    /// Folds what no snapshot covers, then tells the append lock where each queue goes on.
    fn fold(&self, dispatcher: &mut Dispatcher, archivist: &mut Archivist) -> Result<(), StartError> {
        let started = self.clock.monotonic();
        let mut records = 0;
        for group in self.log.scan(self.founded_on) {
            records += dispatcher.replay(&group?)?;
            // Of a long log that has no snapshots, memory must not hold all indexes.
            archivist.seal()?;
        }
        self.locks.restore(self.clock.monotonic(), &self.catalog.read().lock_owners);
        let mut index = self.index.write();
        let tentative = Tentative::rebuild(dispatcher.heads(), &mut index);
        self.log.with_state(|state| *state = tentative);
        drop(index);
        let elapsed_ms = (self.clock.monotonic() - started).as_millis();
        info!(records, elapsed_ms, "log folded");
        Ok(())
    }

    /// Appends the system's own topics and groups where they are missing.
    fn prepare(&self) -> Result<PhysicalOffset, StartError> {
        let changed = self.change(|catalog| {
            let known = |topic: &str| Some(catalog.topics.get(topic)?.write_queues);
            let topics = self.system_topics.to_put(known);
            let topics = topics.map(|(topic, config)| {
                ControlRecord::of(&TopicPut { topic: topic.to_owned(), config: config.clone() })
            });
            let groups =
                system::INITIAL_GROUPS.into_iter().filter(|group| catalog.groups.get(group).is_none());
            let groups = groups.map(|group| {
                ControlRecord::of(&GroupPut { group: group.to_owned(), config: system::initial_group() })
            });
            topics.chain(groups).collect()
        });
        match changed {
            Ok(end) => Ok(end.unwrap_or(self.applied.get())),
            Err(ChangeError::Refused(error)) => Err(error.into()),
            Err(ChangeError::Unsettled { until }) => Ok(until),
        }
    }

    /// Changes topics or groups: `decide` looks at the catalog and gives the records of the change, which become one
    /// append unit. Says before which position the folds must be for the change to hold; `None` if there is none.
    ///
    /// One change at a time: each decision is made on a catalog that has applied all changes before, so that making
    /// a topic for its first send cannot undo what an operator has just said about it.
    ///
    /// # Errors
    /// When an earlier change is still on its way, or the log takes no append.
    pub fn change(
        &self,
        decide: impl FnOnce(&Catalog) -> Vec<ControlRecord>,
    ) -> Result<Option<PhysicalOffset>, ChangeError> {
        let mut latest = self.latest_change.lock();
        if self.applied.get() < *latest {
            return Err(ChangeError::Unsettled { until: *latest });
        }
        let records = decide(&self.catalog.read());
        if records.is_empty() {
            return Ok(None);
        }
        *latest = self.append_control(&records)?;
        Ok(Some(*latest))
    }

    /// Appends a record of the broker's own state, and says where it ends.
    ///
    /// # Errors
    /// When the log does not take it.
    pub fn append_one<P: Payload>(&self, change: &P) -> Result<PhysicalOffset, AppendError> {
        self.append_control(&[ControlRecord::of(change)])
    }

    /// Moves a group in a topic, and says before which position the folds must be for the move to be complete. From
    /// now on commits of the group's consumers are not taken until they have gone where they are sent.
    ///
    /// # Errors
    /// When the log does not take it; nothing has changed.
    pub fn reset_offsets(&self, reset: OffsetsReset) -> Result<PhysicalOffset, AppendError> {
        let _order = self.commit_order.enter();
        let end = self.append_one(&reset)?;
        self.offsets.lock().reset(reset, end, self.applied.get());
        Ok(end)
    }

    /// Changes topics or groups as [`Broker::change`] does, in a way that makes offsets void: commits that wait for
    /// their turn must not follow it into the log, so `forget` drops them.
    ///
    /// # Errors
    /// As for [`Broker::change`].
    pub fn delete(
        &self,
        decide: impl FnOnce(&Catalog) -> Vec<ControlRecord>,
        forget: impl FnOnce(&mut OffsetsOverlay),
    ) -> Result<Option<PhysicalOffset>, ChangeError> {
        let _order = self.commit_order.enter();
        let changed = self.change(decide);
        if let Ok(Some(_)) = changed {
            forget(self.offsets.lock().overlay());
        }
        changed
    }

    fn append_control(&self, records: &[ControlRecord]) -> Result<PhysicalOffset, AppendError> {
        let payloads: Vec<[&[u8]; 1]> = records.iter().map(|record| [&*record.payload]).collect();
        let record = |(record, rest): (&ControlRecord, _)| NewRecord { kind: record.kind, head: &[], rest };
        let unit: Vec<_> = records.iter().zip(payloads.iter().map(|rest| &rest[..])).map(record).collect();
        Ok(self.log.append(&unit, |_, _, _| {})?.end)
    }

    /// A name for a connection.
    pub fn next_connection(&self) -> ConnectionId {
        // Relaxed: only uniqueness matters.
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that differs from call to call, to spread messages over queues.
    pub fn any(&self) -> u32 {
        // Relaxed: only the spread matters.
        self.picks.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether members of a group want to hear of changes.
    pub fn notifies(&self, group: &str) -> bool {
        self.catalog.read().groups.get(group).is_none_or(|group| group.notify_members)
    }

    /// A connection is gone.
    pub fn disconnected(&self, connection: ConnectionId) {
        self.parking.disconnect(connection);
        self.calls.disconnect(connection);
        self.membership.disconnect(connection, |group| self.notifies(group));
    }

    /// Reads a record, or part of the log, from disk. Blocks.
    ///
    /// # Errors
    /// When the bytes cannot be read, or are not acknowledged.
    pub fn read_cold(&self, at: PhysicalOffset, bytes: u32) -> Result<Bytes, Refusal> {
        self.log
            .read_cold(at, bytes)
            .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))
    }

    /// Why a question to index files is refused. A file that is damaged or gone is built again meanwhile.
    pub fn unreadable(&self, error: &SealedError) -> Refusal {
        let code = match error {
            SealedError::Missing { .. } => ResponseCode::SYSTEM_BUSY,
            SealedError::Damaged { base, .. } => {
                error!(%error, "it is built again from the log");
                self.index.write().discard(*base);
                ResponseCode::SYSTEM_BUSY
            }
            _ => ResponseCode::SYSTEM_ERROR,
        };
        self.archive.ring();
        Refusal::new(code, error.to_string())
    }

    /// How much room the disk under the log has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn disk_space(&self) -> io::Result<Space> {
        self.files.space()
    }

    /// What has to happen every [`TICK`]: wakes pulls and ends calls whose time is over, drops silent members and expired locks.
    pub fn tick(&self) {
        let now = self.clock.monotonic();
        self.parking.expire(now);
        self.calls.expire(now);
        self.membership.expire(now);
        self.locks.sweep(now, |change| self.append_one(change));
        let (visible, applied) = (self.log.visible().get().get(), self.applied.get().get());
        self.statistics.behind(visible.saturating_sub(applied));
        self.statistics.sample(now, self.clock.wall_ms());
    }

    /// What has to happen every [`COMMIT_INTERVAL`]: makes the offsets that consumers have committed durable.
    ///
    /// # Errors
    /// As for an append; the offsets stay dirty and are tried again.
    pub fn commit_offsets(&self) -> Result<(), AppendError> {
        loop {
            let _order = self.commit_order.enter();
            let Some(record) = self.offsets.lock().overlay().take_dirty(COMMITS_MAX) else { return Ok(()) };
            match self.append_one(&record) {
                Ok(end) => self.offsets.lock().overlay().appended(end),
                Err(error) => {
                    self.offsets.lock().overlay().put_back();
                    return Err(error);
                }
            }
        }
    }
}

/// A record of the broker's own state, ready to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// One of [`crate::folds::kinds`].
    pub kind: Kind,
    /// A version byte, and what that version says.
    pub payload: Vec<u8>,
}

impl ControlRecord {
    /// The record that says this.
    pub fn of<P: Payload>(change: &P) -> Self {
        Self { kind: P::KIND, payload: change.encode() }
    }
}

/// Why a change was not begun. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// An earlier change has to be applied first.
    #[error("a change before {until} is not applied yet")]
    Unsettled {
        /// Before which position it is.
        until: PhysicalOffset,
    },
    /// The log does not take it.
    #[error("{0}")]
    Refused(#[from] AppendError),
}

/// Offsets in one record, at most: a record must stay well below what a group can hold.
const COMMITS_MAX: usize = 10_000;

/// What RocketMQ's broker adds to a message.
fn added_properties(identity: &Identity) -> Vec<u8> {
    let mut added = Vec::new();
    properties::write(properties::CLUSTER, &identity.cluster, &mut added);
    properties::write(properties::MSG_REGION, system::REGION, &mut added);
    properties::write(properties::TRACE_ON, "true", &mut added);
    added
}
