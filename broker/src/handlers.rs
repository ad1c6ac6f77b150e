//! Requests, by family. A handler is a function of the broker's state and a request; it answers at once, leaves an
//! answer to be held, or says what it has to wait for.

use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_storage::{OwnedRecord, PhysicalOffset};

use crate::broker::Broker;
use crate::context::{Answers, Done, Handled, Refusal, Request};
use crate::folds::kinds;

pub mod acks;
pub mod assignment;
pub mod audit;
pub mod broker_config;
pub mod cleaning;
pub mod connections;
pub mod consume_stats;
pub mod dead_letters;
pub mod groups;
pub mod lag;
pub mod locks;
pub mod membership;
pub mod messages;
pub mod offset_tables;
pub mod offsets;
pub mod pop;
pub mod pull;
pub mod queues;
pub mod recalls;
pub mod relay;
pub mod replication;
pub mod resets;
pub mod runtime;
pub mod send;
pub mod send_back;
pub mod statistics;
pub mod store_times;
pub mod subscribers;
pub mod tally;
pub mod topic_stats;
pub mod topics;
pub mod transactions;

/// Hands a request to its family.
///
/// # Errors
/// A refusal, which the session writes.
pub fn handle(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    match request.header.request_code() {
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => {
            send::send(broker, request, answers)
        }
        RequestCode::END_TRANSACTION => transactions::end(broker, request, answers),
        RequestCode::RESUME_CHECK_HALF_MESSAGE => transactions::resume_check(broker, request, answers),
        RequestCode::SKYLARK_LIST_TRANSACTIONS => transactions::list(broker, request),
        RequestCode::SKYLARK_LIST_LAG => lag::list(broker, request),
        RequestCode::SKYLARK_LIST_LAG_EVENTS => lag::events(broker, request, answers),
        RequestCode::SKYLARK_LIST_DEAD_LETTERS => dead_letters::list(broker, request),
        RequestCode::SKYLARK_RESEND_DEAD_LETTERS => dead_letters::resend(broker, request, answers),
        RequestCode::SKYLARK_PURGE_DEAD_LETTERS => dead_letters::purge(broker, request, answers),
        RequestCode::SKYLARK_AUDIT_OFFSETS => audit::offsets(broker, request, answers),
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => pull::pull(broker, request, answers),
        RequestCode::POP_MESSAGE => pop::pop(broker, request, answers),
        RequestCode::PEEK_MESSAGE => pop::peek(broker, request, answers),
        RequestCode::NOTIFICATION => pop::notification(broker, request, answers),
        RequestCode::POLLING_INFO => pop::polling_info(broker, request, answers),
        RequestCode::ACK_MESSAGE => acks::ack(broker, request, answers),
        RequestCode::BATCH_ACK_MESSAGE => acks::batch(broker, request, answers),
        RequestCode::CHANGE_MESSAGE_INVISIBLETIME => acks::prolong(broker, request, answers),
        RequestCode::QUERY_ASSIGNMENT => assignment::query(broker, request, answers),
        RequestCode::SET_MESSAGE_REQUEST_MODE => assignment::set_mode(broker, request, answers),
        RequestCode::GET_ALL_MESSAGE_REQUEST_MODE => assignment::all_modes(broker, request, answers),
        RequestCode::QUERY_CONSUMER_OFFSET => offsets::query(broker, request, answers),
        RequestCode::UPDATE_CONSUMER_OFFSET => offsets::update(broker, request, answers),
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => offsets::search(broker, request, answers),
        RequestCode::GET_MAX_OFFSET => offsets::max(broker, request, answers),
        RequestCode::GET_MIN_OFFSET => offsets::min(broker, request, answers),
        RequestCode::GET_EARLIEST_MSG_STORETIME => offsets::earliest(broker, request, answers),
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => resets::reset(broker, request, answers),
        RequestCode::CLONE_GROUP_OFFSET => resets::clone(broker, request, answers),
        RequestCode::QUERY_MESSAGE => messages::query(broker, request, answers),
        RequestCode::VIEW_MESSAGE_BY_ID => messages::view(broker, request, answers),
        RequestCode::RECALL_MESSAGE => recalls::recall(broker, request, answers),
        RequestCode::GET_CONSUMER_RUNNING_INFO => relay::running_info(broker, request, answers),
        RequestCode::CONSUME_MESSAGE_DIRECTLY => relay::consume_directly(broker, request, answers),
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => relay::consumer_status(broker, request, answers),
        RequestCode::SEND_REPLY_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2 => {
            relay::reply(broker, request, answers)
        }
        RequestCode::HEART_BEAT => membership::heartbeat(broker, request, answers),
        RequestCode::UNREGISTER_CLIENT => membership::unregister(broker, request, answers),
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => membership::list(broker, request, answers),
        RequestCode::CHECK_CLIENT_CONFIG => membership::check_config(broker, request, answers),
        RequestCode::LOCK_BATCH_MQ => locks::lock(broker, request, answers),
        RequestCode::UNLOCK_BATCH_MQ => locks::unlock(broker, request, answers),
        RequestCode::UPDATE_AND_CREATE_TOPIC => topics::put(broker, request, answers),
        RequestCode::DELETE_TOPIC_IN_BROKER => topics::delete(broker, request, answers),
        RequestCode::GET_TOPIC_CONFIG => topics::get(broker, request, answers),
        RequestCode::GET_ALL_TOPIC_CONFIG => topics::all(broker, request, answers),
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => topics::system(broker, request, answers),
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => groups::put(broker, request, answers),
        RequestCode::DELETE_SUBSCRIPTIONGROUP => groups::delete(broker, request, answers),
        RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => groups::get(broker, request, answers),
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => groups::all(broker, request, answers),
        RequestCode::GET_BROKER_RUNTIME_INFO => runtime::info(broker, request, answers),
        RequestCode::CONSUMER_SEND_MSG_BACK => send_back::send_back(broker, request, answers),
        RequestCode::UPDATE_AND_CREATE_TOPIC_LIST => topics::put_list(broker, request, answers),
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => groups::put_list(broker, request, answers),
        RequestCode::GET_TOPIC_STATS_INFO => topic_stats::topic(broker, request, answers),
        RequestCode::GET_CONSUME_STATS => consume_stats::group(broker, request, answers),
        RequestCode::GET_BROKER_CONSUME_STATS => consume_stats::all_groups(broker, request),
        RequestCode::QUERY_CONSUME_TIME_SPAN => consume_stats::time_spans(broker, request, answers),
        RequestCode::GET_CONSUMER_CONNECTION_LIST => connections::consumers(broker, request, answers),
        RequestCode::GET_PRODUCER_CONNECTION_LIST => connections::producers(broker, request, answers),
        RequestCode::GET_ALL_PRODUCER_INFO => connections::all_producers(broker, request, answers),
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => subscribers::groups_of(broker, request, answers),
        RequestCode::QUERY_TOPICS_BY_CONSUMER => subscribers::topics_of(broker, request, answers),
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => subscribers::subscription(broker, request, answers),
        RequestCode::QUERY_CONSUME_QUEUE => queues::entries(broker, request, answers),
        RequestCode::VIEW_BROKER_STATS_DATA => statistics::view(broker, request, answers),
        RequestCode::GET_ALL_CONSUMER_OFFSET => offset_tables::consumers(broker, request, answers),
        RequestCode::GET_ALL_DELAY_OFFSET => offset_tables::delays(broker, request, answers),
        RequestCode::UPDATE_BROKER_CONFIG => broker_config::update(broker, request, answers),
        RequestCode::GET_BROKER_CONFIG => broker_config::get(broker, request, answers),
        RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE | RequestCode::CLEAN_UNUSED_TOPIC => {
            cleaning::nothing_left(request, answers)
        }
        RequestCode::DELETE_EXPIRED_COMMITLOG => cleaning::expired(broker, request, answers),
        RequestCode::GET_BROKER_HA_STATUS => replication::status(broker, request, answers),
        code => Err(Refusal::new(
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            format!(" request type {} not supported", code.0),
        )),
    }
}

/// What a request about queues needs: that everything acknowledged before it has been applied.
///
/// Without it, a client that was just told where its message lies could be told that no such offset exists.
pub fn caught_up(broker: &Broker) -> Option<Done> {
    let visible = broker.log.visible().get();
    (broker.applied.get() < visible).then_some(Done::After(visible))
}

/// The record of the message that begins at exactly this position. Blocks.
///
/// # Errors
/// When there is none, or it cannot be read.
fn message_at(broker: &Broker, at: PhysicalOffset) -> Result<OwnedRecord, Refusal> {
    let failed = |why: &dyn std::fmt::Display| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, format!("look message by offset failed, {at}: {why}"))
    };
    let record = broker.log.record_at(at).map_err(|error| failed(&error))?;
    if !kinds::is_message(record.fields.kind) {
        return Err(failed(&"the record there is no message"));
    }
    Ok(record)
}
