//! Where a message goes: its topic, which may be made for it, and its queue.

use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::command::send_back::SendBack;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::{Done, Handled, Refusal, unchanged};
use crate::folds::topics::{FilterType, Perm, TopicConfig, TopicPut};
use crate::message_type::MessageType;
use crate::names;
use crate::quotas::Limits;
use crate::suppression;

/// The queue that a message goes to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The queue.
    pub queue: QueueId,
    /// Its number.
    pub queue_id: u32,
    /// Whether the topic's messages have several tags.
    pub multi_tags: bool,
    /// Whether a message that was sent to it before is not stored again.
    pub unique: bool,
    /// Of which type its messages have to be.
    pub takes: Option<MessageType>,
    /// What its topic, and the sender's group, may send.
    pub limits: [Limits; 2],
}

impl Target {
    /// Whether a message of this type may go there.
    ///
    /// # Errors
    /// When not.
    pub fn check(&self, topic: &str, found: MessageType) -> Result<(), Refusal> {
        match self.takes {
            Some(takes) if takes != found => {
                let (takes, found) = (takes.name(), found.name());
                let remark =
                    format!("the topic {topic} takes messages of type {takes}, this one is of type {found}");
                Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark))
            }
            _ => Ok(()),
        }
    }
}

/// What a look for the target came to.
pub enum Sought {
    /// There it is.
    Found(Target),
    /// The topic is missing, and is being made.
    Made(Handled),
}

/// The queue of the request's topic that it asks for, or any.
///
/// # Errors
/// When there is no such queue.
pub fn seek(broker: &Broker, send: &SendRequest<'_>) -> Result<Sought, Refusal> {
    let catalog = broker.catalog.read();
    match catalog.topics.get(send.topic).zip(catalog.derived(send.topic)) {
        Some((config, derived)) => {
            let queue_id = pick(broker, config, send.queue_id)?;
            let group = catalog.groups.get(send.producer_group);
            let unique =
                derived.unique || group.is_some_and(|group| suppression::is_asked_for(&group.attributes));
            let takes = derived.takes.filter(|_| broker.policy.check_message_types);
            let limits = [derived.limits, Limits::of_group(group)];
            Ok(Sought::Found(Target { unique, takes, limits, ..target(config, &derived.queues, queue_id) }))
        }
        None => {
            drop(catalog);
            let topic = send.topic;
            Ok(Sought::Made(create(broker, topic, |catalog| template(broker, catalog, send))))
        }
    }
}

/// Whether a message for a group's retry topic is a dead letter instead: it was tried too often, or by a group that
/// consumes in order, whose consumers retry on their own and send only what they give up.
///
/// # Errors
/// When there is no such group.
pub fn is_dead(broker: &Broker, group: &str, version: i32, send: &SendRequest<'_>) -> Result<bool, Refusal> {
    let catalog = broker.catalog.read();
    let config = catalog.groups.get(group).ok_or_else(|| no_group(group))?;
    let asked = send.max_reconsume_times.filter(|_| version >= SendBack::LIMIT_SINCE);
    let times_max = asked.unwrap_or(config.retry_times_max);
    drop(catalog);
    Ok(send.reconsume_times > times_max || broker.locks.any_held(broker.clock.monotonic(), group))
}

/// The queue of a group's dead letters.
pub fn dead_letters(broker: &Broker, group: &str) -> Sought {
    let topic = names::dlq_topic(group);
    let catalog = broker.catalog.read();
    match catalog.topic(&topic) {
        Some((config, queues)) => Sought::Found(target(config, queues, 0)),
        None => {
            drop(catalog);
            Sought::Made(create(broker, &topic, |_| Ok(TopicConfig::with_queues(1))))
        }
    }
}

/// A group that does not exist.
pub fn no_group(group: &str) -> Refusal {
    let remark = format!("subscription group not exist, {group}");
    Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
}

/// Makes a topic, unless it is there already, as `config` says; what needs it is looked at again once the folds know
/// it.
pub fn create(
    broker: &Broker,
    topic: &str,
    config: impl FnOnce(&Catalog) -> Result<TopicConfig, Refusal>,
) -> Handled {
    let mut refusal = None;
    let changed = broker.change(|catalog| {
        if catalog.topics.get(topic).is_some() {
            return Vec::new();
        }
        match config(catalog) {
            Ok(config) => vec![ControlRecord::of(&TopicPut { topic: topic.to_owned(), config })],
            Err(error) => {
                refusal = Some(error);
                Vec::new()
            }
        }
    });
    match (changed, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Ok(end), None) => Ok(Done::After(end.unwrap_or(broker.applied.get()))),
        (Err(error), None) => unchanged(&error),
    }
}

/// The queue with this number, which is below the topic's counts. What is sent there is stored, whatever was before, and
/// however much.
pub fn target(config: &TopicConfig, queues: &[QueueId], queue_id: u32) -> Target {
    let queue = *queues.get(queue_id as usize).expect("a topic has all queues below its counts");
    let multi_tags = config.filter == FilterType::MultiTag;
    Target { queue, queue_id, multi_tags, unique: false, takes: None, limits: Default::default() }
}

/// The queue a message goes to: the one asked for, or any.
fn pick(broker: &Broker, config: &TopicConfig, asked: i32) -> Result<u32, Refusal> {
    let Ok(queue) = u32::try_from(asked) else {
        return Ok(broker.any() % config.write_queues.max(1));
    };
    let count = config.write_queues.max(config.read_queues);
    if queue < count {
        return Ok(queue);
    }
    let remark = format!("request queueId[{asked}] is illegal, the topic has {count} queues");
    Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark))
}

/// The configuration that a topic gets which is created by a send to it.
fn template(broker: &Broker, catalog: &Catalog, send: &SendRequest<'_>) -> Result<TopicConfig, Refusal> {
    let topic = send.topic;
    let unknown = |why: &str| {
        let remark = format!("topic[{topic}] not exist, {why}");
        Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark))
    };
    if let Some(group) = topic.strip_prefix(names::RETRY_PREFIX) {
        if catalog.groups.get(group).is_none() {
            return Err(no_group(group));
        }
        return Ok(TopicConfig::with_queues(1));
    }
    if !broker.policy.auto_create_topics {
        return unknown("and topics are not created automatically here; create it first");
    }
    let Some(default) = catalog.topics.get(send.default_topic) else {
        return unknown("nor does the default topic that it would be made after; apply first please");
    };
    if !default.perm.allows(Perm::INHERIT) {
        return unknown("and no topic may be made after the default topic of the request");
    }
    let wanted = u32::try_from(send.default_topic_queue_nums).unwrap_or(0);
    let queues = wanted.clamp(1, default.write_queues.max(1));
    Ok(TopicConfig { perm: default.perm.without(Perm::INHERIT), ..TopicConfig::with_queues(queues) })
}
