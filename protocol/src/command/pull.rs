//! Pulling messages.

use crate::message::{NoTags, TagFilter};

header_fields! {
    /// A request for messages of a queue: codes 11 and 361.
    PullRequest<'a> {
        /// Who consumes.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue.
        queue_id: i32 = "queueId",
        /// First ordinal wanted.
        queue_offset: i64 = "queueOffset",
        /// Most messages wanted.
        max_messages: i32 = "maxMsgNums",
        /// See [`pull_flag`]; not a message's.
        sys_flag: i32 = "sysFlag",
        /// Next ordinal to consume, if [`pull_flag::COMMIT_OFFSET`] is set.
        commit_offset: i64 = "commitOffset",
        /// How long to hold the request if there is nothing, if [`pull_flag::SUSPEND`] is set.
        suspend_timeout_ms: i64 = "suspendTimeoutMillis",
        /// The expression, if [`pull_flag::SUBSCRIPTION`] is set.
        subscription: Option<&'a str> = "subscription",
        /// Which version of its subscription the client means.
        subscription_version: i64 = "subVersion",
        /// `TAG`, `SQL92`, or nothing for tags.
        expression_type: Option<&'a str> = "expressionType",
        /// Most bytes wanted.
        max_bytes: Option<i32> = "maxMsgBytes",
        /// The broker's name.
        broker_name: Option<&'a str> = "bname",
    }
}

/// Bits of a pull's `sysFlag`.
pub mod pull_flag {
    /// Store `commitOffset`.
    pub const COMMIT_OFFSET: i32 = 0x1;
    /// Hold the request while there is nothing.
    pub const SUSPEND: i32 = 0x2;
    /// The request brings its subscription; the heartbeat's does not count.
    pub const SUBSCRIPTION: i32 = 0x4;
    /// Of the obsolete filter server.
    pub const CLASS_FILTER: i32 = 0x8;
    /// Of Java's lite pull consumer.
    pub const LITE: i32 = 0x10;
}

impl PullRequest<'_> {
    /// The offset to store, if the request brings one.
    pub fn commit(&self) -> Option<i64> {
        (self.sys_flag & pull_flag::COMMIT_OFFSET != 0).then_some(self.commit_offset)
    }

    /// Whether to hold the request while there is nothing.
    pub fn suspends(&self) -> bool {
        self.sys_flag & pull_flag::SUSPEND != 0
    }

    /// Whether the request brings its subscription.
    pub fn brings_subscription(&self) -> bool {
        self.sys_flag & pull_flag::SUBSCRIPTION != 0
    }

    /// Whether the expression is one of tags.
    pub fn is_by_tags(&self) -> bool {
        super::heartbeat::is_by_tags(self.expression_type.unwrap_or_default())
    }

    /// The filter that the request brings.
    ///
    /// # Errors
    /// When the expression names no tag.
    pub fn tag_filter(&self) -> Result<TagFilter, NoTags> {
        TagFilter::parse(self.subscription)
    }
}

header_fields! {
    /// What answers a pull with codes 0, 19, 20 and 21: the first four are always there, because clients crash
    /// or start over without them. The body of code 0 is stored messages, one behind the other.
    PullResponse {
        /// Id of the broker to pull from next; 0 is the leader.
        suggest_which_broker_id: u64 = "suggestWhichBrokerId",
        /// Ordinal to pull next.
        next_begin_offset: u64 = "nextBeginOffset",
        /// The queue's first ordinal.
        min_offset: u64 = "minOffset",
        /// The ordinal of the queue's next message.
        max_offset: u64 = "maxOffset",
        /// The topic's system flag.
        topic_sys_flag: Option<i32> = "topicSysFlag",
        /// The group's system flag.
        group_sys_flag: Option<i32> = "groupSysFlag",
        /// What forbids it, with code 16.
        forbidden_type: Option<i32> = "forbiddenType",
    }
}
