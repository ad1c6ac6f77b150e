//! Which brokers have a topic, and how many queues of it.

use std::fmt;
use std::sync::Arc;

use skylark_protocol::command::route::{BrokerData, TopicRouteData};
use skylark_protocol::command::topics::perm;

/// A topic's route as nameservers tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    data: TopicRouteData,
}

/// One queue of a topic. Ordered as every client of a group orders them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// The topic.
    pub topic: Arc<str>,
    /// The name of the broker that has it.
    pub broker: Arc<str>,
    /// Its number on that broker.
    pub id: i32,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.topic, self.broker, self.id)
    }
}

impl Route {
    pub(crate) fn new(data: TopicRouteData) -> Self {
        Self { data }
    }

    /// The brokers that have the topic.
    pub fn brokers(&self) -> &[BrokerData] {
        &self.data.broker_datas
    }

    /// The address of the leader among the brokers of this name.
    pub fn leader(&self, broker: &str) -> Option<&str> {
        let broker = self.brokers().iter().find(|data| data.broker_name == broker)?;
        broker.broker_addrs.get(&LEADER_ID).map(String::as_str)
    }

    /// The leader's address, or a follower's when there is no leader.
    pub fn any(&self, broker: &str) -> Option<&str> {
        // The leader's id is the lowest there is.
        let broker = self.brokers().iter().find(|data| data.broker_name == broker)?;
        broker.broker_addrs.values().next().map(String::as_str)
    }

    /// The queues messages may be sent to: those whose broker has a leader.
    pub fn write_queues(&self, topic: &str) -> Vec<Queue> {
        let writable = |broker: &str, bits| bits & perm::WRITE != 0 && self.leader(broker).is_some();
        self.queues(
            topic,
            |data| {
                if writable(&data.broker_name, data.perm) { data.write_queue_nums } else { 0 }
            },
        )
    }

    /// The queues that may be read.
    pub fn read_queues(&self, topic: &str) -> Vec<Queue> {
        self.queues(topic, |data| if data.perm & perm::READ != 0 { data.read_queue_nums } else { 0 })
    }

    fn queues(
        &self,
        topic: &str,
        count: impl Fn(&skylark_protocol::command::route::QueueData) -> i32,
    ) -> Vec<Queue> {
        let topic: Arc<str> = topic.into();
        let mut queues = Vec::new();
        for data in &self.data.queue_datas {
            let broker: Arc<str> = data.broker_name.as_str().into();
            let ids = 0..count(data).min(QUEUES_MAX);
            queues.extend(ids.map(|id| Queue { topic: topic.clone(), broker: broker.clone(), id }));
        }
        queues.sort();
        queues
    }

    /// What the route of a topic will be that is created after this one's, with at most `queues` queues.
    pub(crate) fn as_template(&self, queues: i32) -> Self {
        let mut data = self.data.clone();
        for counts in &mut data.queue_datas {
            counts.write_queue_nums = counts.write_queue_nums.min(queues);
            counts.read_queue_nums = counts.read_queue_nums.min(queues);
        }
        Self { data }
    }
}

const LEADER_ID: i64 = 0;
/// More queues than any topic has on a broker: a nameserver's answer must not size our memory.
const QUEUES_MAX: i32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_sorted_and_follow_the_permissions() {
        let body = br#"{"brokerDatas":[{"brokerAddrs":{"0":"h:1","1":"h:2"},"brokerName":"b","cluster":"c"},
            {"brokerAddrs":{1:"h:3"},"brokerName":"a","cluster":"c","enableActingMaster":false}],
            "filterServerTable":{},"queueDatas":[
            {"brokerName":"b","perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":1},
            {"brokerName":"a","perm":6,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":1}]}"#;
        let route = Route::new(TopicRouteData::decode(body).unwrap());
        let text = |queues: Vec<Queue>| queues.iter().map(Queue::to_string).collect::<Vec<_>>();
        assert_eq!(text(route.read_queues("T")), ["T@a:0", "T@b:0", "T@b:1"]);
        assert_eq!(text(route.write_queues("T")), ["T@b:0"], "a has no leader");
        assert_eq!((route.any("a"), route.any("b")), (Some("h:3"), Some("h:1")));
    }
}
