//! Topics: 17, 18, 21, 215, 305, 351.

use std::collections::{BTreeMap, BTreeSet};

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::register::{DataVersion as WireVersion, TopicConfigTable};
use skylark_protocol::command::route::TopicList;
use skylark_protocol::command::topics::{
    TopicConfig as WireConfig, TopicConfigList, TopicRequest, UpdateTopic,
};
use skylark_protocol::json;

use crate::audit;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::{Answers, Done, Handled, Refusal, Request, unchanged};
use crate::folds::topics::{FilterType, Perm, TopicConfig, TopicDeleted, TopicPut};
use crate::folds::version::DataVersion;
use crate::message_type;
use crate::names;
use crate::{quotas, suppression};

/// Queues of a topic, at most: each costs memory here and a pull of its own in every consumer.
const QUEUES_MAX: u32 = 1 << 16;

/// 17: creates a topic or changes it. Answered once the folds have it and the nameservers have heard of it.
pub fn put(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = UpdateTopic::decode(request.header)?;
    put_all(broker, request, answers, &[asked])
}

/// 18: the same for several topics, of which either all are changed or none.
pub fn put_list(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let list = TopicConfigList::decode(request.body)?.topic_config_list;
    let attributes: Vec<String> = list.iter().map(|config| attribute_changes(&config.attributes)).collect();
    let asked = list.iter().zip(&attributes).map(|(config, attributes)| UpdateTopic {
        topic: &config.topic_name,
        default_topic: None,
        read_queue_nums: config.read_queue_nums,
        write_queue_nums: config.write_queue_nums,
        perm: config.perm,
        topic_filter_type: Some(&config.topic_filter_type),
        topic_sys_flag: Some(config.topic_sys_flag),
        order: config.order,
        attributes: Some(attributes),
        force: false,
    });
    put_all(broker, request, answers, &asked.collect::<Vec<_>>())
}

/// Creates or changes topics, as one append unit. A name may come again: what comes later counts.
fn put_all(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    asked: &[UpdateTopic<'_>],
) -> Handled {
    let wanted: Vec<TopicConfig> =
        asked.iter().map(|asked| wanted(broker, asked)).collect::<Result<_, _>>()?;
    let mut refusal = None;
    let changed = broker.change(|catalog| match changes(catalog, asked, wanted) {
        Ok(records) => records,
        Err(error) => {
            refusal = Some(error);
            Vec::new()
        }
    });
    let reply = request.reply;
    match (changed, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Ok(Some(end)), None) => {
            answers.registered.hold(end, reply, |out| reply.success(out, &[]));
            Ok(Done::Answered)
        }
        (Ok(None), None) => answers.success(reply, &[]),
        (Err(error), None) => unchanged(&error),
    }
}

/// What a topic is to be, but for its attributes, which depend on those it has.
fn wanted(broker: &Broker, asked: &UpdateTopic<'_>) -> Result<TopicConfig, Refusal> {
    let invalid = |remark: String| Refusal::new(ResponseCode::INVALID_PARAMETER, remark);
    names::check_topic(asked.topic).map_err(|error| invalid(error.to_string()))?;
    if broker.system_topics.contains(asked.topic) {
        return Err(invalid(format!("The topic[{}] is conflict with system topic.", asked.topic)));
    }
    if asked.topic.starts_with(names::LIGHT_PREFIX) {
        return Err(invalid(format!("{} is a light queue's name: those are made by messages", asked.topic)));
    }
    let mixed = format!("+{}={}", message_type::ATTRIBUTE, message_type::MIXED);
    let sets_mixed = |attributes: &str| attributes.split(',').any(|change| change.trim() == mixed);
    if !broker.policy.mixed_message_type && asked.attributes.is_some_and(sets_mixed) {
        return Err(invalid("MIXED message type is not supported.".to_owned()));
    }
    let queues = |name: &str, count: i32| {
        let count = u32::try_from(count).ok().filter(|count| (1..=QUEUES_MAX).contains(count));
        count.ok_or_else(|| invalid(format!("{name} must be between 1 and {QUEUES_MAX}")))
    };
    let perm = u8::try_from(asked.perm).ok().filter(|perm| *perm < 16);
    let perm =
        Perm(perm.ok_or_else(|| invalid(format!("perm {} is none: 2 is write, 4 is read", asked.perm)))?);
    let filter = match asked.topic_filter_type {
        None | Some("" | "SINGLE_TAG") => FilterType::SingleTag,
        Some("MULTI_TAG") => FilterType::MultiTag,
        Some(other) => {
            return Err(invalid(format!("topicFilterType {other} is neither SINGLE_TAG nor MULTI_TAG")));
        }
    };
    Ok(TopicConfig {
        read_queues: queues("readQueueNums", asked.read_queue_nums)?,
        write_queues: queues("writeQueueNums", asked.write_queue_nums)?,
        perm,
        filter,
        sys_flag: asked.topic_sys_flag.unwrap_or(0),
        order: asked.order,
        attributes: BTreeMap::new(),
    })
}

