//! Brokers: by name, by cluster, and how long since their last sign of life.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use skylark_protocol::command::register::{BrokerIdentity, DataVersion, RegisterBroker};
use skylark_protocol::command::route::{BrokerData, ClusterInfo};
use skylark_protocol::transport::Mailbox;

use crate::Expired;

/// Id of a leader.
pub(crate) const LEADER: i64 = 0;

/// How long a broker is known without a sign of life, if it does not say.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A session as its brokers' entries know it: post to it to end the connection.
pub(crate) type Connection = Arc<Mailbox<Expired>>;

/// All brokers that are known.
#[derive(Debug, Default)]
pub(crate) struct Brokers {
    by_name: BTreeMap<String, BrokerData>,
    clusters: BTreeMap<String, BTreeSet<String>>,
    /// By cluster and address.
    live: HashMap<(String, String), Live>,
}

/// What a broker's last registration brought.
#[derive(Debug)]
struct Live {
    last_sign: Duration,
    timeout: Duration,
    topics_version: DataVersion,
    ha_address: String,
    /// The connection it came by.
    connection: Connection,
}

/// How a broker was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is known now.
    Known {
        /// Whether its id had no address before.
        first: bool,
        /// Whether the topics' routes are to follow its topics.
        tells_topics: bool,
        /// Whether it stands in for a leader, so that its topics cannot be written.
        acting: bool,
    },
    /// Another address holds the same place with a later state: this one is ignored.
    Outdated,
    /// The place is new and only one topic came, a change that overtook the first full registration. Nothing
    /// is changed.
    TooEarly,
}

impl Brokers {
    /// Takes a broker's registration, except for its sign of life.
    pub(crate) fn enter(
        &mut self,
        broker: &RegisterBroker<'_>,
        version: DataVersion,
        topics: usize,
    ) -> Entered {
        let name = broker.broker_name;
        let address = broker.broker_addr;
        let known = self.by_name.get(name).and_then(|data| data.broker_addrs.get(&broker.broker_id));
        if known.is_none() && topics == 1 {
            return Entered::TooEarly;
        }
        let holder = known.filter(|held| *held != address).map(|held| key(broker.cluster_name, held));
        if holder
            .and_then(|key| self.live.get(&key))
            .is_some_and(|live| live.topics_version.state_version > version.state_version)
        {
            self.live.remove(&key(broker.cluster_name, address));
            return Entered::Outdated;
        }

        self.clusters.entry(broker.cluster_name.to_owned()).or_default().insert(name.to_owned());
        let is_new = !self.by_name.contains_key(name);
        let data = self.by_name.entry(name.to_owned()).or_insert_with(|| BrokerData {
            broker_name: name.to_owned(),
            cluster: broker.cluster_name.to_owned(),
            ..BrokerData::default()
        });
        data.enable_acting_master = broker.enable_acting_master == Some(true);
        data.zone_name = broker.zone_name.map(str::to_owned);
        // After a change of roles the address has a new id; it must not keep the old one too.
        data.broker_addrs.retain(|&id, held| id == broker.broker_id || held != address);
        let before = data.broker_addrs.insert(broker.broker_id, address.to_owned());
        let is_lowest = data.broker_addrs.keys().next() == Some(&broker.broker_id);
        let stands_in = broker.broker_id != LEADER && is_lowest && broker.enable_acting_master.is_some();
        Entered::Known {
            first: is_new || before.is_none_or(|before| before.is_empty()),
            tells_topics: broker.broker_id == LEADER || stands_in,
            acting: stands_in && data.enable_acting_master,
        }
    }

    /// Notes a registration as a sign of life.
    pub(crate) fn note(
        &mut self,
        broker: &RegisterBroker<'_>,
        topics_version: DataVersion,
        connection: Connection,
        now: Duration,
    ) {
        let asked = broker.heartbeat_timeout_ms.and_then(|ms| u64::try_from(ms).ok());
        let live = Live {
            last_sign: now,
            timeout: asked.map_or(TIMEOUT, Duration::from_millis),
            topics_version,
            ha_address: broker.ha_server_addr.to_owned(),
            connection,
        };
        self.live.insert(key(broker.cluster_name, broker.broker_addr), live);
    }

