//! Whether a pull may be, of which queue it is, and which messages it wants.

use std::sync::Arc;

use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::heartbeat::MessageModel;
use skylark_protocol::command::pull::PullRequest;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::Refusal;
use crate::folds::groups::GroupConfig;
use crate::folds::topics::Perm;
use crate::selection::Selection;

/// The checks of a pull, in RocketMQ's order.
pub(super) fn check(
    catalog: &Catalog,
    group: &GroupConfig,
    pull: &PullRequest<'_>,
) -> Result<QueueId, Refusal> {
    if !group.consume {
        let remark = format!("subscription group no permission, {}", pull.consumer_group);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    let Some((config, queues)) = catalog.topic(pull.topic) else {
        let remark = format!("topic[{}] not exist, apply first please!", pull.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    if !config.perm.allows(Perm::READ) {
        let remark = format!("the topic[{}] pulling message is forbidden", pull.topic);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    let queue = u32::try_from(pull.queue_id).ok().filter(|queue| *queue < config.read_queues);
    queue.and_then(|queue| queues.get(queue as usize).copied()).ok_or_else(|| {
        let remark = format!(
            "queueId[{}] is illegal, topic {} has {} read queues",
            pull.queue_id, pull.topic, config.read_queues
        );
        Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
    })
}

/// Which messages the pull wants: by its own expression, or by what the group's heartbeats say.
pub(super) fn selection(
    broker: &Broker,
    may_broadcast: bool,
    pull: &PullRequest<'_>,
) -> Result<Arc<Selection>, Refusal> {
    if pull.brings_subscription() {
        let selection =
            if pull.is_by_tags() {
                let tags = pull.tag_filter();
                Selection::Tags(tags.map_err(|error| {
                    Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, error.to_string())
                })?)
            } else {
                let expression_type = pull.expression_type.unwrap_or_default();
                let expression = pull.subscription.unwrap_or_default();
                broker.filters.selection(pull.topic, expression_type, expression)?
            };
        return Ok(Arc::new(selection));
    }
    let not_there = || {
        let remark = format!(
            "the consumer's group info not exist: {} has no member that sent a heartbeat",
            pull.consumer_group
        );
        Refusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark)
    };
    let found = broker.membership.subscription(pull.consumer_group, pull.topic).map_err(|_| not_there())?;
    let Some((subscription, model)) = found else {
        let remark = format!(
            "the consumer's subscription not exist: {} does not read {}",
            pull.consumer_group, pull.topic
        );
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark));
    };
    if model == MessageModel::Broadcasting && !may_broadcast {
        let remark = format!("the consumer group[{}] can not consume by broadcast way", pull.consumer_group);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if subscription.stated.version < pull.subscription_version {
        let remark = "the consumer's subscription not latest, send a heartbeat first";
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_NOT_LATEST, remark));
    }
    subscription.selection(&broker.filters).map_err(|refusal| match refusal.code {
        // The heartbeat that stated it could not be told.
        ResponseCode::SUBSCRIPTION_PARSE_FAILED => {
            Refusal::new(ResponseCode::FILTER_DATA_NOT_EXIST, refusal.remark)
        }
        _ => refusal,
    })
}
