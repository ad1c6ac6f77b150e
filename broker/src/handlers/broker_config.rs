//! The broker's configuration: 25, 26.

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::configuration::{self, BrokerConfigResponse};
use skylark_protocol::command::register::DataVersion;
use skylark_protocol::json;

use crate::broker::Broker;
use crate::context::{Answers, Done, Handled, Refusal, Request};

/// Keys that RocketMQ lets nobody change over the network.
const CLOSED_KEYS: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];

/// 26: the configuration as text.
pub fn get(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let settings = broker.shown_config.iter().map(|(key, value)| (*key, value.as_str()));
    let body = configuration::write(settings);
    // It is what it was when the broker started.
    let timestamp = i64::try_from(broker.statistics.started_ms).unwrap_or(i64::MAX);
    let version = json::to_vec(&DataVersion { counter: 0, state_version: 0, timestamp });
    let version = String::from_utf8_lossy(&version);
    let response = BrokerConfigResponse { version: &version };
    let fields = response.fields();
    request.reply.respond(answers.out, ResponseCode::SUCCESS, None, &fields, body.into());
    Ok(Done::Answered)
}

/// 25: a change of the configuration. Nothing can be changed while the broker runs, because a change would not
/// survive it: the configuration is what the command line, the environment and the file say. So what already holds
/// is confirmed, and the rest refused by name.
pub fn update(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let settings = configuration::read(request.body)?;
    if settings.iter().any(|(key, _)| CLOSED_KEYS.contains(&&**key)) {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "Can not update config in black list."));
    }
    let refused = settings.iter().filter_map(|(key, value)| match broker.shown_config.get(&**key) {
        Some(known) if known == value.trim() => None,
        Some(known) => Some(format!("{key} is {known} until the broker is started with another one")),
        None => Some(format!("{key} is not a key of this broker")),
    });
    let refused: Vec<String> = refused.collect();
    if refused.is_empty() {
        return answers.success(request.reply, &[]);
    }
    let remark = format!("nothing was changed: {}", refused.join("; "));
    Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark))
}
