//! Subscription groups: 200, 201, 207, 225, 352.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::groups::{
    DeleteGroup, GroupConfigList, GroupRequest, SubscriptionGroupConfig,
};
use skylark_protocol::command::register::DataVersion;
use skylark_protocol::header::FieldError;

use crate::audit;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::{Answers, Handled, Refusal, Request, unchanged};
use crate::folds::groups::{
    ExponentialRetry, GroupConfig, GroupDeleted, GroupPut, RetryPolicy, RetryPolicyKind, Subscription,
};
use crate::handlers::topics::version_to_wire;
use crate::names;
use crate::{quotas, suppression};

/// The longest delay that a retry policy may name, and how many of them.
const DELAY_MS_MAX: i64 = 366 * 24 * 3600 * 1000;
const RETRY_DELAYS_MAX: usize = 1024;

/// 200: creates a group or changes it. Answered once the folds have it.
pub fn put(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    put_all(broker, request, answers, &[SubscriptionGroupConfig::decode(request.body)?])
}

/// 225: the same for several groups, of which either all are changed or none.
pub fn put_list(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    put_all(broker, request, answers, &GroupConfigList::decode(request.body)?.group_config_list)
}

/// Creates or changes groups, as one append unit. A name may come again: what comes later counts.
fn put_all(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    asked: &[SubscriptionGroupConfig],
) -> Handled {
    let mut wanted = BTreeMap::new();
    for wire in asked {
        if let Err(error) = names::check_group(&wire.group_name) {
            return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()));
        }
        check_attributes(&wire.attributes)?;
        wanted.insert(&wire.group_name, from_wire(wire)?);
    }
    let changed = broker.change(|catalog| {
        for (group, config) in &mut wanted {
            let before = catalog.groups.get(group).map(|before| before.attributes.clone());
            config.attributes = changed_attributes(before.unwrap_or_default(), &config.attributes);
        }
        wanted.retain(|group, config| catalog.groups.get(group) != Some(config));
        let records = wanted.into_iter();
        records.map(|(group, config)| ControlRecord::of(&GroupPut { group: group.clone(), config })).collect()
    });
    let reply = request.reply;
    match changed {
        Ok(Some(end)) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
        Ok(None) => answers.success(reply, &[]),
        Err(error) => unchanged(&error),
    }
}

/// 207: deletes a group, with its offsets if the request says so. Answered once the folds have it.
pub fn delete(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let DeleteGroup { group, clean_offset: with_offsets } = DeleteGroup::decode(request.header)?;
    let by = audit::mover(broker, request);
    let decide = |catalog: &Catalog| {
        if catalog.groups.get(group).is_none() {
            return Vec::new();
        }
        let is_lost = |of: &str, _topic: &str| with_offsets && of == group;
        let lost = audit::deleted(&broker.offsets.lock(), is_lost);
        let deleted = ControlRecord::of(&GroupDeleted { group: group.to_owned(), with_offsets });
        [deleted].into_iter().chain(broker.audit.record(&by, lost)).collect()
    };
    let reply = request.reply;
    match broker.delete(decide) {
        Ok(Some(end)) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
        // As with RocketMQ, to delete what is not there is a success.
        Ok(None) => answers.success(reply, &[]),
        Err(error) => unchanged(&error),
    }
}

/// 352: one group.
pub fn get(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let group = GroupRequest::decode(request.header)?.group;
    let catalog = broker.catalog.read();
    match catalog.groups.get(group) {
        Some(config) => answers.body(request.reply, to_wire(group, config).encode()),
        None => {
            let remark = format!("No group in this broker. group: {group}");
            Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark))
        }
    }
}