/// The records that make topics what they are to be; none for those that are so already.
fn changes(
    catalog: &Catalog,
    asked: &[UpdateTopic<'_>],
    wanted: Vec<TopicConfig>,
) -> Result<Vec<ControlRecord>, Refusal> {
    let mut changed: BTreeMap<&str, TopicConfig> = BTreeMap::new();
    for (asked, mut config) in asked.iter().zip(wanted) {
        let before = changed.get(asked.topic).or_else(|| catalog.topics.get(asked.topic));
        let kept = before.map(|config| config.attributes.clone()).unwrap_or_default();
        config.attributes = attributes(kept, before.is_some(), asked.attributes.unwrap_or_default())?;
        if before != Some(&config) {
            changed.insert(asked.topic, config);
        }
    }
    let records = changed.into_iter();
    Ok(records
        .map(|(topic, config)| ControlRecord::of(&TopicPut { topic: topic.to_owned(), config }))
        .collect())
}

/// 215: deletes a topic, with every group's offsets in it, and what groups that pop are to get of it again. Answered once
/// the folds have it: nothing of it is found from then on, and should it be made again, it begins behind what it held.
pub fn delete(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let topic = TopicRequest::decode(request.header)?.topic;
    if topic.trim().is_empty() {
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, "The specified topic is blank."));
    }
    if broker.system_topics.contains(topic) {
        let remark = format!("The topic[{topic}] is conflict with system topic.");
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    let by = audit::mover(broker, request);
    let decide = |catalog: &Catalog| {
        if catalog.topics.get(topic).is_none() {
            return Vec::new();
        }
        let topics: Vec<String> = [topic.to_owned()].into_iter().chain(pop_retries(catalog, topic)).collect();
        let lost =
            audit::deleted(&broker.offsets.lock(), |_group, of| topics.iter().any(|topic| topic == of));
        let deleted = topics.into_iter().map(|topic| ControlRecord::of(&TopicDeleted { topic }));
        deleted.chain(broker.audit.record(&by, lost)).collect()
    };
    let reply = request.reply;
    match broker.delete(decide) {
        Ok(Some(end)) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
        // As with RocketMQ, to delete what is not there is a success.
        Ok(None) => answers.success(reply, &[]),
        Err(error) => unchanged(&error),
    }
}

/// The topics from which groups get those messages of a topic again that they popped. One whose name may stand for another
/// group and topic too, with the border between them elsewhere, stays.
fn pop_retries(catalog: &Catalog, topic: &str) -> Vec<String> {
    let is_another = |group: &str, of: &str| {
        of != topic && catalog.groups.get(group).is_some() && catalog.topics.get(of).is_some()
    };
    let is_shared = |name: &str| {
        let rest = name.strip_prefix(names::RETRY_PREFIX).unwrap_or(name);
        let mut borders = rest.match_indices('_').map(|(at, _)| (&rest[..at], &rest[at + 1..]));
        borders.any(|(group, of)| is_another(group, of))
    };
    let retries = catalog.groups.iter().filter_map(|(group, _)| catalog.pop_retry_topic(group, topic));
    retries.filter(|name| *name != topic && !is_shared(name)).collect()
}

/// 351: one topic.
pub fn get(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let topic = TopicRequest::decode(request.header)?.topic;
    let catalog = broker.catalog.read();
    match catalog.topics.get(topic) {
        Some(config) => answers.body(request.reply, to_wire(topic, config).encode()),
        None => {
            let remark = format!("No topic in this broker. topic: {topic}");
            Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark))
        }
    }
}

/// 21: all topics.
pub fn all(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let table = table(&broker.catalog.read());
    answers.body(request.reply, json::to_vec(&table))
}

