//! What can be configured while a nameserver runs: codes 318 and 319.
//!
//! A setting that was changed is an entry of the key–value configuration, so it is kept as that is.

use skylark_protocol::command::configuration;
use skylark_protocol::{FieldError, ResponseCode};

use crate::{KvChange, State};

/// Namespace of the settings that were changed.
const NAMESPACE: &str = "NAMESRV_CONFIG";

/// What RocketMQ lets nobody change from afar, because it says where files are.
const FORBIDDEN: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Whether all topics are listed: code 206.
    AllTopicList,
    /// Whether topics are listed by cluster and unit: codes 224 and 311 to 313.
    TopicList,
    /// Whether routes tell the queues of ordered topics. Producers take their queues from nothing else then.
    OrderMessages,
    /// Whether brokers hear of ordered topics when they register.
    OrderTopicsToBroker,
}

impl Switch {
    const ALL: [Self; 4] =
        [Self::AllTopicList, Self::TopicList, Self::OrderMessages, Self::OrderTopicsToBroker];

    /// RocketMQ's name for it, and what it is unless it was changed.
    fn name_and_default(self) -> (&'static str, bool) {
        match self {
            Self::AllTopicList => ("enableAllTopicList", true),
            Self::TopicList => ("enableTopicList", true),
            Self::OrderMessages => ("orderMessageEnable", false),
            Self::OrderTopicsToBroker => ("returnOrderTopicConfigToBroker", true),
        }
    }
}

/// Why no setting was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error(transparent)]
    Text(#[from] FieldError),
    #[error("Can not update config in black list.")]
    Forbidden,
    #[error("{name} cannot be changed while the nameserver runs")]
    Fixed { name: String },
    #[error("{name} is true or false, not {value:?}")]
    Value { name: String, value: String },
}

impl UpdateError {
    /// The code that says so.
    pub(crate) fn code(&self) -> ResponseCode {
        match self {
            Self::Text(_) => ResponseCode::SYSTEM_ERROR,
            Self::Forbidden => ResponseCode::NO_PERMISSION,
            Self::Fixed { .. } | Self::Value { .. } => ResponseCode::INVALID_PARAMETER,
        }
    }
}

impl State {
    /// Whether a setting is on.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        let (name, default) = switch.name_and_default();
        self.kv.get(NAMESPACE, name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    /// The settings by name.
    pub(crate) fn switches(&self) -> impl Iterator<Item = (&'static str, bool)> {
        Switch::ALL.into_iter().map(|switch| (switch.name_and_default().0, self.is_on(switch)))
    }

    /// The changes that a configuration's text asks for, all of them or none.
    pub(crate) fn changes(&self, text: &[u8]) -> Result<Vec<KvChange>, UpdateError> {
        let settings = configuration::read(text)?;
        if settings.iter().any(|(name, _)| FORBIDDEN.contains(&&**name)) {
            return Err(UpdateError::Forbidden);
        }
        let mut changes = Vec::new();
        for (name, value) in settings {
            let Some((_, is_on)) = self.switches().find(|(known, _)| *known == name) else {
                return Err(UpdateError::Fixed { name });
            };
            let wanted = match value.trim() {
                on if on.eq_ignore_ascii_case("true") => true,
                off if off.eq_ignore_ascii_case("false") => false,
                _ => return Err(UpdateError::Value { name, value }),
            };
            if wanted != is_on {
                changes.push(KvChange::Put {
                    namespace: NAMESPACE.to_owned(),
                    key: name,
                    value: wanted.to_string(),
                });
            }
        }
        Ok(changes)
    }
}
