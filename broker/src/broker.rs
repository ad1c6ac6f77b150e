//! The broker's shared state, and how it comes to be.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use skylark_index::{Index, SealedError};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::message::UniqueKeys;
use skylark_protocol::message::properties;
use skylark_storage::clock::Clock;
use skylark_storage::device::{Files, Space};
use skylark_storage::segment::segment_name;
use skylark_storage::{
    AppendError, CommitLog, Housekeeper, OpenError, Opened, Options, OwnFrontier, PhysicalOffset, ReadError,
    RecoveryReport, Retention, Writer,
};
use tracing::{error, info, warn};

use crate::archivist::{Archive, Archivist};
use crate::audit::Audit;
use crate::calls::Calls;
use crate::catalog::Catalog;
use crate::changes::{ChangeError, ControlRecord};
use crate::config::{Config, Identity, Policy, shown};
use crate::context::Refusal;
use crate::dead_letters::DeadLetterDesk;
use crate::dispatch::{ApplyError, Dispatcher};
use crate::folds::groups::GroupPut;
use crate::folds::topics::TopicPut;
use crate::hosted::Hosted;
use crate::light::LightQueues;
use crate::locks::QueueLocks;
use crate::membership::{ConnectionId, Membership};
use crate::parking::Parking;
use crate::pops::PopEngine;
use crate::progress::{CommitOrder, Progress};
use crate::quotas::Quotas;
use crate::readers::Readers;
use crate::selection::Filters;
use crate::snapshots::Snapshots;
use crate::stamp::Tentative;
use crate::state::{Restored, State, StateError};
use crate::statistics::Statistics;
use crate::suppression::Suppression;
use crate::system::{self, SystemTopics};
use crate::timers::TimerEngine;
use crate::transactions::Transactions;
use crate::watchdog::Watchdog;

/// Consumer offsets that changed are appended together this often.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// Parked pulls, silent members and expired locks are looked at this often.
pub const TICK: Duration = Duration::from_millis(100);

