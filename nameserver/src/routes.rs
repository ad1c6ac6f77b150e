//! Routes: which topics are on which brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use skylark_protocol::command::register::{BrokerIdentity, DataVersion, RegisterBroker, TopicConfigTable};
use skylark_protocol::command::route::{QueueData, TopicList, TopicRouteData};
use skylark_protocol::command::topics::perm;

use crate::Expired;
use crate::brokers::{Brokers, Connection, Entered, LEADER, Removed};

/// Bit of a topic's system flag: it belongs to a unit.
const UNIT: i32 = 0x1;
/// Bit of a topic's system flag: it has subscribers in units.
const UNIT_SUBSCRIBERS: i32 = 0x2;

/// The brokers and their topics.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    brokers: Brokers,
    /// Queues by topic and name of brokers. No topic is without queues.
    topics: BTreeMap<String, BTreeMap<String, QueueData>>,
    /// Where queues of static topics are, by topic and name of brokers; for clients to read.
    mappings: BTreeMap<String, BTreeMap<String, Value>>,
}

/// What a broker hears of its registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It was taken, or quietly ignored. A follower hears where its leader is.
    Taken {
        /// For clients and for followers.
        leader: Option<(String, String)>,
    },
    /// One topic came before all of them did.
    TooEarly,
}

/// Topics by what their flags say of units.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Units {
    /// They belong to a unit.
    Within,
    /// They have subscribers in units.
    Subscribed,
    /// The second without the first.
    SubscribedOnly,
}

impl Routes {
    /// Takes a broker's registration.
    ///
    /// Topics that a later registration does not have stay, as with Apache: it may be one of a single change.
    pub(crate) fn register(
        &mut self,
        broker: &RegisterBroker<'_>,
        topics: &TopicConfigTable,
        connection: Connection,
        now: Duration,
    ) -> Registered {
        let version = topics.data_version;
        let table = &topics.topic_config_table;
        let (first, tells_topics, acting) = match self.brokers.enter(broker, version, table.len()) {
            Entered::Known { first, tells_topics, acting } => (first, tells_topics, acting),
            Entered::Outdated => return Registered::Taken { leader: None },
            Entered::TooEarly => return Registered::TooEarly,
        };
        if tells_topics {
            let known = self.brokers.topics_version(broker.cluster_name, broker.broker_addr);
            let changed = first || known != Some(version);
            for (name, config) in table {
                let name = if config.topic_name.is_empty() { name } else { &config.topic_name };
                let routes = self.topics.entry(name.clone()).or_default();
                if !changed && routes.contains_key(broker.broker_name) {
                    continue;
                }
                let mut queues = QueueData::new(broker.broker_name, config);
                if acting {
                    queues.perm &= !perm::WRITE;
                }
                routes.insert(broker.broker_name.to_owned(), queues);
            }
            if changed {
                for (topic, mapping) in &topics.topic_queue_mapping_info_map {
                    let name = mapping.get("bname").and_then(Value::as_str).unwrap_or(broker.broker_name);
                    let mappings = self.mappings.entry(topic.clone()).or_default();
                    mappings.insert(name.to_owned(), mapping.clone());
                }
            }
        }
        self.brokers.note(broker, version, connection, now);
        let leader = (broker.broker_id != LEADER)
            .then(|| self.brokers.leader(broker.cluster_name, broker.broker_name))
            .flatten()
            .map(|(address, ha_address)| (address.to_owned(), ha_address.to_owned()));
        Registered::Taken { leader }
    }

    /// Forgets a broker, and its topics' routes if nobody else has its name.
    pub(crate) fn unregister(&mut self, broker: &BrokerIdentity<'_>) {
        match self.brokers.remove(broker) {
            Removed::Name => {
                self.topics.retain(|_, routes| {
                    routes.remove(broker.broker_name);
                    !routes.is_empty()
                });
                self.mappings.retain(|_, mappings| {
                    mappings.remove(broker.broker_name);
                    !mappings.is_empty()
                });
            }
            Removed::Leader => {
                let queues = self.topics.values_mut().filter_map(|routes| routes.get_mut(broker.broker_name));
                queues.for_each(|queues| queues.perm &= !perm::WRITE);
            }
            Removed::Address => {}
        }
    }

    /// Forgets the brokers whose last registration came by this connection; tells their clusters and addresses.
    pub(crate) fn forget(&mut self, connection: &Connection) -> Vec<(String, String)> {
        let gone = self.brokers.of_connection(connection);
        for (cluster, address) in &gone {
            self.forget_address(cluster, address);
        }
        gone
    }

