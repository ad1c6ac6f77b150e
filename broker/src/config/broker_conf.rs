//! RocketMQ's `broker.conf`: Java properties whose known keys become [`Settings`].
//!
//! A key that RocketMQ knows and that changes nothing here is a [`Notice`]; a key it does not know, or a value
//! that contradicts what Skylark does, is a [`Mistake`]: a typing error must not pass for a setting.

use std::path::PathBuf;

use super::{Mistake, Settings};

/// Keys of RocketMQ's broker, store, network and access settings that have no effect here.
const WITHOUT_EFFECT: &str = include_str!("broker_conf_keys.txt");

/// Something about the file that the operator should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The key in question.
    pub key: String,
    /// What it means here.
    pub what: String,
}

/// What a `broker.conf` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerConf {
    /// In our own terms.
    pub settings: Settings,
    /// What to tell the operator.
    pub notices: Vec<Notice>,
}

/// Translates the text of a `broker.conf`.
///
/// # Errors
/// Every key that is unknown, contradictory or of the wrong type.
pub fn translate(text: &str) -> Result<BrokerConf, Vec<Mistake>> {
    let mut translation = Translation::default();
    for (key, value) in properties(text) {
        translation.take(&key, &value);
    }
    translation.finish()
}

#[derive(Default)]
struct Translation {
    conf: BrokerConf,
    mistakes: Vec<Mistake>,
    bind_address: Option<String>,
    listen_port: Option<u16>,
    lmq: Option<bool>,
    multi_dispatch: Option<bool>,
}

impl Translation {
    fn take(&mut self, key: &str, value: &str) {
        let text = || Some(value.to_owned());
        match key {
            "brokerClusterName" => self.conf.settings.cluster = text(),
            "brokerName" => self.conf.settings.broker_name = text(),
            "namesrvAddr" => {
                self.conf.settings.namesrv = text();
                self.notice(key, "the built-in nameserver runs as well; `--namesrv-listen none` turns it off");
            }
            "brokerIP1" => self.conf.settings.advertise = text(),
            "storePathRootDir" => self.conf.settings.data = Some(PathBuf::from(value)),
            "bindAddress" => self.bind_address = text(),
            "listenPort" => self.listen_port = self.parse(key, value, "a port"),
            "autoCreateTopicEnable" => self.conf.settings.auto_create_topics = self.flag(key, value),
            "autoCreateSubscriptionGroup" => self.conf.settings.auto_create_groups = self.flag(key, value),
            "defaultTopicQueueNums" => self.conf.settings.default_topic_queues = self.parse(key, value, "a number"),
            "maxMessageSize" => self.conf.settings.message_bytes_max = self.parse(key, value, "a number of bytes"),
            "messageDelayLevel" => self.conf.settings.delay_levels = text(),
            "rejectTransactionMessage" => {
                self.conf.settings.transactions = self.flag(key, value).map(|rejects| !rejects);
            }
            "transactionTimeOut" => {
                self.conf.settings.transaction_timeout_ms = self.parse(key, value, "a number of milliseconds");
            }
            "transactionCheckInterval" => {
                self.conf.settings.transaction_check_interval_ms =
                    self.parse(key, value, "a number of milliseconds");
            }
            "transactionCheckMax" => {
                self.conf.settings.transaction_checks_max = self.parse(key, value, "a number");
            }
            "timerMaxDelaySec" => {
                self.conf.settings.delay_seconds_max = self.parse(key, value, "a number of seconds");
            }
            "recallMessageEnable" => self.conf.settings.recall_messages = self.flag(key, value),
            "timerWheelEnable" => match value {
                "true" => {}
                _ => self.notice(key, "has no effect: messages may always ask for a time of delivery"),
            },
            "timerPrecisionMs" => self.notice(key, "has no effect: every time is kept to the millisecond"),
            "traceTopicEnable" => self.conf.settings.trace_topic = self.flag(key, value),
            "enableLmq" => self.lmq = self.flag(key, value),
            "enableMultiDispatch" => self.multi_dispatch = self.flag(key, value),
            "maxLmqConsumeQueueNum" => {
                self.conf.settings.light_queues_max = self.parse(key, value, "a number");
            }
            "enableMixedMessageType" => self.conf.settings.mixed_message_type = self.flag(key, value),
            "mappedFileSizeCommitLog" => {
                self.conf.settings.segment_bytes = self.parse(key, value, "a number of bytes");
            }
            "fileReservedTime" => self.conf.settings.retention_hours = self.parse(key, value, "a number of hours"),
            "diskSpaceCleanForciblyRatio" => {
                self.conf.settings.disk_clean_percent = self.parse(key, value, "a whole number of percent");
            }
            "diskSpaceWarningLevelRatio" => {
                self.conf.settings.disk_refuse_percent = self.parse(key, value, "a whole number of percent");
            }
            "deleteWhen" => self.notice(key, "has no effect: what is older than fileReservedTime goes at any hour"),
            "brokerId" => match self.parse::<u64>(key, value, "a number") {
                Some(0) | None => {}
                Some(_) => self.mistake(key, "this release runs masters only, whose id is 0"),
            },
            "brokerRole" => match value {
                "ASYNC_MASTER" => {}
                "SYNC_MASTER" => self.notice(key, "there are no slaves to wait for: sends wait for this disk alone"),
                "SLAVE" => self.mistake(key, "this release runs masters only"),
                _ => self.mistake(key, format!("`{value}` is none of ASYNC_MASTER, SYNC_MASTER and SLAVE")),
            },
            "flushDiskType" => match value {
                "SYNC_FLUSH" => {}
                "ASYNC_FLUSH" => self.notice(
                    key,
                    "ASYNC_FLUSH is served durably: every acknowledged message is on disk, as with SYNC_FLUSH; who \
                     prefers not to wait for the disk says so with `flush = \"written\"`",
                ),
                _ => self.mistake(key, format!("`{value}` is neither SYNC_FLUSH nor ASYNC_FLUSH")),
            },
            _ if WITHOUT_EFFECT.lines().any(|known| known == key) => {
                self.notice(key, "has no effect here and is passed over");
            }
            _ => self.mistake(key, "is not a key of RocketMQ's broker"),
        }
    }

