//! The RocketMQ nameserver: which brokers there are, and which topics they have.
//!
//! ```text
//!  brokers ──103 every 30 s──► ┌────────────┐ ◄──105── clients
//!          ──connection ends─► │ NameServer │ ◄──106, 206, …── tools
//!          time ──tick───────► └────────────┘
//! ```
//!
//! | to change…                                     | open           |
//! |------------------------------------------------|----------------|
//! | which brokers are known and for how long       | `brokers`      |
//! | what a registration does to the topics' routes | `routes`       |
//! | key–value configuration                        | `kv`           |
//! | how it is kept                                 | `journal`, `file_journal` |
//! | what can be configured while it runs           | `settings`     |
//! | which request is answered how                  | `handlers`     |
//! | what happens when a connection ends            | `session`      |
//!
//! Promise: a route names a broker only while its connection stands or its last sign of life is younger than it
//! asked for. All of that is soft state, told again by brokers every 30 seconds; nameservers do not know of each
//! other. Key–value configuration is what operators have told, so it is recorded before it is answered. The crate
//! opens no socket and reads no clock: a transport feeds its sessions, whoever owns it calls
//! [`NameServer::tick`].

mod brokers;
mod file_journal;
mod handlers;
mod journal;
mod kv;
mod routes;
mod session;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use skylark_protocol::command::kv::ORDER_TOPIC_CONFIG;
use skylark_protocol::command::route::TopicRouteData;

use crate::brokers::Connection;
use crate::kv::{Kv, KvFull};
use crate::routes::Routes;
use crate::settings::Switch;

pub use file_journal::{FileJournal, OpenError};
pub use journal::{JournalError, KvJournal, Pending, Recorded};
pub use kv::{KvChange, KvTables};
pub use session::NameServerService;

/// Where sessions get the time from: how long ago some fixed moment was. It never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How often to call [`NameServer::tick`].
pub const TICK_INTERVAL: Duration = Duration::from_secs(5);

/// The state of a nameserver. One is shared by all its sessions.
pub struct NameServer {
    /// Locked before the state, so that changes come into effect in the order they are recorded in.
    journal: Mutex<Option<Box<dyn KvJournal>>>,
    state: RwLock<State>,
    /// What code 319 tells.
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    routes: Routes,
    kv: Kv,
}

/// A broker that is no longer known, because it gave no sign of life for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its cluster.
    pub cluster: String,
    /// Its address.
    pub address: String,
}

/// Why the key–value configuration was not changed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Full(#[from] KvFull),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServer").field("state", &self.state).finish_non_exhaustive()
    }
}

impl NameServer {
    /// A nameserver that knows nobody yet, and keeps key–value configuration in memory only. `properties` are
    /// told, beside what holds for every one, to tools that ask for the configuration (code 319).
    pub fn new(properties: impl IntoIterator<Item = (String, String)>) -> Self {
        let fixed =
            handlers::FIXED_PROPERTIES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            journal: Mutex::default(),
            state: RwLock::default(),
            properties: fixed.chain(properties).collect(),
        }
    }

    /// From now on changes of the key–value configuration go to this journal.
    pub fn set_journal(&self, journal: Box<dyn KvJournal>) {
        *self.journal.lock() = Some(journal);
    }

    /// Takes over the key–value configuration that a journal has, in place of the one in effect.
    pub fn restore_kv(&self, tables: KvTables) {
        self.state.write().kv = Kv::new(tables);
    }

    /// Makes a change that a journal has recorded.
    pub fn apply_kv(&self, change: &KvChange) {
        self.state.write().kv.apply(change);
    }

    /// The key–value configuration in effect.
    pub fn kv(&self) -> KvTables {
        self.state.read().kv.tables().clone()
    }

    /// Records a change and, unless its journal does that later, makes it.
    fn change_kv(&self, change: &KvChange) -> Result<Recorded, Refused> {
        let mut journal = self.journal.lock();
        self.state.write().kv.reserve(change)?;
        let recorded = journal.as_mut().map_or(Ok(Recorded::Now), |journal| journal.record(change));
        match recorded {
            Ok(Recorded::Now) => self.apply_kv(change),
            Ok(Recorded::Later(_)) => {}
            Err(_) => self.state.write().kv.release(change),
        }
        Ok(recorded?)
    }

    /// Where a topic is, as code 105 tells it.
    pub fn route_of(&self, topic: &str) -> Option<TopicRouteData> {
        let state = self.state.read();
        let mut route = state.routes.route(topic)?;
        if state.is_on(Switch::OrderMessages) {
            route.order_topic_conf = state.kv.get(ORDER_TOPIC_CONFIG, topic).map(str::to_owned);
        }
        Some(route)
    }

    /// Forgets brokers that gave no sign of life for too long, and ends their connections.
    pub fn tick(&self, now: Duration) -> Vec<Expired> {
        self.state.write().routes.expire(now)
    }

    /// Forgets the brokers whose last registration came by this connection; tells their clusters and addresses.
    fn forget(&self, connection: &Connection) -> Vec<(String, String)> {
        self.state.write().routes.forget(connection)
    }
}
