//! Who reads what: 300, 343, 345.

use skylark_protocol::command::groups::GroupRequest;
use skylark_protocol::command::route::TopicList;
use skylark_protocol::command::subscribers::{GroupList, SubscriptionOfGroup, SubscriptionRequest};
use skylark_protocol::command::topics::TopicRequest;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 300: the groups that read a topic, or have.
pub fn groups_of(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let topic = TopicRequest::decode(request.header)?.topic;
    let mut group_list = broker.offsets.lock().groups_of(topic);
    group_list.extend(broker.membership.readers_of(topic).iter().map(|group| group.to_string()));
    answers.body(request.reply, GroupList { group_list }.encode())
}

/// 343: the topics that a group has read.
pub fn topics_of(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let group = GroupRequest::decode(request.header)?.group;
    let topic_list = broker.offsets.lock().topics_of(group).into_iter().collect();
    let broker_addr = Some(broker.identity.address.clone());
    answers.body(request.reply, TopicList { broker_addr, topic_list }.encode())
}

/// 345: what the members of a group say they select of a topic.
pub fn subscription(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let SubscriptionRequest { group, topic } = SubscriptionRequest::decode(request.header)?;
    let found = topic.and_then(|topic| broker.membership.subscription(group, topic).ok().flatten());
    let found = SubscriptionOfGroup {
        group: group.to_owned(),
        subscription_data: found.map(|(subscription, _)| subscription.stated.clone()),
        topic: topic.map(str::to_owned),
    };
    answers.body(request.reply, found.encode())
}
