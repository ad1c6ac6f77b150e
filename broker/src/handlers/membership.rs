//! Heartbeats and what follows from them: 34, 35, 38, 46.

use std::sync::Arc;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::heartbeat::{CheckClientConfig, ConsumerData, Heartbeat};
use skylark_protocol::command::membership::{ConsumerGroup, ConsumerList, UnregisterClient};
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::{Answers, Handled, Refusal, Request, unchanged};
use crate::folds::groups::{GroupConfig, GroupPut};
use crate::folds::topics::{TopicConfig, TopicPut};
use crate::membership::Member;
use crate::names;

/// 34: a client says who it is. Answered once the groups and retry topics it needs are there.
pub fn heartbeat(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let mut heartbeat = Heartbeat::decode(request.body)?;
    // As with RocketMQ, a group that cannot be does not keep the client's other groups out.
    heartbeat.consumers.retain(|consumer| names::check_group(&consumer.group_name).is_ok());
    let mut created = None;
    // Looked at first, because nearly every heartbeat repeats what is there, and changes wait for each other.
    if !missing(broker, &broker.catalog.read(), &heartbeat).is_empty() {
        match broker.change(|catalog| missing(broker, catalog, &heartbeat)) {
            Ok(end) => created = end,
            Err(error) => return unchanged(&error),
        }
    }
    if !broker.policy.auto_create_groups {
        // RocketMQ skips groups that nobody made; their pulls say that they are missing.
        let catalog = broker.catalog.read();
        heartbeat.consumers.retain(|consumer| catalog.groups.get(&consumer.group_name).is_some());
    }
    let connection = request.connection;
    let member = Member {
        client_id: Arc::from(&*heartbeat.client_id),
        language: request.header.language,
        version: request.header.version,
        address: connection.peer.address,
        mailbox: Arc::clone(&connection.mailbox),
        seen: broker.clock.monotonic(),
    };
    broker.membership.heartbeat(connection.id, &member, &heartbeat, |group| broker.notifies(group));
    let end = created.unwrap_or(PhysicalOffset::ZERO);
    answers.when_applied(end, request.reply, |out| {
        request.reply.success(out, &[("IS_SUB_CHANGE", Value::Flag(true))]);
    })
}

/// The groups of a heartbeat, and their retry topics, that do not exist and may be made.
fn missing(broker: &Broker, catalog: &Catalog, heartbeat: &Heartbeat) -> Vec<ControlRecord> {
    let mut records = Vec::new();
    for ConsumerData { group_name: group, .. } in &heartbeat.consumers {
        let known = catalog.groups.get(group);
        if known.is_none() {
            if !broker.policy.auto_create_groups {
                continue;
            }
            records
                .push(ControlRecord::of(&GroupPut { group: group.clone(), config: GroupConfig::default() }));
        }
        let queues = known.map_or(GroupConfig::default().retry_queues, |config| config.retry_queues);
        let topic = names::retry_topic(group);
        if queues > 0 && catalog.topics.get(&topic).is_none() {
            records.push(ControlRecord::of(&TopicPut { topic, config: TopicConfig::with_queues(queues) }));
        }
    }
    records
}

/// 35: a client leaves its groups.
pub fn unregister(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let leaving = UnregisterClient::decode(request.header)?;
    let given = |group: Option<&'_ str>| group.filter(|group| !group.is_empty()).map(str::to_owned);
    let (producer, consumer) = (given(leaving.producer_group), given(leaving.consumer_group));
    broker.membership.leave(request.connection.id, producer.as_deref(), consumer.as_deref(), |group| {
        broker.notifies(group)
    });
    answers.success(request.reply, &[])
}

/// 38: who consumes for a group.
pub fn list(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let group = ConsumerGroup::decode(request.header)?.consumer_group;
    let ids = broker.membership.client_ids(group);
    if ids.is_empty() {
        let remark = format!("no consumer for this group, {group}");
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let list = ConsumerList { consumer_id_list: ids.iter().map(|id| id.to_string()).collect() };
    answers.body(request.reply, list.encode())
}

/// 46: whether a subscription can be served.
pub fn check_config(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let subscription = CheckClientConfig::decode(request.body)?.subscription;
    if !subscription.is_by_tags() {
        broker.filters.selection(
            &subscription.topic,
            &subscription.expression_type,
            &subscription.expression,
        )?;
    }
    answers.success(request.reply, &[])
}
