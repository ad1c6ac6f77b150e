//! Sending a message back that could not be consumed.

header_fields! {
    /// A consumer could not process a message: code 36. It comes back later, or becomes a dead letter.
    SendBack<'a> {
        /// Where the message is in the commit log.
        physical_offset: u64 = "offset",
        /// The group that failed.
        group: &'a str = "group",
        /// The delay's level; 0 leaves it to the broker, and below 0 the message is a dead letter at once.
        delay_level: i32 = "delayLevel",
        /// Offset message id of the first delivery.
        origin_message_id: Option<&'a str> = "originMsgId",
        /// Topic of the first delivery.
        origin_topic: Option<&'a str> = "originTopic",
        /// Whether the topic belongs to a unit.
        unit_mode: bool = "unitMode",
        /// How often a message is tried again, in place of what the group's configuration says. Counts from
        /// [`SendBack::LIMIT_SINCE`] on: older clients send what they do not mean.
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}

impl SendBack<'_> {
    /// First version of a client whose `maxReconsumeTimes` counts: V3_4_9.
    pub const LIMIT_SINCE: i32 = 121;
}
