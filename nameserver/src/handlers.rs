//! Which request is answered how.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skylark_protocol::command::configuration;
use skylark_protocol::command::kv::{KvKey, KvNamespace, ORDER_TOPIC_CONFIG, PutKv};
use skylark_protocol::command::register::{
    BrokerHeartbeat, BrokerIdentity, DataVersion, RegisterBroker, RegisterBrokerBody,
};
use skylark_protocol::command::route::{
    BrokerMemberGroup, BrokerNameRequest, ClusterRequest, DeleteTopicRequest, MemberGroupRequest,
    RouteRequest, TopicList, TopicRouteData,
};
use skylark_protocol::command::topics::{TopicRequest, perm};
use skylark_protocol::message::body_crc;
use skylark_protocol::{FieldError, Header, RequestCode, ResponseCode};

use crate::brokers::Connection;
use crate::routes::{Registered, Routes, Units};
use crate::settings::Switch;
use crate::{JournalError, KvChange, NameServer, Pending, Recorded};

/// What code 319 tells of every nameserver, beside its settings: RocketMQ's names for how this one behaves.
pub(crate) const FIXED_PROPERTIES: [(&str, &str); 6] = [
    ("clusterTest", "false"),
    ("deleteTopicWithBrokerRegistration", "false"),
    ("needWaitForService", "false"),
    ("notifyMinBrokerIdChanged", "false"),
    ("scanNotActiveBrokerInterval", "5000"),
    ("supportActingMaster", "false"),
];

/// What goes back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) remark: Option<String>,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// What a request came to.
pub(crate) enum Outcome {
    /// It is answered.
    Answered(Answer),
    /// It is answered with success once this is done, or with why it was not.
    Later(Pending),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answered(answer)
    }
}

impl Answer {
    /// The answer to a request that had to wait.
    pub(crate) fn after(recorded: Result<(), JournalError>) -> Self {
        match recorded {
            Ok(()) => Self::success(),
            Err(error) => Self::refusal(ResponseCode::SYSTEM_ERROR, error.to_string()),
        }
    }

    fn success() -> Self {
        Self { code: ResponseCode::SUCCESS, remark: None, fields: Vec::new(), body: Bytes::new() }
    }

    fn field(name: &'static str, value: impl ToString) -> Self {
        Self { fields: vec![(name, value.to_string())], ..Self::success() }
    }

    fn body(body: Vec<u8>) -> Self {
        Self { body: body.into(), ..Self::success() }
    }

    fn refusal(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: Some(remark.into()), ..Self::success() }
    }
}

