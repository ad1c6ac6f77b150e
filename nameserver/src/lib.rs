//! The RocketMQ nameserver: which brokers there are, and which topics they have.
//!
//! ```text
//!  brokers ──103 every 30 s──► ┌────────────┐ ◄──105── clients
//!          ──connection ends─► │ NameServer │ ◄──106, 206, …── tools
//!          time ──tick───────► └────────────┘
//! ```
//!
//! | to change…                                      | open       |
//! |-------------------------------------------------|------------|
//! | which brokers are known and for how long         | `brokers`  |
//! | what a registration does to the topics' routes   | `routes`   |
//! | key–value configuration                          | `kv`       |
//! | which request is answered how                    | `handlers` |
//! | what happens when a connection ends              | `session`  |
//!
//! Promise: a route names a broker only while its connection stands or its last sign of life is younger than it
//! asked for. Everything is soft state, told again by brokers every 30 seconds; nameservers do not know of each
//! other. The crate opens no socket and reads no clock: a transport feeds its sessions, whoever owns it calls
//! [`NameServer::tick`].

mod brokers;
mod handlers;
mod kv;
mod routes;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use skylark_protocol::command::route::TopicRouteData;

use crate::brokers::Connection;
use crate::kv::Kv;
use crate::routes::Routes;

pub use session::NameServerService;

/// Where sessions get the time from: how long ago some fixed moment was. It never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How often to call [`NameServer::tick`].
pub const TICK_INTERVAL: Duration = Duration::from_secs(5);

/// The state of a nameserver. One is shared by all its sessions.
#[derive(Debug)]
pub struct NameServer {
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

impl NameServer {
    /// A nameserver that knows nobody yet. `properties` are told, beside what holds for every one, to tools that
    /// ask for the configuration (code 319).
    pub fn new(properties: impl IntoIterator<Item = (String, String)>) -> Self {
        let fixed =
            handlers::FIXED_PROPERTIES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Self { state: RwLock::default(), properties: fixed.chain(properties).collect() }
    }

    /// Where a topic is, as code 105 tells it.
    pub fn route_of(&self, topic: &str) -> Option<TopicRouteData> {
        self.state.read().routes.route(topic)
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
