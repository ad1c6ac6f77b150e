//! What an operator may write: on the command line, in the environment, in a TOML file.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

/// What an operator may write. Each field's first line is its entry in `--help`.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Data directory; created if absent [default: ./data]
    #[arg(long, env = "SKYLARK_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address the broker listens on [default: 127.0.0.1:10911]
    ///
    /// The fast listener, which some clients use for sends and commits, takes the port two below.
    #[arg(long, env = "SKYLARK_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,

    /// Address the built-in nameserver listens on, or `none` to run without it [default: 127.0.0.1:9876]
    #[arg(long, env = "SKYLARK_NAMESRV_LISTEN", value_name = "IP:PORT")]
    pub namesrv_listen: Option<String>,

    /// Nameservers to register with, separated by `;` [default: the built-in one]
    #[arg(long, env = "SKYLARK_NAMESRV", value_name = "HOST:PORT;…")]
    pub namesrv: Option<String>,

    /// Host name or IPv4 address that clients reach this broker by [default: the address listened on]
    ///
    /// Routes carry it as written; message ids and store hosts carry the IPv4 address it resolves to at start.
    #[arg(long, env = "SKYLARK_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,

    /// Name of the cluster [default: DefaultCluster]
    #[arg(long, env = "SKYLARK_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,

    /// Name of this broker [default: broker-a]
    #[arg(long, env = "SKYLARK_BROKER_NAME", value_name = "NAME")]
    pub broker_name: Option<String>,

    /// Serve other machines although nothing asks who they are
    ///
    /// Until access control exists, whoever reaches the port may read and write everything. Without this flag
    /// only loopback addresses are listened on.
    #[arg(long, env = "SKYLARK_ALLOW_UNAUTHENTICATED", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_unauthenticated: Option<bool>,

    /// Create a topic at the first send to it, as RocketMQ does [default: true]
    #[arg(long, env = "SKYLARK_AUTO_CREATE_TOPICS", value_name = "BOOL")]
    pub auto_create_topics: Option<bool>,

    /// Create a consumer group at its first heartbeat, as RocketMQ does [default: true]
    #[arg(long, env = "SKYLARK_AUTO_CREATE_GROUPS", value_name = "BOOL")]
    pub auto_create_groups: Option<bool>,

    /// Queues of TBW102, the template of automatically created topics: no such topic gets more [default: 8]
    #[arg(long, env = "SKYLARK_DEFAULT_TOPIC_QUEUES", value_name = "COUNT")]
    pub default_topic_queues: Option<u32>,

    /// Have the topic for clients' message traces, RMQ_SYS_TRACE_TOPIC, from the start [default: false]
    ///
    /// RocketMQ's `traceTopicEnable`. Where topics are created at the first send to them it comes into being without.
    #[arg(long, env = "SKYLARK_TRACE_TOPIC", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub trace_topic: Option<bool>,

    /// Largest message body in bytes, at most 4 MiB [default: 4194304]
    #[arg(long, env = "SKYLARK_MESSAGE_BYTES_MAX", value_name = "BYTES")]
    pub message_bytes_max: Option<u32>,

    /// Delays of the levels that messages ask for, the first level's first [default: 1s 5s 10s 30s 1m … 2h]
    ///
    /// RocketMQ's `messageDelayLevel`: numbers with s, m, h or d, separated by blanks. A message that waits keeps its
    /// due time when this changes.
    #[arg(long, env = "SKYLARK_DELAY_LEVELS", value_name = "LIST")]
    pub delay_levels: Option<String>,

    /// Take transactional messages [default: true]
    ///
    /// The opposite of RocketMQ's `rejectTransactionMessage`. Those that are open go on in any case.
    #[arg(long, env = "SKYLARK_TRANSACTIONS", value_name = "BOOL")]
    pub transactions: Option<bool>,

    /// Milliseconds after which a producer is first asked how a transaction ended [default: 6000]
    ///
    /// RocketMQ's `transactionTimeOut`. A message's own `CHECK_IMMUNITY_TIME_IN_SECONDS` comes first.
    #[arg(long, env = "SKYLARK_TRANSACTION_TIMEOUT_MS", value_name = "MS")]
    pub transaction_timeout_ms: Option<u64>,

    /// Milliseconds after which it is asked again [default: 30000]
    ///
    /// RocketMQ's `transactionCheckInterval`.
    #[arg(long, env = "SKYLARK_TRANSACTION_CHECK_INTERVAL_MS", value_name = "MS")]
    pub transaction_check_interval_ms: Option<u64>,

    /// How often it is asked; then the message goes to TRANS_CHECK_MAX_TIME_TOPIC [default: 15]
    ///
    /// RocketMQ's `transactionCheckMax`. While no producer of the group is connected nobody is asked, and nothing is
    /// counted; but what is older than retention-hours goes there too.
    #[arg(long, env = "SKYLARK_TRANSACTION_CHECKS_MAX", value_name = "COUNT")]
    pub transaction_checks_max: Option<u32>,

    /// Transactions that may be open; further ones are refused [default: 2000000]
    ///
    /// Each takes about 100 bytes of memory.
    #[arg(long, env = "SKYLARK_TRANSACTIONS_OPEN_MAX", value_name = "COUNT")]
    pub transactions_open_max: Option<u64>,

    /// Seconds for which a message may wait that asks for a time instead of a level [default: 31622400, a year]
    ///
    /// RocketMQ's `timerMaxDelaySec`. One that asks for more is refused; what waits already does so as it was sent.
    #[arg(long, env = "SKYLARK_DELAY_SECONDS_MAX", value_name = "SECONDS")]
    pub delay_seconds_max: Option<u64>,

    /// Let producers recall messages that wait for a time [default: true]
    ///
    /// RocketMQ's `recallMessageEnable`, which is off there.
    #[arg(long, env = "SKYLARK_RECALL_MESSAGES", value_name = "BOOL")]
    pub recall_messages: Option<bool>,

    /// How much of the disk delayed messages may take while they wait, in percent, before further ones are refused [default: 40]
    ///
    /// Retention does not take what waits, so it must have room beside the rest. Not above disk-clean-percent; half of
    /// that, where that is less than the default.
    #[arg(long, env = "SKYLARK_PENDING_DISK_PERCENT", value_name = "PERCENT")]
    pub pending_disk_percent: Option<u8>,

    /// How many moves of offsets by operators are remembered: who moved which queue's, from where to where [default: 10000]
    ///
    /// From 100 to 1000000; `skylark offsets audit` shows them. About 200 bytes of memory each at most.
    #[arg(long, env = "SKYLARK_AUDIT_MOVES_MAX", value_name = "COUNT")]
    pub audit_moves_max: Option<u32>,

    /// Days for which they are remembered [default: 90]
    #[arg(long, env = "SKYLARK_AUDIT_DAYS", value_name = "DAYS")]
    pub audit_days: Option<u64>,
    /// Messages that are known when their producer sends them again; 0 stores everything again [default: 200000]
    ///
    /// For topics and producer groups with the attribute skylark.duplicates=suppress. Each takes up to 130 bytes of
    /// memory, and 24 in every snapshot.
    #[arg(long, env = "SKYLARK_DUPLICATE_WINDOW_MESSAGES", value_name = "COUNT")]
    pub duplicate_window_messages: Option<u32>,

    /// Seconds for which they are, at most a day [default: 600]
    #[arg(long, env = "SKYLARK_DUPLICATE_WINDOW_SECONDS", value_name = "SECONDS")]
    pub duplicate_window_seconds: Option<u64>,

    /// Have light queues (LMQ): one message in many queues [default: false]
    ///
    /// RocketMQ's `enableLmq` with `enableMultiDispatch`. A message names them in its property INNER_MULTI_DISPATCH.
    #[arg(long, env = "SKYLARK_LIGHT_QUEUES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub light_queues: Option<bool>,

    /// Light queues there may be; messages for further ones are refused [default: 20000]
    ///
    /// RocketMQ's `maxLmqConsumeQueueNum`. Each takes less than 1 KiB of memory; deleteTopic makes room.
    #[arg(long, env = "SKYLARK_LIGHT_QUEUES_MAX", value_name = "COUNT")]
    pub light_queues_max: Option<u32>,

    /// Let topics have the message type MIXED [default: false]
    ///
    /// RocketMQ's `enableMixedMessageType`.
    #[arg(long, env = "SKYLARK_MIXED_MESSAGE_TYPE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub mixed_message_type: Option<bool>,

    /// Refuse messages that are not of their topic's type [default: false]
    ///
    /// Of topics with the attribute message.type. Apache's broker takes them; its proxy does not.
    #[arg(long, env = "SKYLARK_CHECK_MESSAGE_TYPES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub check_message_types: Option<bool>,

    /// Length of a segment file in bytes, a multiple of 4096 [default: 268435456]
    ///
    /// Below 32 MiB groups are limited by the segment; meant for tests of rolling.
    #[arg(long, env = "SKYLARK_SEGMENT_BYTES", value_name = "BYTES")]
    pub segment_bytes: Option<u64>,

    /// How the log reaches the disk: auto, buffered, direct or uring [default: auto]
    ///
    /// auto measures the others in the data directory, in the background of a start and at most once a week, and takes the
    /// best from the next segment on; it begins with what an earlier start found. buffered works on every file system.
    #[arg(long, env = "SKYLARK_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,

    /// Hours for which messages are kept at least [default: 72]
    ///
    /// Segments go as a whole, once their newest message is older.
    #[arg(long, env = "SKYLARK_RETENTION_HOURS", value_name = "HOURS")]
    pub retention_hours: Option<u64>,

    /// Bytes of log beyond which the oldest segments go, whatever their age [default: no limit]
    #[arg(long, env = "SKYLARK_RETENTION_BYTES", value_name = "BYTES")]
    pub retention_bytes: Option<u64>,

    /// How full the disk may be, in percent, before the oldest segments go whatever their age [default: 85]
    ///
    /// Counted as `df` does, and looked at every second. Whoever has pinned what goes learns that it is gone.
    #[arg(long, env = "SKYLARK_DISK_CLEAN_PERCENT", value_name = "PERCENT")]
    pub disk_clean_percent: Option<u8>,

    /// How full the disk may be, in percent, before sends are refused [default: 90]
    ///
    /// What the broker writes itself, such as offset commits and deletions, goes on in what the log has prepared: the
    /// rest of its segment, and the next one.
    #[arg(long, env = "SKYLARK_DISK_REFUSE_PERCENT", value_name = "PERCENT")]
    pub disk_refuse_percent: Option<u8>,

    /// Bytes that may be appended but not yet durable before senders are held back [default: 33554432]
    ///
    /// From 16 MiB to 1 GiB. More absorbs longer stalls of the disk and lets latency grow with them.
    #[arg(long, env = "SKYLARK_UNDURABLE_BYTES_MAX", value_name = "BYTES")]
    pub undurable_bytes_max: Option<u64>,

    /// What an acknowledged message survives: `durable`, also a power cut; `written`, the end of the process only [default: durable]
    ///
    /// With `durable` every acknowledgement waits for a flush. With `written` it waits until the system has the
    /// message, which is flushed within 200 ms: a power cut may take the last moments.
    #[arg(long, env = "SKYLARK_FLUSH", value_name = "WHAT")]
    pub flush: Option<String>,

    /// Newest bytes of the log kept in memory for consumers [default: 33554432]
    #[arg(long, env = "SKYLARK_TAIL_BYTES", value_name = "BYTES")]
    pub tail_bytes: Option<u64>,

    /// Connections per listener; further ones are closed at once [default: 10000]
    #[arg(long, env = "SKYLARK_CONNECTIONS_MAX", value_name = "COUNT")]
    pub connections_max: Option<usize>,

    /// Seconds after which a connection that neither reads nor writes is closed [default: 120]
    #[arg(long, env = "SKYLARK_IDLE_SECONDS", value_name = "SECONDS")]
    pub idle_seconds: Option<u64>,

    /// Seconds within which a frame must be complete once its first byte is there [default: 30]
    #[arg(long, env = "SKYLARK_FRAME_SECONDS", value_name = "SECONDS")]
    pub frame_seconds: Option<u64>,

    /// Threads that serve connections, at least 2 [default: one per core, at least 2]
    #[arg(long, env = "SKYLARK_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
}