    /// Notes a sign of life of a broker, if it is known.
    pub(crate) fn note_sign(&mut self, cluster: &str, address: &str, now: Duration) {
        if let Some(live) = self.live.get_mut(&key(cluster, address)) {
            live.last_sign = now;
        }
    }

    /// The version of a broker's topics when it last registered.
    pub(crate) fn topics_version(&self, cluster: &str, address: &str) -> Option<DataVersion> {
        self.live.get(&key(cluster, address)).map(|live| live.topics_version)
    }

    /// Where the leader of a name is: for clients and for followers.
    pub(crate) fn leader(&self, cluster: &str, name: &str) -> Option<(&str, &str)> {
        let address = self.by_name.get(name)?.broker_addrs.get(&LEADER)?;
        let live = self.live.get(&key(cluster, address))?;
        Some((address, &live.ha_address))
    }

    /// Forgets when a broker last gave a sign of life.
    pub(crate) fn forget_sign(&mut self, cluster: &str, address: &str) {
        self.live.remove(&key(cluster, address));
    }

    /// Removes an address from a name.
    pub(crate) fn remove(&mut self, broker: &BrokerIdentity<'_>) -> Removed {
        self.forget_sign(broker.cluster_name, broker.broker_addr);
        let Some(data) = self.by_name.get_mut(broker.broker_name) else { return Removed::Address };
        data.broker_addrs.retain(|_, held| held != broker.broker_addr);
        if !data.broker_addrs.is_empty() {
            let leaderless = data.broker_addrs.keys().next().is_some_and(|&lowest| lowest > LEADER);
            return if data.enable_acting_master && leaderless { Removed::Leader } else { Removed::Address };
        }
        self.by_name.remove(broker.broker_name);
        if let Some(names) = self.clusters.get_mut(broker.cluster_name) {
            names.remove(broker.broker_name);
            if names.is_empty() {
                self.clusters.remove(broker.cluster_name);
            }
        }
        Removed::Name
    }

    /// The brokers whose last registration came by this connection, as (cluster, address).
    pub(crate) fn of_connection(&self, connection: &Connection) -> Vec<(String, String)> {
        let theirs = self.live.iter().filter(|(_, live)| Arc::ptr_eq(&live.connection, connection));
        theirs.map(|(key, _)| key.clone()).collect()
    }

    /// The brokers without a sign of life for too long. Their connections are told to end.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<Expired> {
        let mut overdue = Vec::new();
        for ((cluster, address), live) in &self.live {
            if live.last_sign.saturating_add(live.timeout) >= now {
                continue;
            }
            let expired = Expired { cluster: cluster.clone(), address: address.clone() };
            // A session that is gone or already told needs no further word.
            live.connection.post(expired.clone()).ok();
            overdue.push(expired);
        }
        overdue
    }

    /// The name under which an address of a cluster is known, and its id.
    pub(crate) fn find(&self, cluster: &str, address: &str) -> Option<(&str, i64)> {
        self.by_name.values().filter(|data| data.cluster == cluster).find_map(|data| {
            let held = data.broker_addrs.iter().find(|(_, held)| *held == address);
            held.map(|(&id, _)| (&*data.broker_name, id))
        })
    }

    /// The brokers of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&BrokerData> {
        self.by_name.get(name)
    }

    /// Names of brokers in a cluster.
    pub(crate) fn of_cluster(&self, cluster: &str) -> impl Iterator<Item = &String> {
        self.clusters.get(cluster).into_iter().flatten()
    }

    /// Clusters and the names in them.
    pub(crate) fn clusters(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.clusters
    }

    /// The address of some broker.
    pub(crate) fn any_address(&self) -> Option<&String> {
        self.by_name.values().find_map(|data| data.broker_addrs.values().next())
    }

    /// Everything, as tools ask for it.
    pub(crate) fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo { broker_addr_table: self.by_name.clone(), cluster_addr_table: self.clusters.clone() }
    }
}

/// What is left of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nothing: it was its last address.
    Name,
    /// Followers that may stand in for the leader, which went.
    Leader,
    /// Other addresses, or it was not known.
    Address,
}

fn key(cluster: &str, address: &str) -> (String, String) {
    (cluster.to_owned(), address.to_owned())
}