/// What every session, the dispatcher and the housekeeping share.
///
/// Each part has one writer, named beside it, or a lock of its own; the order in which locks may be taken is written
/// in ARCHITECTURE.md.
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
    /// What SQL92 expressions are compiled to.
    pub filters: Filters,
    /// Pulls that wait.
    pub parking: Parking,
    /// What clients were asked and have not answered.
    pub calls: Calls,
    /// Work that may wait for the disk.
    pub readers: Readers,
    /// Delivers delayed messages.
    pub timers: TimerEngine,
    /// Open transactions.
    pub transactions: Transactions,
    /// What was popped, and who waits for more.
    pub pops: PopEngine,
    /// Looks for queues that nobody is at.
    pub watchdog: Watchdog,
    /// Who moved which offset.
    pub audit: Audit,
    /// What becomes of dead letters.
    pub dead_letters: DeadLetterDesk,
    /// What producers have sent lately.
    pub suppression: Suppression,
    /// Messages that lie in many queues.
    pub light: LightQueues,
    /// What topics and groups took of what they may in a second.
    pub quotas: Quotas,
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
    pub(crate) latest_change: Mutex<PhysicalOffset>,
    pub(crate) commit_order: CommitOrder,
    connections: AtomicU64,
    picks: AtomicU32,
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
    /// A record of the log cannot be read.
    #[error(
        "the log cannot be read at byte {position} of {file}: {error}; restore the file from a backup or a replica"
    )]
    Read {
        /// The file, in the data directory.
        file: String,
        /// Where in the file.
        position: u64,
        /// What is wrong there.
        error: ReadError,
    },
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
            visibility: config.flush,
            ..Options::default()
        };
        let Opened { log, writer, housekeeper, groups, recovery } =
            CommitLog::open(Arc::clone(&files), Arc::clone(&clock), options, Tentative::default())?;
        // Before anything is read again: the fold may fail there.
        for unreadable in &recovery.unreadable {
            warn!(file = unreadable.file, "the disk cannot read {unreadable}: what lies there is not served");
        }
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
        let system_topics = if policy.trace_topic { system_topics.with_traces() } else { system_topics };
        let broker = Arc::new(Self {
            watchdog: Watchdog::new(clock.monotonic()),
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
            filters: Filters::default(),
            readers: Readers::default(),
            timers: TimerEngine::new(state.timers),
            transactions: Transactions::new(state.halves, config.policy.transactions),
            pops: PopEngine::new(state.pops),
            audit: Audit::new(state.trail, config.policy.audit),
            dead_letters: DeadLetterDesk::new(state.dead_letters, start),
            suppression: Suppression::new(state.duplicates, log.log_id()),
            light: LightQueues::default(),
            quotas: Quotas::default(),
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
        let (mut records, mut seals) = (0, true);
        for group in self.log.scan(self.founded_on) {
            records += dispatcher.replay(&group.map_err(|error| self.unread(error))?)?;
            // Of a long log that has no snapshots, memory must not hold all indexes. But a disk without space must
            // not keep a broker from starting.
            if seals && let Err(error) = archivist.seal() {
                warn!(%error, "indexes stay in memory for now");
                seals = false;
            }
        }
        self.locks.restore(self.clock.monotonic(), &self.catalog.read().lock_owners);
        self.pops.restore(self.applied.get());
        self.suppression.restore();
        let mut index = self.index.write();
        let tentative = Tentative::rebuild(dispatcher.heads(), &mut index);
        self.log.with_state(|state| *state = tentative);
        drop(index);
        let elapsed_ms = (self.clock.monotonic() - started).as_millis();
        info!(records, elapsed_ms, "log folded");
        Ok(())
    }

    /// Says in which file the log cannot be read.
    fn unread(&self, error: ReadError) -> StartError {
        let at = error.at();
        let base = at.align_down(self.log.segment_bytes());
        StartError::Read { file: segment_name(base), position: at.since(base), error }
    }

    /// Appends the system's own topics and groups where they are missing, and what folds have to know of the
    /// configuration.
    fn prepare(&self) -> Result<PhysicalOffset, StartError> {
        let limits = self.policy.duplicate_window;
        let limits = (self.suppression.folded.lock().limits() != limits).then(|| ControlRecord::of(&limits));
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
            topics.chain(groups).chain(limits).collect()
        });
        match changed {
            Ok(end) => Ok(end.unwrap_or(self.applied.get())),
            Err(ChangeError::Refused(error)) => Err(error.into()),
            Err(ChangeError::Unsettled { until }) => Ok(until),
        }
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
        self.pops.polling.disconnect(connection);
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

    /// The payload of the record at this place, checked. Blocks.
    ///
    /// # Errors
    /// When there is none, it is damaged, cannot be read, or is not acknowledged.
    pub fn record_at(&self, at: PhysicalOffset) -> Result<Bytes, Refusal> {
        let record = self.log.record_at(at);
        record.map(|record| record.payload()).map_err(|error| {
            error!(%error, "a message cannot be read");
            Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string())
        })
    }

    /// Why a question to index files is refused. A file that is damaged or gone is built again meanwhile.
    pub fn unreadable(&self, error: &SealedError) -> Refusal {
        let code = match error {
            SealedError::Damaged { base, .. } | SealedError::Missing { base } => {
                error!(%error, "it is built again from the log");
                self.index.write().discard(*base);
                ResponseCode::SYSTEM_BUSY
            }
            _ => ResponseCode::SYSTEM_ERROR,
        };
        self.archive.ring();
        Refusal::new(code, error.to_string())
    }

    /// Where the data directory is, for messages to a person.
    pub fn directory(&self) -> String {
        self.files.describe()
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
        self.pops.polling.expire(now);
        self.calls.expire(now);
        self.membership.expire(now);
        self.locks.sweep(now, |change| self.append_one(change));
        let (visible, applied) = (self.log.visible().get().get(), self.applied.get().get());
        self.statistics.behind(visible.saturating_sub(applied));
        self.statistics.sample(now, self.clock.wall_ms());
        self.watchdog.step(self);
    }
}

/// What RocketMQ's broker adds to a message.
fn added_properties(identity: &Identity) -> Vec<u8> {
    let mut added = Vec::new();
    properties::write(properties::CLUSTER, &identity.cluster, &mut added);
    properties::write(properties::MSG_REGION, system::REGION, &mut added);
    properties::write(properties::TRACE_ON, "true", &mut added);
    added
}