/// 305: the system's own topics.
pub fn system(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let topic_list = broker.system_topics.names().map(str::to_owned).collect();
    answers.body(request.reply, TopicList { broker_addr: None, topic_list }.encode())
}

/// All topics but light queues, with their version, as the wire says it.
pub fn table(catalog: &Catalog) -> TopicConfigTable {
    let topics = catalog.topics.iter().filter(|(name, _)| !names::is_light(name));
    TopicConfigTable {
        data_version: version_to_wire(catalog.topics.version()),
        topic_config_table: topics.map(|(name, config)| (name.to_owned(), to_wire(name, config))).collect(),
        ..TopicConfigTable::default()
    }
}

/// A table's version, as the wire says it.
pub fn version_to_wire(version: DataVersion) -> WireVersion {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    WireVersion {
        counter: signed(version.counter),
        state_version: signed(version.state_version),
        timestamp: signed(version.timestamp),
    }
}

/// A topic's configuration, as the wire says it.
pub fn to_wire(name: &str, config: &TopicConfig) -> WireConfig {
    let queues = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let filter = match config.filter {
        FilterType::SingleTag => "SINGLE_TAG",
        FilterType::MultiTag => "MULTI_TAG",
    };
    WireConfig {
        attributes: config.attributes.clone(),
        order: config.order,
        perm: config.perm.0.into(),
        read_queue_nums: queues(config.read_queues),
        topic_filter_type: filter.to_owned(),
        topic_name: name.to_owned(),
        topic_sys_flag: config.sys_flag,
        write_queue_nums: queues(config.write_queues),
    }
}

/// Attributes whose names bear signs, as code 17 writes them.
fn attribute_changes(attributes: &BTreeMap<String, String>) -> String {
    let changes = attributes.iter().map(|(name, value)| match name.strip_prefix('-') {
        Some(_) => name.clone(),
        None => format!("{name}={value}"),
    });
    changes.collect::<Vec<_>>().join(",")
}

/// Attributes after the changes `text` asks for: `+key=value` and `-key`, separated by commas.
fn attributes(
    mut attributes: BTreeMap<String, String>,
    exists: bool,
    text: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    let wrong = |what: String| Refusal::new(ResponseCode::SYSTEM_ERROR, what);
    let mut changed = BTreeSet::new();
    for change in text.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        let key = change.get(1..).unwrap_or_default().split('=').next().unwrap_or_default();
        if !changed.insert(key) {
            return Err(wrong(format!("alter duplication key. key: {key}")));
        }
        if let Some(key) = change.strip_prefix('-') {
            check_attribute(key, None, exists).map_err(wrong)?;
            if attributes.remove(key).is_none() {
                return Err(wrong(format!(
                    "attempt to delete the attribute {key}, which the topic does not have"
                )));
            }
        } else if let Some((key, value)) = change.strip_prefix('+').and_then(|change| change.split_once('='))
        {
            check_attribute(key, Some(value), exists).map_err(wrong)?;
            attributes.insert(key.to_owned(), value.to_owned());
        } else {
            return Err(wrong(format!("`{change}` changes no attribute: write +key=value or -key")));
        }
    }
    Ok(attributes)
}

/// The attributes that RocketMQ knows, and ours; what this release cannot do is refused, not kept for show.
fn check_attribute(key: &str, value: Option<&str>, exists: bool) -> Result<(), String> {
    let known = match (key, value) {
        ("queue.type" | "cleanup.policy", _) if exists => {
            return Err(format!("attempt to update an unchangeable attribute. key: {key}"));
        }
        (key, value) if quotas::Attribute::of(key).is_some() => value.is_none_or(quotas::Attribute::may_be),
        (suppression::ATTRIBUTE, value) => value.is_none_or(suppression::is_attribute_value),
        (_, None) => {
            matches!(key, message_type::ATTRIBUTE | "reserve.time" | "queue.type" | "cleanup.policy")
        }
        ("queue.type", Some(value)) => value == "SimpleCQ",
        ("cleanup.policy", Some(value)) => value == "DELETE",
        (message_type::ATTRIBUTE, Some(value)) => message_type::is_attribute_value(value),
        ("reserve.time", Some(value)) => value.parse::<i64>().is_ok_and(|time| time >= -1),
        _ => return Err(format!("unsupported key: {key}")),
    };
    if known { Ok(()) } else { Err(format!("attribute {key} cannot be {}", value.unwrap_or("removed"))) }
}
