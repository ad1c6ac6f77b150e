//! How topics and groups may be called, and which names follow from a group's.

/// A group's retry topic is this, then the group's name.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// A group's dead letter topic is this, then the group's name.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Names of light queues begin with this.
pub const LIGHT_PREFIX: &str = "%LMQ%";
/// Longest name of a topic that a user makes.
pub const TOPIC_CHARS_MAX: usize = 127;
/// Longest name of a retry or dead letter topic.
pub const DERIVED_TOPIC_CHARS_MAX: usize = 255;
/// Longest name of a group: short enough for the topics derived from it.
pub const GROUP_CHARS_MAX: usize = 120;

/// Why a name is not one. Its text is the remark a client gets, in the words of RocketMQ's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is none, or nothing but blanks.
    #[error("The specified {what} is blank.")]
    Blank {
        /// "topic" or "group".
        what: &'static str,
    },
    /// Some character is not allowed.
    #[error("The specified {what} contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    Characters {
        /// "topic" or "group".
        what: &'static str,
    },
    /// There are too many of them.
    #[error("The specified {what} is {found} characters long, which is longer than {what} max length {max}.")]
    TooLong {
        /// "topic" or "group".
        what: &'static str,
        /// Its length.
        found: usize,
        /// The limit.
        max: usize,
    },
}

/// Whether a topic may have this name.
///
/// # Errors
/// When not; the answer is then code 29 with the error's text.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    let derived = name.starts_with(RETRY_PREFIX) || name.starts_with(DLQ_PREFIX);
    check("topic", name, if derived { DERIVED_TOPIC_CHARS_MAX } else { TOPIC_CHARS_MAX })
}

/// Whether a group may have this name.
///
/// # Errors
/// When not; the answer is then code 29 with the error's text.
pub fn check_group(name: &str) -> Result<(), NameError> {
    check("group", name, GROUP_CHARS_MAX)
}

/// Whether a light queue may have this name: as a topic, and also with what MQTT's wildcards need.
pub fn is_light(name: &str) -> bool {
    name.strip_prefix(LIGHT_PREFIX).is_some_and(|rest| {
        !rest.is_empty()
            && name.len() <= TOPIC_CHARS_MAX
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%|_-+#.".contains(&byte))
    })
}

/// The topic from which a group gets its failed messages again.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The topic from which a group gets those messages of a topic again that it popped and did not acknowledge: for those of
/// a retry topic the same.
pub fn pop_retry_topic(group: &str, topic: &str) -> String {
    if topic.starts_with(RETRY_PREFIX) { topic.to_owned() } else { format!("{RETRY_PREFIX}{group}_{topic}") }
}

/// The topic to which a group's failed messages go in the end.
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank { what });
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%|_-".contains(&byte)) {
        return Err(NameError::Characters { what });
    }
    // What is left is ASCII, so bytes are characters.
    let found = name.len();
    if found > max {
        return Err(NameError::TooLong { what, found, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_rocketmq_does() {
        let topic = |name: &str| check_topic(name).map_err(|error| error.to_string());
        for good in ["T", "a-Z_0|9%", "%RETRY%CG", &"x".repeat(127), &format!("%DLQ%{}", "x".repeat(250))] {
            assert_eq!(topic(good), Ok(()));
        }
        for blank in ["", " ", "\t "] {
            assert_eq!(topic(blank), Err("The specified topic is blank.".to_owned()));
        }
        for illegal in ["a b", "a.b", "a/b", "主题", "a\0", "a\n", "a$", "a,b", "é"] {
            let remark = "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$";
            assert_eq!(topic(illegal), Err(remark.to_owned()));
        }
        let too_long = |what, found, max| Err(NameError::TooLong { what, found, max });
        assert_eq!(check_topic(&"x".repeat(128)), too_long("topic", 128, 127));
        assert_eq!(check_topic(&retry_topic(&"x".repeat(249))), too_long("topic", 256, 255));
        assert_eq!(check_group(&"x".repeat(121)), too_long("group", 121, 120));
        assert_eq!(check_topic(&dlq_topic(&"x".repeat(GROUP_CHARS_MAX))), Ok(()));
    }
}
