//! Who consumes which queues, and by which requests: 400, 401 and 402.

use std::collections::BTreeMap;

use serde_json::json;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::assignment::{
    Assignment, Assignments, QueryAssignment, RequestMode, SetRequestMode,
};
use skylark_protocol::command::heartbeat::MessageModel;
use skylark_protocol::command::locks::MessageQueue;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::folds::request_modes::{self, RequestModeSet};
use crate::light;
use crate::names;

/// 400: the queues of a client. None at all, which lets it keep what it has, if the broker does not know its group, the
/// topic, or the rule.
pub fn query(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = QueryAssignment::decode(request.body)?;
    let catalog = broker.catalog.read();
    let mode = catalog.request_modes.get(&asked.topic, &asked.consumer_group);
    let readable = catalog.topics.get(&asked.topic).map(|config| config.read_queues);
    drop(catalog);
    let numbers = readable.and_then(|queues| {
        let queues: Vec<i32> = (0..queues).filter_map(|queue| i32::try_from(queue).ok()).collect();
        if asked.message_model == MessageModel::Broadcasting {
            return Some(queues);
        }
        let members = broker.membership.client_ids(&asked.consumer_group);
        let mut members: Vec<&str> = members.iter().map(|member| &**member).collect();
        members.sort_unstable();
        let rule = Rule::named(&asked.strategy_name).filter(|_| !members.is_empty())?;
        Some(share(rule, &asked.client_id, &queues, &members, mode.filter(|mode| mode.pops)))
    });
    let mode =
        mode.map_or(RequestMode::Pull, |mode| if mode.pops { RequestMode::Pop } else { RequestMode::Pull });
    let assignment = |queue_id| Assignment {
        message_queue: MessageQueue {
            broker_name: broker.identity.broker.clone(),
            queue_id,
            topic: asked.topic.clone(),
        },
        mode,
    };
    let assignments = numbers.map(|numbers| numbers.into_iter().map(assignment).collect());
    answers.body(request.reply, Assignments { message_queue_assignments: assignments }.encode())
}

/// 401: says by which requests a group gets a topic's messages. Answered once the folds have it.
pub fn set_mode(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = SetRequestMode::decode(request.body)?;
    if asked.topic.starts_with(names::RETRY_PREFIX) {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "retry topic is not allowed to set mode"));
    }
    if let Some(handled) = light::make_for_reading(broker, &asked.topic) {
        return handled;
    }
    let catalog = broker.catalog.read();
    if catalog.topics.get(&asked.topic).is_none() {
        let remark = format!("topic[{}] not exist", asked.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    }
    if catalog.groups.get(&asked.consumer_group).is_none() {
        let remark = format!("subscription group [{}] does not exist", asked.consumer_group);
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    drop(catalog);
    let mode =
        request_modes::RequestMode { pops: asked.mode == RequestMode::Pop, share: asked.pop_share_queue_num };
    let set = RequestModeSet { topic: asked.topic, group: asked.consumer_group, mode };
    let reply = request.reply;
    match broker.append_one(&set) {
        Ok(end) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
        Err(error) => refused(&error),
    }
}

/// 402: everything that was said by 401, by topic and group.
pub fn all_modes(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let mut table: BTreeMap<&str, BTreeMap<&str, serde_json::Value>> = BTreeMap::new();
    let catalog = broker.catalog.read();
    for (topic, group, mode) in catalog.request_modes.iter() {
        let body = SetRequestMode {
            consumer_group: group.to_owned(),
            mode: if mode.pops { RequestMode::Pop } else { RequestMode::Pull },
            pop_share_queue_num: mode.share,
            topic: topic.to_owned(),
        };
        table.entry(topic).or_default().insert(group, json!(body));
    }
    answers.body(request.reply, json!({ "messageRequestModeMap": table }).to_string().into_bytes())
}

/// How queues are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Neighbouring queues to the same member.
    Average,
    /// Neighbouring queues to neighbouring members.
    Circle,
}

impl Rule {
    fn named(name: &str) -> Option<Self> {
        match name {
            "AVG" => Some(Self::Average),
            "AVG_BY_CIRCLE" => Some(Self::Circle),
            _ => None,
        }
    }

    /// The queues of the member at this place.
    fn share(self, member: usize, queues: &[i32], members: usize) -> Vec<i32> {
        match self {
            Self::Circle => queues.iter().skip(member).step_by(members).copied().collect(),
            Self::Average => {
                let (each, more) = (queues.len() / members, queues.len() % members);
                let first = member * each + member.min(more);
                let count = each + usize::from(member < more);
                queues.iter().skip(first).take(count).copied().collect()
            }
        }
    }
}

/// The queues of a client; -1 where it pops from all of them. None if it is no member.
fn share(
    rule: Rule,
    client_id: &str,
    queues: &[i32],
    members: &[&str],
    pops: Option<request_modes::RequestMode>,
) -> Vec<i32> {
    let member = members.iter().position(|member| *member == client_id);
    let of = |member: usize| rule.share(member, queues, members.len());
    let Some(pops) = pops else { return member.map(of).unwrap_or_default() };
    let others = usize::try_from(pops.share).unwrap_or(0);
    if others == 0 || others + 1 >= members.len() {
        return if queues.is_empty() { Vec::new() } else { vec![-1] };
    }
    let Some(member) = member else { return Vec::new() };
    if members.len() > queues.len() {
        // So that each has one.
        return queues.get(member % queues.len().max(1)).copied().into_iter().collect();
    }
    let mut own: Vec<i32> =
        (member..=member + others).flat_map(|member| of(member % members.len())).collect();
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: [i32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    const MEMBERS: [&str; 3] = ["a", "b", "c"];

    fn pops(share: i32) -> Option<request_modes::RequestMode> {
        Some(request_modes::RequestMode { pops: true, share })
    }

    #[test]
    fn queues_are_shared_out_as_clients_do_it() {
        let shares = |rule| MEMBERS.map(|member| share(rule, member, &QUEUES, &MEMBERS, None));
        assert_eq!(shares(Rule::Average), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(shares(Rule::Circle), [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
        assert!(share(Rule::Average, "stranger", &QUEUES, &MEMBERS, None).is_empty());
        let few = ["a", "b", "c"].map(|member| share(Rule::Average, member, &[0, 1], &MEMBERS, None));
        assert_eq!(few, [vec![0], vec![1], vec![]]);
    }

    #[test]
    fn who_pops_has_all_queues_or_some_of_others() {
        for all in [-1, 0, 2, 9] {
            assert_eq!(share(Rule::Average, "a", &QUEUES, &MEMBERS, pops(all)), [-1], "{all}");
        }
        assert_eq!(share(Rule::Average, "a", &QUEUES, &MEMBERS, pops(1)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(share(Rule::Average, "c", &QUEUES, &MEMBERS, pops(1)), [0, 1, 2, 6, 7]);
        assert_eq!(share(Rule::Average, "c", &[0, 1], &MEMBERS, pops(1)), [0]);
    }
}