    fn finish(mut self) -> Result<BrokerConf, Vec<Mistake>> {
        if self.bind_address.is_some() || self.listen_port.is_some() {
            let host = self.bind_address.as_deref().unwrap_or("127.0.0.1");
            let port = self.listen_port.unwrap_or(10911);
            self.conf.settings.listen = Some(format!("{host}:{port}"));
        }
        // Queues and the dispatch to them have a switch each, off by default, and one is nothing without the other.
        if self.lmq.is_some() || self.multi_dispatch.is_some() {
            self.conf.settings.light_queues =
                Some(self.lmq == Some(true) && self.multi_dispatch == Some(true));
        }
        if self.mistakes.is_empty() { Ok(self.conf) } else { Err(self.mistakes) }
    }

    fn flag(&mut self, key: &str, value: &str) -> Option<bool> {
        self.parse(key, value, "`true` or `false`")
    }

    fn parse<T: std::str::FromStr>(&mut self, key: &str, value: &str, kind: &str) -> Option<T> {
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.mistake(key, format!("`{value}` is not {kind}"));
        }
        parsed
    }

    fn notice(&mut self, key: &str, what: &str) {
        self.conf.notices.push(Notice { key: key.to_owned(), what: what.to_owned() });
    }

    fn mistake(&mut self, key: &str, what: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.to_owned(), what: what.into() });
    }
}

/// The entries of a Java properties text: `#` and `!` begin comments, `=`, `:` or a blank ends the key, a
/// backslash at the end of a line joins it with the next. The last of equal keys wins, as in Java.
fn properties(text: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim());
        }
        let end = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace()).unwrap_or(line.len());
        let (key, rest) = line.split_at(end);
        let value = rest.trim_start().trim_start_matches(['=', ':']).trim();
        entries.retain(|(known, _)| known != key);
        entries.push((key.to_owned(), value.to_owned()));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        translate(text).unwrap_err().into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn apaches_own_example_is_accepted() {
        let conf = translate(
            "# as shipped\nbrokerClusterName = DefaultCluster\nbrokerName=broker-a\nbrokerId = 0\ndeleteWhen=04\n\
             fileReservedTime = 48\nbrokerRole = ASYNC_MASTER\nflushDiskType = ASYNC_FLUSH\nlistenPort:20911\n\
             messageDelayLevel = 1s 5s\ndiskSpaceCleanForciblyRatio=70\ndiskSpaceWarningLevelRatio=80\n\
             transactionTimeOut=2000\ntransactionCheckInterval=5000\ntransactionCheckMax=3\n\
             rejectTransactionMessage=true\ntraceTopicEnable=true\nenableLmq=true\n\
             enableMultiDispatch=true\nmaxLmqConsumeQueueNum=7\nenableMixedMessageType=true\n",
        )
        .unwrap();
        assert_eq!(conf.settings.broker_name.as_deref(), Some("broker-a"));
        assert_eq!(conf.settings.listen.as_deref(), Some("127.0.0.1:20911"));
        assert_eq!(conf.settings.delay_levels.as_deref(), Some("1s 5s"));
        let noticed: Vec<_> = conf.notices.iter().map(|notice| &notice.key[..]).collect();
        assert_eq!(noticed, ["deleteWhen", "flushDiskType"]);
        assert_eq!(conf.settings.retention_hours, Some(48));
        assert_eq!(
            (conf.settings.disk_clean_percent, conf.settings.disk_refuse_percent),
            (Some(70), Some(80))
        );
        let settings = &conf.settings;
        assert_eq!(
            (settings.transaction_timeout_ms, settings.transaction_check_interval_ms),
            (Some(2000), Some(5000))
        );
        assert_eq!((settings.transaction_checks_max, settings.transactions), (Some(3), Some(false)));
        assert_eq!((settings.light_queues, settings.light_queues_max), (Some(true), Some(7)));
        assert_eq!((settings.trace_topic, settings.mixed_message_type), (Some(true), Some(true)));
        let alone = translate("enableLmq=true\nenableMultiDispatch=false\n").unwrap();
        assert_eq!(alone.settings.light_queues, Some(false));
    }

    #[test]
    fn unknown_and_contradictory_keys_are_all_named() {
        assert_eq!(
            mistakes("brokerNmae=a\nbrokerRole=SLAVE\nlistenPort=many\n"),
            ["brokerNmae", "brokerRole", "listenPort"]
        );
    }

    #[test]
    fn lines_are_joined_and_the_last_value_wins() {
        let conf = translate("brokerName=first\nbrokerName=sec\\\n  ond\n").unwrap();
        assert_eq!(conf.settings.broker_name.as_deref(), Some("second"));
    }
}
