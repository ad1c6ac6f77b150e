//! A broker's configuration in RocketMQ's words: the keys of a `broker.conf`, each with what is true here.

use std::collections::BTreeMap;

use skylark_storage::Visibility;

use super::Config;
use crate::broker::COMMIT_INTERVAL;
use crate::registrar;
use crate::system;

/// What the tools show of a configuration. A key that RocketMQ has and that stands for nothing here is not there.
pub fn config(config: &Config) -> BTreeMap<&'static str, String> {
    let Config { identity, policy, retention, .. } = config;
    let text = |text: &str| text.to_owned();
    BTreeMap::from([
        ("autoCreateSubscriptionGroup", policy.auto_create_groups.to_string()),
        ("autoCreateTopicEnable", policy.auto_create_topics.to_string()),
        ("bindAddress", config.listen.ip().to_string()),
        ("brokerClusterName", identity.cluster.clone()),
        ("brokerId", text("0")),
        ("brokerIP1", identity.store_host.ip().to_string()),
        ("brokerName", identity.broker.clone()),
        ("brokerPermission", text("6")),
        ("brokerRole", text("ASYNC_MASTER")),
        ("brokerTopicEnable", text("true")),
        ("cleanFileForciblyEnable", text("true")),
        ("clusterTopicEnable", text("true")),
        ("defaultTopicQueueNums", policy.default_topic_queues.to_string()),
        ("diskSpaceCleanForciblyRatio", retention.clean_percent.unwrap_or(100).to_string()),
        ("diskSpaceWarningLevelRatio", policy.disk_refuse_percent.to_string()),
        ("duplicationEnable", text("false")),
        ("enableControllerMode", text("false")),
        ("enableDLegerCommitLog", text("false")),
        ("enableLmq", (policy.light_queues_max > 0).to_string()),
        ("enableMixedMessageType", policy.mixed_message_type.to_string()),
        ("enableMultiDispatch", (policy.light_queues_max > 0).to_string()),
        ("enablePropertyFilter", text("true")),
        ("fileReservedTime", retention.age_ms.map_or(0, |age_ms| age_ms / 3_600_000).to_string()),
        ("flushConsumerOffsetInterval", COMMIT_INTERVAL.as_millis().to_string()),
        (
            "flushDiskType",
            text(match config.flush {
                Visibility::Durable => "SYNC_FLUSH",
                Visibility::Written => "ASYNC_FLUSH",
            }),
        ),
        ("listenPort", config.listen.port().to_string()),
        ("longPollingEnable", text("true")),
        ("mappedFileSizeCommitLog", config.segment_bytes.to_string()),
        ("maxMessageSize", policy.message_bytes_max.to_string()),
        ("messageDelayLevel", policy.delay_levels.to_string()),
        ("messageIndexEnable", text("true")),
        ("namesrvAddr", config.namesrv.join(";")),
        ("notifyConsumerIdsChangedEnable", text("true")),
        ("realTimeNotifyConsumerChange", text("true")),
        ("recallMessageEnable", policy.recall_messages.to_string()),
        ("regionId", text(system::REGION)),
        ("rejectTransactionMessage", (!policy.transactions.allowed).to_string()),
        ("registerNameServerPeriod", registrar::INTERVAL.as_millis().to_string()),
        ("serverChannelMaxIdleTimeSeconds", config.idle_seconds.to_string()),
        ("slaveReadEnable", text("false")),
        ("storePathRootDir", config.data.display().to_string()),
        ("timerMaxDelaySec", (policy.delay_ms_max / 1000).to_string()),
        ("timerPrecisionMs", text("1")),
        ("timerWheelEnable", text("true")),
        ("traceOn", text("true")),
        ("traceTopicEnable", policy.trace_topic.to_string()),
        ("traceTopicEnable", text("false")),
        ("transactionCheckInterval", policy.transactions.check_interval_ms.to_string()),
        ("transactionCheckMax", policy.transactions.checks_max.to_string()),
        ("transactionTimeOut", policy.transactions.timeout_ms.to_string()),
        ("useServerSideResetOffset", text("true")),
        ("validateSystemTopicWhenUpdateTopic", text("true")),
    ])
}
