//! Who is connected: 203, 204, 328.

use std::time::Duration;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::connections::{
    Connection, ConsumerConnection, ProducerConnection, ProducerGroup, ProducerInfo, ProducerTable,
};
use skylark_protocol::command::membership::ConsumerGroup;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::membership::Member;

/// 203: who consumes for a group, and what.
pub fn consumers(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let name = ConsumerGroup::decode(request.header)?.consumer_group;
    let Some(group) = broker.membership.consumers(name) else {
        let remark = format!("the consumer group[{name}] not online");
        return Err(Refusal::new(ResponseCode::CONSUMER_NOT_ONLINE, remark));
    };
    let subscriptions = group.subscriptions.into_iter();
    let found = ConsumerConnection {
        connection_set: group.members.values().map(connection).collect(),
        consume_from_where: group.consume_from,
        consume_type: group.consume_type,
        message_model: group.model,
        subscription_table: subscriptions
            .map(|(topic, subscription)| (topic.to_string(), subscription.stated.clone()))
            .collect(),
    };
    answers.body(request.reply, found.encode())
}

/// 204: who produces for a group.
pub fn producers(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let group = ProducerGroup::decode(request.header)?.producer_group;
    let members = broker.membership.producers(group);
    if members.is_empty() {
        let remark = format!("the producer group[{group}] not exist");
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let found = ProducerConnection { connection_set: members.iter().map(connection).collect() };
    answers.body(request.reply, found.encode())
}

/// 328: all producers.
pub fn all_producers(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let (now, wall_ms) = (broker.clock.monotonic(), broker.clock.wall_ms());
    let groups = broker.membership.all_producers().into_iter();
    let data = groups.map(|(group, members)| {
        let infos = members.iter().map(|member| producer(member, now, wall_ms));
        (group.to_string(), infos.collect())
    });
    answers.body(request.reply, ProducerTable { data: data.collect() }.encode())
}

fn connection(member: &Member) -> Connection {
    Connection {
        client_addr: member.address.to_string(),
        client_id: member.client_id.to_string(),
        language: member.language,
        version: member.version,
    }
}

fn producer(member: &Member, now: Duration, wall_ms: u64) -> ProducerInfo {
    let silent_ms = u64::try_from(now.saturating_sub(member.seen).as_millis()).unwrap_or(u64::MAX);
    ProducerInfo {
        client_id: member.client_id.to_string(),
        language: member.language,
        last_update_timestamp: i64::try_from(wall_ms.saturating_sub(silent_ms)).unwrap_or(i64::MAX),
        remote_address: member.address.to_string(),
        version: member.version,
    }
}