/// 201: all groups.
pub fn all(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct GroupTable<'a> {
        data_version: DataVersion,
        // Nothing is forbidden to a group yet; clients fail when the table is missing.
        forbidden_table: BTreeMap<&'a str, ()>,
        subscription_group_table: BTreeMap<&'a str, SubscriptionGroupConfig>,
    }
    let catalog = broker.catalog.read();
    let table = GroupTable {
        data_version: version_to_wire(catalog.groups.version()),
        forbidden_table: BTreeMap::new(),
        subscription_group_table: catalog
            .groups
            .iter()
            .map(|(name, config)| (name, to_wire(name, config)))
            .collect(),
    };
    answers.body(request.reply, serde_json::to_vec(&table).expect("a table of plain fields has a JSON form"))
}

fn to_wire(name: &str, config: &GroupConfig) -> SubscriptionGroupConfig {
    let subscriptions = config.subscriptions.as_ref().map(|subscriptions| {
        let wire = |subscription: &Subscription| {
            json!({
                "topic": subscription.topic,
                "expressionType": subscription.expression_type,
                "expression": subscription.expression,
                "version": subscription.version,
            })
        };
        subscriptions.iter().map(wire).collect()
    });
    SubscriptionGroupConfig {
        attributes: config.attributes.clone(),
        broker_id: i64::try_from(config.broker_id).unwrap_or(i64::MAX),
        consume_broadcast_enable: config.broadcast,
        consume_enable: config.consume,
        consume_from_min_enable: config.consume_from_min,
        consume_message_orderly: config.orderly,
        consume_timeout_minute: config.consume_timeout_minutes,
        group_name: name.to_owned(),
        group_retry_policy: policy_to_wire(&config.retry_policy),
        group_sys_flag: config.sys_flag,
        notify_consumer_ids_changed_enable: config.notify_members,
        retry_max_times: config.retry_times_max,
        retry_queue_nums: i32::try_from(config.retry_queues).unwrap_or(i32::MAX),
        subscription_data_set: subscriptions,
        which_broker_when_consume_slowly: i64::try_from(config.broker_id_when_slow).unwrap_or(i64::MAX),
    }
}

/// Refuses values that the broker's own attributes cannot have. Others are kept as they come, as RocketMQ does.
fn check_attributes(changes: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in changes.iter().filter(|(name, _)| !name.starts_with('-')) {
        let name = name.trim_start_matches('+');
        let is_known = match name {
            suppression::ATTRIBUTE => suppression::is_attribute_value(value),
            name if quotas::Attribute::of(name).is_some() => quotas::Attribute::may_be(value),
            _ => true,
        };
        if !is_known {
            let remark = format!("attribute {name} cannot be {value}");
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
    }
    Ok(())
}

/// Attributes after changes: names with the sign `+` are set, those with `-` removed. A name without a sign, as
/// whoever copies a group sends what was shown, is set.
fn changed_attributes(
    mut attributes: BTreeMap<String, String>,
    changes: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (name, value) in changes {
        match name.strip_prefix('-') {
            Some(name) => attributes.remove(name),
            None => attributes.insert(name.strip_prefix('+').unwrap_or(name).to_owned(), value.clone()),
        };
    }
    attributes
}

fn policy_to_wire(policy: &RetryPolicy) -> Json {
    let mut wire = match policy.kind {
        RetryPolicyKind::Exponential => json!({"type": "EXPONENTIAL"}),
        RetryPolicyKind::Customized => json!({"type": "CUSTOMIZED"}),
    };
    if let Some(ExponentialRetry { initial, max, multiplier }) = policy.exponential {
        wire["exponentialRetryPolicy"] = json!({"initial": initial, "max": max, "multiplier": multiplier});
    }
    if let Some(next) = &policy.customized {
        wire["customizedRetryPolicy"] = json!({ "next": next });
    }
    wire
}

fn from_wire(wire: &SubscriptionGroupConfig) -> Result<GroupConfig, Refusal> {
    let whole = |field: &'static str, number: i64| {
        u64::try_from(number)
            .map_err(|_| FieldError::invalid(field, "a number from 0 on", &number.to_string()))
    };
    let retry_queues = u32::try_from(wire.retry_queue_nums).map_err(|_| {
        FieldError::invalid("retryQueueNums", "a number from 0 on", &wire.retry_queue_nums.to_string())
    })?;
    let subscriptions = wire.subscription_data_set.as_ref().and_then(Json::as_array).map(|list| {
        let text = |item: &Json, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let own = |item: &Json| Subscription {
            topic: text(item, "topic"),
            expression_type: text(item, "expressionType"),
            expression: text(item, "expression"),
            version: item["version"].as_i64().unwrap_or(0),
        };
        list.iter().map(own).collect()
    });
    Ok(GroupConfig {
        consume: wire.consume_enable,
        consume_from_min: wire.consume_from_min_enable,
        broadcast: wire.consume_broadcast_enable,
        orderly: wire.consume_message_orderly,
        retry_queues,
        retry_times_max: wire.retry_max_times,
        retry_policy: policy_from_wire(&wire.group_retry_policy)?,
        broker_id: whole("brokerId", wire.broker_id)?,
        broker_id_when_slow: whole("whichBrokerWhenConsumeSlowly", wire.which_broker_when_consume_slowly)?,
        notify_members: wire.notify_consumer_ids_changed_enable,
        sys_flag: wire.group_sys_flag,
        consume_timeout_minutes: wire.consume_timeout_minute,
        subscriptions,
        attributes: wire.attributes.clone(),
    })
}

