//! Requests, by family. A handler is a function of the broker's state and a request; it answers at once, leaves an
//! answer to be held, or says what it has to wait for.

use skylark_protocol::code::{RequestCode, ResponseCode};

use crate::broker::Broker;
use crate::context::{Answers, Done, Handled, Refusal, Request};

pub mod groups;
pub mod locks;
pub mod membership;
pub mod messages;
pub mod offsets;
pub mod pull;
pub mod relay;
pub mod resets;
pub mod runtime;
pub mod send;
pub mod send_back;
pub mod topics;

/// Hands a request to its family.
///
/// # Errors
/// A refusal, which the session writes.
pub fn handle(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    match request.header.request_code() {
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => {
            send::send(broker, request, answers)
        }
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => pull::pull(broker, request, answers),
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
        RequestCode::GET_CONSUMER_RUNNING_INFO => relay::running_info(broker, request, answers),
        RequestCode::CONSUME_MESSAGE_DIRECTLY => relay::consume_directly(broker, request, answers),
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => relay::consumer_status(broker, request, answers),
        RequestCode::SEND_REPLY_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2 => {
            relay::reply(broker, request, answers)
        }
        RequestCode::HEART_BEAT => membership::heartbeat(broker, request, answers),
        RequestCode::UNREGISTER_CLIENT => membership::unregister(broker, request, answers),
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => membership::list(broker, request, answers),
        RequestCode::CHECK_CLIENT_CONFIG => membership::check_config(request, answers),
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