    /// Forgets the brokers without a sign of life for too long.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Expired> {
        let overdue = self.brokers.overdue(now);
        for Expired { cluster, address } in &overdue {
            self.forget_address(cluster, address);
        }
        overdue
    }

    fn forget_address(&mut self, cluster: &str, address: &str) {
        let Some((name, broker_id)) = self.brokers.find(cluster, address) else {
            // Another address took its place.
            self.brokers.forget_sign(cluster, address);
            return;
        };
        let name = name.to_owned();
        self.unregister(&BrokerIdentity {
            broker_name: &name,
            broker_addr: address,
            cluster_name: cluster,
            broker_id,
        });
    }

    /// Notes a sign of life.
    pub(crate) fn note_sign(&mut self, cluster: &str, address: &str, now: Duration) {
        self.brokers.note_sign(cluster, address, now);
    }

    /// The version of a broker's topics when it last registered.
    pub(crate) fn topics_version(&self, cluster: &str, address: &str) -> Option<DataVersion> {
        self.brokers.topics_version(cluster, address)
    }

    /// The brokers.
    pub(crate) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Where a topic is, if any of its brokers is known.
    pub(crate) fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let routes = self.topics.get(topic)?;
        let broker_datas: Vec<_> =
            routes.keys().filter_map(|name| self.brokers.named(name)).cloned().collect();
        if broker_datas.is_empty() {
            return None;
        }
        let queue_datas = routes.values().cloned().collect();
        let topic_queue_mapping_by_broker = self.mappings.get(topic).cloned();
        Some(TopicRouteData {
            broker_datas,
            queue_datas,
            topic_queue_mapping_by_broker,
            ..TopicRouteData::default()
        })
    }

    /// Adds queues to a topic, all of them or, if one names an unknown broker, none.
    pub(crate) fn add_topic(&mut self, topic: &str, queues: Vec<QueueData>) {
        if queues.is_empty() || queues.iter().any(|queues| self.brokers.named(&queues.broker_name).is_none())
        {
            return;
        }
        let routes = self.topics.entry(topic.to_owned()).or_default();
        routes.extend(queues.into_iter().map(|queues| (queues.broker_name.clone(), queues)));
    }

    /// Forgets a topic, everywhere or on the brokers of one cluster.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            self.mappings.remove(topic);
            return;
        };
        let Some(routes) = self.topics.get_mut(topic) else { return };
        for name in self.brokers.of_cluster(cluster) {
            routes.remove(name);
        }
        if routes.is_empty() {
            self.topics.remove(topic);
            self.mappings.remove(topic);
        }
    }

    /// Changes the permission of a broker's topics and tells how many there are.
    pub(crate) fn change_permission(&mut self, broker_name: &str, change: impl Fn(i32) -> i32) -> usize {
        let queues = self.topics.values_mut().filter_map(|routes| routes.get_mut(broker_name));
        queues.map(|queues| queues.perm = change(queues.perm)).count()
    }

    /// All topics.
    pub(crate) fn topics(&self) -> TopicList {
        list(self.topics.keys())
    }

    /// The topics on the brokers of a cluster.
    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let names: BTreeSet<_> = self.brokers.of_cluster(cluster).collect();
        let there = self.topics.iter().filter(|(_, routes)| routes.keys().any(|name| names.contains(name)));
        list(there.map(|(topic, _)| topic))
    }

    /// Topics by what their flags say of units.
    pub(crate) fn topics_of_units(&self, units: Units) -> TopicList {
        let wanted = |flag: i32| match units {
            Units::Within => flag & UNIT != 0,
            Units::Subscribed => flag & UNIT_SUBSCRIBERS != 0,
            Units::SubscribedOnly => flag & (UNIT | UNIT_SUBSCRIBERS) == UNIT_SUBSCRIBERS,
        };
        let there = self
            .topics
            .iter()
            .filter(|(_, routes)| routes.values().next().is_some_and(|queues| wanted(queues.topic_sys_flag)));
        list(there.map(|(topic, _)| topic))
    }

    /// What is named like a cluster or a broker, for those have topics of their own, and a broker to ask further.
    pub(crate) fn system_topics(&self) -> TopicList {
        let clusters = self.brokers.clusters();
        let names: BTreeSet<_> =
            clusters.iter().flat_map(|(cluster, names)| names.iter().chain([cluster])).collect();
        TopicList { broker_addr: self.brokers.any_address().cloned(), ..list(names) }
    }
}

fn list<'a>(topics: impl IntoIterator<Item = &'a String>) -> TopicList {
    TopicList { broker_addr: None, topic_list: topics.into_iter().cloned().collect() }
}
