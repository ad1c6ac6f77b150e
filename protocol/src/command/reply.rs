//! Replies to requests between applications.
//!
//! Whoever replies sends code 324 or 325, a [`SendRequest`](super::send::SendRequest); the broker pushes the
//! message to the client that waits for it.

header_fields! {
    /// A reply for the client that waits for it: code 326, from the broker, with the reply's body behind it.
    PushReply<'a> {
        /// Who replied.
        producer_group: &'a str = "producerGroup",
        /// The topic it was sent to.
        topic: &'a str = "topic",
        /// As in the send.
        default_topic: &'a str = "defaultTopic",
        /// As in the send.
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        /// As in the send.
        queue_id: i32 = "queueId",
        /// See [`sys_flag`](crate::message::sys_flag).
        sys_flag: i32 = "sysFlag",
        /// Milliseconds of the replier's clock.
        born_timestamp: i64 = "bornTimestamp",
        /// The application's flag.
        flag: i32 = "flag",
        /// The properties' text, `CORRELATION_ID` among them.
        properties: Option<&'a str> = "properties",
        /// As in the send.
        reconsume_times: Option<i32> = "reconsumeTimes",
        /// As in the send.
        unit_mode: bool = "unitMode",
        /// Where the replier connects from, `ip:port`.
        born_host: &'a str = "bornHost",
        /// The broker, `ip:port`.
        store_host: &'a str = "storeHost",
        /// Milliseconds of the broker's clock.
        store_timestamp: i64 = "storeTimestamp",
    }
}