fn policy_from_wire(wire: &Json) -> Result<RetryPolicy, Refusal> {
    let kind = match wire["type"].as_str() {
        None | Some("CUSTOMIZED") => RetryPolicyKind::Customized,
        Some("EXPONENTIAL") => RetryPolicyKind::Exponential,
        Some(other) => {
            return Err(
                FieldError::invalid("groupRetryPolicy.type", "CUSTOMIZED or EXPONENTIAL", other).into()
            );
        }
    };
    let policy = RetryPolicy {
        kind,
        exponential: exponential_from_wire(&wire["exponentialRetryPolicy"])?,
        customized: customized_from_wire(&wire["customizedRetryPolicy"])?,
    };
    Ok(policy)
}

fn exponential_from_wire(wire: &Json) -> Result<Option<ExponentialRetry>, FieldError> {
    if wire.is_null() {
        return Ok(None);
    }
    let default = ExponentialRetry::default();
    let number = |name: &'static str, field: &str, default: i64, lowest: i64| match &wire[field] {
        Json::Null => Ok(default),
        given => given.as_i64().filter(|number| (lowest..=DELAY_MS_MAX).contains(number)).ok_or_else(|| {
            FieldError::invalid(name, "a whole number, in milliseconds up to 366 days", &given.to_string())
        }),
    };
    Ok(Some(ExponentialRetry {
        initial: number("exponentialRetryPolicy.initial", "initial", default.initial, 0)?,
        max: number("exponentialRetryPolicy.max", "max", default.max, 0)?,
        multiplier: number("exponentialRetryPolicy.multiplier", "multiplier", default.multiplier, 1)?,
    }))
}

fn customized_from_wire(wire: &Json) -> Result<Option<Vec<i64>>, FieldError> {
    if wire.is_null() {
        return Ok(None);
    }
    let wrong = || {
        let expected = "a list of 1 to 1024 delays in milliseconds up to 366 days";
        FieldError::invalid("customizedRetryPolicy.next", expected, &wire["next"].to_string())
    };
    let next = match &wire["next"] {
        // As in Java, where a policy without a list has the default one.
        Json::Null => return Ok(None),
        next => next.as_array().ok_or_else(wrong)?,
    };
    let delay = |delay: &Json| delay.as_i64().filter(|delay| (0..=DELAY_MS_MAX).contains(delay));
    let delays: Vec<i64> = next.iter().map(delay).collect::<Option<_>>().ok_or_else(wrong)?;
    if (1..=RETRY_DELAYS_MAX).contains(&delays.len()) { Ok(Some(delays)) } else { Err(wrong()) }
}