impl From<FieldError> for Answer {
    fn from(error: FieldError) -> Self {
        Self::refusal(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl NameServer {
    /// Answers a request.
    pub(crate) fn answer(
        &self,
        header: &Header<'_>,
        body: &[u8],
        connection: &Connection,
        now: Duration,
    ) -> Outcome {
        let changed = match header.request_code() {
            RequestCode::PUT_KV_CONFIG => self.put_kv(header),
            RequestCode::DELETE_KV_CONFIG => self.delete_kv(header),
            RequestCode::UPDATE_NAMESRV_CONFIG => Ok(self.configure(body)),
            _ => return self.tell(header, body, connection, now).into(),
        };
        changed.unwrap_or_else(|error| Answer::from(error).into())
    }

    /// Answers a request that waits for nothing.
    fn tell(&self, header: &Header<'_>, body: &[u8], connection: &Connection, now: Duration) -> Answer {
        let answered = match header.request_code() {
            RequestCode::GET_KV_CONFIG => self.get_kv(header),
            RequestCode::GET_KVLIST_BY_NAMESPACE => self.list_kv(header),
            RequestCode::REGISTER_BROKER => self.register(header, body, connection, now),
            RequestCode::UNREGISTER_BROKER => self.unregister(header),
            RequestCode::QUERY_DATA_VERSION => self.query_data_version(header, body, now),
            RequestCode::BROKER_HEARTBEAT => self.heartbeat(header, now),
            RequestCode::GET_BROKER_MEMBER_GROUP => self.member_group(header),
            RequestCode::GET_ROUTEINFO_BY_TOPIC => self.route(header),
            RequestCode::GET_BROKER_CLUSTER_INFO => {
                Ok(Answer::body(self.state.read().routes.brokers().cluster_info().encode()))
            }
            RequestCode::WIPE_WRITE_PERM_OF_BROKER => {
                self.change_permission(header, "wipeTopicCount", |perm| perm & !perm::WRITE)
            }
            RequestCode::ADD_WRITE_PERM_OF_BROKER => {
                self.change_permission(header, "addTopicCount", |_| perm::READ | perm::WRITE)
            }
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => {
                Ok(self.list(Switch::AllTopicList, |routes| routes.topics()))
            }
            RequestCode::REGISTER_TOPIC_IN_NAMESRV => self.add_topic(header, body),
            RequestCode::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(header),
            RequestCode::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(header),
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => {
                Ok(Answer::body(self.state.read().routes.system_topics().encode()))
            }
            RequestCode::GET_UNIT_TOPIC_LIST => Ok(self.topics_of_units(Units::Within)),
            RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => Ok(self.topics_of_units(Units::Subscribed)),
            RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                Ok(self.topics_of_units(Units::SubscribedOnly))
            }
            RequestCode::GET_NAMESRV_CONFIG => Ok(self.configuration()),
            RequestCode(code) => Ok(Answer::refusal(
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {code} not supported"),
            )),
        };
        answered.unwrap_or_else(Answer::from)
    }

    fn put_kv(&self, header: &Header<'_>) -> Result<Outcome, FieldError> {
        let PutKv { namespace, key, value } = PutKv::decode(header)?;
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        Ok(self.change(&[KvChange::Put { namespace, key, value: value.to_owned() }]))
    }

    fn delete_kv(&self, header: &Header<'_>) -> Result<Outcome, FieldError> {
        let KvKey { namespace, key } = KvKey::decode(header)?;
        Ok(self.change(&[KvChange::Delete { namespace: namespace.to_owned(), key: key.to_owned() }]))
    }

    fn configure(&self, body: &[u8]) -> Outcome {
        // Not in the match: that would hold the lock while the changes are made.
        let changes = self.state.read().changes(body);
        match changes {
            Ok(changes) => self.change(&changes),
            Err(error) => Answer::refusal(error.code(), error.to_string()).into(),
        }
    }

    /// Makes changes one after the other, up to the first that is refused.
    fn change(&self, changes: &[KvChange]) -> Outcome {
        let mut pending = Vec::new();
        for change in changes {
            match self.change_kv(change) {
                Ok(Recorded::Now) => {}
                Ok(Recorded::Later(done)) => pending.push(done),
                Err(refused) => {
                    return Answer::refusal(ResponseCode::SYSTEM_ERROR, refused.to_string()).into();
                }
            }
        }
        if pending.is_empty() {
            return Answer::success().into();
        }
        Outcome::Later(Box::pin(async move {
            for done in pending {
                done.await?;
            }
            Ok(())
        }))
    }

    fn get_kv(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let KvKey { namespace, key } = KvKey::decode(header)?;
        Ok(match self.state.read().kv.get(namespace, key) {
            Some(value) => Answer::field("value", value),
            None => Answer::refusal(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            ),
        })
    }

    fn list_kv(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let KvNamespace { namespace } = KvNamespace::decode(header)?;
        Ok(match self.state.read().kv.namespace(namespace) {
            Some(table) => Answer::body(table.encode()),
            None => Answer::refusal(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            ),
        })
    }

    fn register(
        &self,
        header: &Header<'_>,
        body: &[u8],
        connection: &Connection,
        now: Duration,
    ) -> Result<Answer, FieldError> {
        let broker = RegisterBroker::decode(header)?;
        let crc = broker.body_crc32.unwrap_or(0);
        if crc != 0 && u32::try_from(crc) != Ok(body_crc(body)) {
            return Ok(Answer::refusal(ResponseCode::SYSTEM_ERROR, "crc32 not match"));
        }
        // Outside the lock: a body can be large.
        let RegisterBrokerBody { topics, .. } =
            RegisterBrokerBody::decode(body, broker.compressed, header.version)?;
        let mut state = self.state.write();
        Ok(match state.routes.register(&broker, &topics, connection.clone(), now) {
            Registered::TooEarly => Answer::refusal(ResponseCode::SYSTEM_ERROR, "register broker failed"),
            Registered::Taken { leader } => {
                let tells = state.is_on(Switch::OrderTopicsToBroker);
                let ordered = state.kv.namespace(ORDER_TOPIC_CONFIG).filter(|_| tells);
                let mut answer = Answer::body(ordered.map(|table| table.encode()).unwrap_or_default());
                if let Some((address, ha_address)) = leader {
                    answer.fields = vec![("masterAddr", address), ("haServerAddr", ha_address)];
                }
                answer
            }
        })
    }

    fn unregister(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        self.state.write().routes.unregister(&BrokerIdentity::decode(header)?);
        Ok(Answer::success())
    }

    fn query_data_version(
        &self,
        header: &Header<'_>,
        body: &[u8],
        now: Duration,
    ) -> Result<Answer, FieldError> {
        let broker = BrokerIdentity::decode(header)?;
        // A broker without a version has other topics than any that has one.
        let current = if body.is_empty() { None } else { Some(DataVersion::decode(body)?) };
        let routes = &mut self.state.write().routes;
        routes.note_sign(broker.cluster_name, broker.broker_addr, now);
        let known = routes.topics_version(broker.cluster_name, broker.broker_addr);
        let body = known.map(|known| known.encode()).unwrap_or_default().into();
        Ok(Answer { body, ..Answer::field("changed", known.is_none() || known != current) })
    }

    fn heartbeat(&self, header: &Header<'_>, now: Duration) -> Result<Answer, FieldError> {
        let broker = BrokerHeartbeat::decode(header)?;
        self.state.write().routes.note_sign(broker.cluster_name, broker.broker_addr, now);
        Ok(Answer::success())
    }

    fn member_group(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let MemberGroupRequest { cluster, broker_name } = MemberGroupRequest::decode(header)?;
        let state = self.state.read();
        let known = state.routes.brokers().named(broker_name);
        let group = BrokerMemberGroup {
            broker_addrs: known.map(|data| data.broker_addrs.clone()).unwrap_or_default(),
            broker_name: broker_name.to_owned(),
            cluster: cluster.to_owned(),
        };
        Ok(Answer::body(group.encode()))
    }

    fn route(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let RouteRequest { topic, .. } = RouteRequest::decode(header)?;
        Ok(match self.route_of(topic) {
            Some(route) => Answer::body(route.encode()),
            None => Answer::refusal(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("No topic route info in name server for the topic: {topic}"),
            ),
        })
    }

    fn change_permission(
        &self,
        header: &Header<'_>,
        count: &'static str,
        change: impl Fn(i32) -> i32,
    ) -> Result<Answer, FieldError> {
        let BrokerNameRequest { broker_name } = BrokerNameRequest::decode(header)?;
        Ok(Answer::field(count, self.state.write().routes.change_permission(broker_name, change)))
    }

    fn add_topic(&self, header: &Header<'_>, body: &[u8]) -> Result<Answer, FieldError> {
        let TopicRequest { topic } = TopicRequest::decode(header)?;
        let TopicRouteData { queue_datas, .. } = TopicRouteData::decode(body)?;
        self.state.write().routes.add_topic(topic, queue_datas);
        Ok(Answer::success())
    }

    fn delete_topic(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let DeleteTopicRequest { topic, cluster } = DeleteTopicRequest::decode(header)?;
        self.state.write().routes.delete_topic(topic, cluster.filter(|cluster| !cluster.is_empty()));
        Ok(Answer::success())
    }

    fn topics_of_cluster(&self, header: &Header<'_>) -> Result<Answer, FieldError> {
        let ClusterRequest { cluster } = ClusterRequest::decode(header)?;
        Ok(self.list(Switch::TopicList, |routes| routes.topics_of_cluster(cluster)))
    }

    fn topics_of_units(&self, units: Units) -> Answer {
        self.list(Switch::TopicList, |routes| routes.topics_of_units(units))
    }

    /// Lists topics, if that is allowed.
    fn list(&self, allowed: Switch, topics: impl Fn(&Routes) -> TopicList) -> Answer {
        let state = self.state.read();
        if state.is_on(allowed) {
            Answer::body(topics(&state.routes).encode())
        } else {
            Answer::refusal(ResponseCode::SYSTEM_ERROR, "disable")
        }
    }

    fn configuration(&self) -> Answer {
        let state = self.state.read();
        let fixed = self.properties.iter().map(|(name, value)| (&**name, &**value));
        let switches = state.switches().map(|(name, is_on)| (name, if is_on { "true" } else { "false" }));
        let all: BTreeMap<_, _> = fixed.chain(switches).collect();
        Answer::body(configuration::write(all))
    }
}

#[cfg(test)]
mod tests;