impl Settings {
    /// These settings, and `others` where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            data: self.data.or(others.data),
            listen: self.listen.or(others.listen),
            namesrv_listen: self.namesrv_listen.or(others.namesrv_listen),
            namesrv: self.namesrv.or(others.namesrv),
            advertise: self.advertise.or(others.advertise),
            cluster: self.cluster.or(others.cluster),
            broker_name: self.broker_name.or(others.broker_name),
            allow_unauthenticated: self.allow_unauthenticated.or(others.allow_unauthenticated),
            auto_create_topics: self.auto_create_topics.or(others.auto_create_topics),
            auto_create_groups: self.auto_create_groups.or(others.auto_create_groups),
            default_topic_queues: self.default_topic_queues.or(others.default_topic_queues),
            trace_topic: self.trace_topic.or(others.trace_topic),
            message_bytes_max: self.message_bytes_max.or(others.message_bytes_max),
            delay_levels: self.delay_levels.or(others.delay_levels),
            transactions: self.transactions.or(others.transactions),
            transaction_timeout_ms: self.transaction_timeout_ms.or(others.transaction_timeout_ms),
            transaction_check_interval_ms: self
                .transaction_check_interval_ms
                .or(others.transaction_check_interval_ms),
            transaction_checks_max: self.transaction_checks_max.or(others.transaction_checks_max),
            transactions_open_max: self.transactions_open_max.or(others.transactions_open_max),
            delay_seconds_max: self.delay_seconds_max.or(others.delay_seconds_max),
            recall_messages: self.recall_messages.or(others.recall_messages),
            pending_disk_percent: self.pending_disk_percent.or(others.pending_disk_percent),
            audit_moves_max: self.audit_moves_max.or(others.audit_moves_max),
            audit_days: self.audit_days.or(others.audit_days),
            duplicate_window_messages: self.duplicate_window_messages.or(others.duplicate_window_messages),
            duplicate_window_seconds: self.duplicate_window_seconds.or(others.duplicate_window_seconds),
            light_queues: self.light_queues.or(others.light_queues),
            light_queues_max: self.light_queues_max.or(others.light_queues_max),
            mixed_message_type: self.mixed_message_type.or(others.mixed_message_type),
            check_message_types: self.check_message_types.or(others.check_message_types),
            segment_bytes: self.segment_bytes.or(others.segment_bytes),
            device: self.device.or(others.device),
            retention_hours: self.retention_hours.or(others.retention_hours),
            retention_bytes: self.retention_bytes.or(others.retention_bytes),
            disk_clean_percent: self.disk_clean_percent.or(others.disk_clean_percent),
            disk_refuse_percent: self.disk_refuse_percent.or(others.disk_refuse_percent),
            undurable_bytes_max: self.undurable_bytes_max.or(others.undurable_bytes_max),
            flush: self.flush.or(others.flush),
            tail_bytes: self.tail_bytes.or(others.tail_bytes),
            connections_max: self.connections_max.or(others.connections_max),
            idle_seconds: self.idle_seconds.or(others.idle_seconds),
            frame_seconds: self.frame_seconds.or(others.frame_seconds),
            workers: self.workers.or(others.workers),
        }
    }
}
