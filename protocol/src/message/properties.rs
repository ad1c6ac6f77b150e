//! Properties: `name 0x01 value 0x02`, repeated.

use std::ops::Range;

use bytes::BufMut;

/// Ends a property.
pub(crate) const PROPERTY_END: u8 = 2;
const NAME_END: u8 = 1;
/// Stands between business keys.
const KEY_SEPARATOR: char = ' ';

/// Declares the names of the properties that RocketMQ gives a meaning.
macro_rules! names {
    ($($name:ident = $text:literal: $docs:literal;)*) => {
        $(
            #[doc = $docs]
            pub const $name: &str = $text;
        )*
    };
}

names! {
    KEYS = "KEYS": "Business keys, separated by spaces; indexed.";
    TAGS = "TAGS": "The tag, hashed into the consume queue.";
    WAIT = "WAIT": "Whether the sender waits for flush and replication.";
    DELAY = "DELAY": "Delay level, from 1.";
    RETRY_TOPIC = "RETRY_TOPIC": "Original topic of a retried message.";
    REAL_TOPIC = "REAL_TOPIC": "Original topic of a delayed, timed or half message.";
    REAL_QID = "REAL_QID": "Original queue of a delayed, timed or half message.";
    TRAN_MSG = "TRAN_MSG": "`true` marks a half message.";
    PGROUP = "PGROUP": "Producer group, needed for checks of transactions.";
    MIN_OFFSET = "MIN_OFFSET": "Added by consumers from the pull's answer.";
    MAX_OFFSET = "MAX_OFFSET": "Added by consumers from the pull's answer.";
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID": "Offset message id of the first delivery.";
    RECONSUME_TIME = "RECONSUME_TIME": "How often consumed, on its way back.";
    MSG_REGION = "MSG_REGION": "The broker's region.";
    TRACE_ON = "TRACE_ON": "Whether traces are wanted.";
    UNIQ_KEY = "UNIQ_KEY": "Unique id made by the client, or the broker in its place.";
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES": "Limit of retries, on its way back.";
    CONSUME_START_TIME = "CONSUME_START_TIME": "Added by consumers.";
    INNER_NUM = "INNER_NUM": "How many messages an inner batch has.";
    INNER_BASE = "INNER_BASE": "First offset of an inner batch.";
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH": "Light queues that hold the message as well, separated by commas.";
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET": "Its offset in each of them, in their order.";
    CHECK_IMMUNITY_TIME = "CHECK_IMMUNITY_TIME_IN_SECONDS": "No check of the transaction before.";
    TRANSACTION_ID = "__transactionId__": "Id of the transaction.";
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES": "Checks made so far.";
    INSTANCE_ID = "INSTANCE_ID": "Namespace instance.";
    CORRELATION_ID = "CORRELATION_ID": "Correlates request and reply messages.";
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT": "Client id that waits for the reply.";
    TTL = "TTL": "Milliseconds for which a reply is awaited.";
    ARRIVE_TIME = "ARRIVE_TIME": "When the reply arrived at the broker.";
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME": "When the reply was pushed.";
    CLUSTER = "CLUSTER": "Cluster that stored the message.";
    MSG_TYPE = "MSG_TYPE": "`reply` for reply messages.";
    POP_CK = "POP_CK": "Check point of a popped message.";
    FIRST_POP_TIME = "1ST_POP_TIME": "When a message was popped for the first time, in milliseconds.";
    SHARDING_KEY = "__SHARDINGKEY": "What orders messages into queues.";
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC": "Delay in seconds.";
    TIMER_DELAY_MS = "TIMER_DELAY_MS": "Delay in milliseconds.";
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS": "Time of delivery in milliseconds.";
    TIMER_OUT_MS = "TIMER_OUT_MS": "Time of delivery as the broker rounded it.";
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS": "When a delayed message was put aside.";
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS": "When a delayed message was delivered.";
    TIMER_DELAY_LEVEL = "TIMER_DELAY_LEVEL": "Delay level, when it was turned into a time.";
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES": "How often a long delay was put aside anew.";
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY": "Marks the recall of a delayed message.";
    EXTEND_UNIQ_INFO = "EXTEND_UNIQ_INFO": "More to tell apart copies of a message.";
    BORN_HOST = "__BORNHOST": "Who sent it, when a gateway passed it on.";
    BORN_TIMESTAMP = "BORN_TIMESTAMP": "When it was sent, when a gateway passed it on.";
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC": "Topic of a dead letter.";
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID": "Offset message id of a dead letter.";
    RESENT_DEAD_LETTER = "SKYLARK_DEAD_LETTER": "Offset message id of the dead letter that this one was sent again for.";
}

/// Properties, borrowed from their bytes.
///
/// Read as Java reads them: the last property need not be ended; an entry without a name or a value is none; of
/// equal names the last counts. One that is not UTF-8 is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Properties in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw().filter_map(|(name, value)| {
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    fn raw(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.0;
        places(bytes).map(|(name, value)| (&bytes[name], &bytes[value]))
    }

    /// The values of these properties, found in one go.
    pub fn pick<const N: usize>(&self, names: [&str; N]) -> [Option<&'a str>; N] {
        let mut found = [None; N];
        for (name, value) in self.raw() {
            if let Some(place) = names.iter().position(|known| known.as_bytes() == name)
                && let Ok(value) = std::str::from_utf8(value)
            {
                found[place] = Some(value);
            }
        }
        found
    }

    /// What a message is found by; see [`index_keys`].
    pub fn index_keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let [unique, business] = self.pick([UNIQ_KEY, KEYS]);
        index_keys(unique, business)
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let [value] = self.pick([name]);
        value
    }
}

/// Names and values in their order, of properties that are known to be text: each is not looked at for it again.
pub fn in_text(text: &str) -> impl Iterator<Item = (&str, &str)> {
    places(text.as_bytes()).map(|(name, value)| (&text[name], &text[value]))
}

/// Where names and values stand. Separators are searched for once for all of them: what stands between is short.
fn places(bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut separators = memchr::memchr2_iter(NAME_END, PROPERTY_END, bytes);
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut name_end = None;
        loop {
            let end = match separators.next() {
                Some(at) if bytes[at] == NAME_END => {
                    name_end.get_or_insert(at);
                    continue;
                }
                Some(at) => at,
                None if start < bytes.len() => bytes.len(),
                None => return None,
            };
            let name_start = std::mem::replace(&mut start, end + 1);
            if let Some(name_end) = name_end.take()
                && name_start < name_end
                && name_end + 1 < end
            {
                return Some((name_start..name_end, name_end + 1..end));
            }
        }
    })
}

/// What a message is found by: its unique key, and each of its business keys, as [`UNIQ_KEY`] and [`KEYS`] say them.
pub fn index_keys<'a>(unique: Option<&'a str>, business: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let business = business.unwrap_or_default().split(KEY_SEPARATOR).filter(|key| !key.is_empty());
    unique.into_iter().chain(business)
}

/// Writes properties anew, without those in `remove` and with those in `put` behind the rest.
///
/// What is put replaces what has its name. The rest keeps its bytes and its order; only what Java would not read as
/// a property is left out. Names and values of `put` must not hold the two separators; see [`is_writable`].
pub fn rewrite(properties: &[u8], remove: &[&str], put: &[(&str, &str)]) -> Vec<u8> {
    let put_bytes: usize = put.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut written = Vec::with_capacity(properties.len() + 1 + put_bytes);
    for entry in properties.split(|&byte| byte == PROPERTY_END) {
        let Some((name, _)) = parts(entry) else { continue };
        let is_named = |known: &str| known.as_bytes() == name;
        if remove.iter().any(|known| is_named(known)) {
            continue;
        }
        if !put.iter().any(|(known, _)| is_named(known)) {
            written.extend_from_slice(entry);
            written.push(PROPERTY_END);
        }
    }
    put.iter().for_each(|(name, value)| write(name, value, &mut written));
    written
}

/// Name and value of an entry, neither of them empty.
fn parts(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let name_end = memchr::memchr(NAME_END, entry)?;
    let (name, value) = (&entry[..name_end], &entry[name_end + 1..]);
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

/// Appends a property. Name and value must not hold the two separators; see [`is_writable`].
pub fn write(name: &str, value: &str, into: &mut impl BufMut) {
    into.put_slice(name.as_bytes());
    into.put_u8(NAME_END);
    into.put_slice(value.as_bytes());
    into.put_u8(PROPERTY_END);
}

/// Whether a text can be a property's name or value.
pub fn is_writable(text: &str) -> bool {
    !text.is_empty() && memchr::memchr2(NAME_END, PROPERTY_END, text.as_bytes()).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> = Properties::new(bytes.as_bytes()).iter().collect();
        assert_eq!(found, expected, "{bytes:?}");
        assert_eq!(in_text(bytes).collect::<Vec<_>>(), expected, "{bytes:?}, as text");
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        check("", &[]);
        check("a\u{1}1\u{2}TAGS\u{1}TagA\u{2}", &[("a", "1"), ("TAGS", "TagA")]);
        check("a\u{1}1\u{2}b\u{1}\u{2}c\u{1}x", &[("a", "1"), ("c", "x")]);
        check("\u{1}1\u{2}plain\u{2}\u{2}d\u{1}1\u{1}2", &[("d", "1\u{1}2")]);
        assert_eq!(Properties::new(b"a\x011\x02a\x012\x02").get("a"), Some("2"));
        assert_eq!(Properties::new(b"a\x01\xFF\x02b\x01x\x02").get("a"), None);
        assert_eq!(
            Properties::new(b"a\x011\x02b\x012\x02a\x01\xFF\x02").pick(["b", "c", "a"]),
            [Some("2"), None, Some("1")]
        );
    }

    fn check_rewrite(bytes: &str, remove: &[&str], put: &[(&str, &str)], expected: &str) {
        assert_eq!(rewrite(bytes.as_bytes(), remove, put), expected.as_bytes(), "{bytes:?}");
    }

    #[test]
    fn properties_are_written_anew() {
        check_rewrite("", &["a"], &[], "");
        check_rewrite("a\u{1}1\u{2}b\u{1}2", &[], &[("c", "3")], "a\u{1}1\u{2}b\u{1}2\u{2}c\u{1}3\u{2}");
        check_rewrite("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3\u{2}", &["a"], &[], "b\u{1}2\u{2}");
        check_rewrite("a\u{1}1\u{2}b\u{1}2\u{2}", &["x"], &[("a", "9")], "b\u{1}2\u{2}a\u{1}9\u{2}");
        check_rewrite("a\u{1}1\u{1}2\u{2}plain\u{2}\u{1}x\u{2}b\u{1}\u{2}", &[], &[], "a\u{1}1\u{1}2\u{2}");
        assert_eq!(rewrite(b"a\x01\xFF\x02b\x01x\x02", &["b"], &[]), b"a\x01\xFF\x02");
    }

    #[test]
    fn a_message_is_found_by_its_unique_key_and_each_business_key() {
        let keys = |bytes: &str| -> Vec<String> {
            Properties::new(bytes.as_bytes()).index_keys().map(str::to_owned).collect()
        };
        assert!(keys("TAGS\u{1}A\u{2}").is_empty());
        assert_eq!(keys("KEYS\u{1}a  b \u{2}UNIQ_KEY\u{1}U\u{2}"), ["U", "a", "b"]);
        assert_eq!(keys("KEYS\u{1}a\u{2}KEYS\u{1}b c"), ["b", "c"]);
        assert_eq!(keys("UNIQ_KEY\u{1}a b"), ["a b"]);
    }

    proptest! {
        #[test]
        fn what_is_put_is_read_and_what_is_removed_is_not(bytes: Vec<u8>, name in "[a-c]", value in ".{1,3}") {
            prop_assume!(is_writable(&value));
            let written = rewrite(&bytes, &["d"], &[(&name, &value)]);
            let written = Properties::new(&written);
            prop_assert_eq!(written.get(&name), Some(&*value));
            prop_assert_eq!(written.get("d"), None);
            let rest = |properties: Properties<'_>| -> Vec<(String, String)> {
                let others = properties.iter().filter(|(known, _)| *known != name && *known != "d");
                others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            prop_assert_eq!(rest(written), rest(Properties::new(&bytes)));
        }

        #[test]
        fn properties_read_back(properties in proptest::collection::vec((".{1,5}", ".{1,5}"), 0..5)) {
            let mut bytes = Vec::new();
            let kept: Vec<_> = properties
                .iter()
                .filter(|(name, value)| is_writable(name) && is_writable(value))
                .map(|(name, value)| (&**name, &**value))
                .collect();
            kept.iter().for_each(|(name, value)| write(name, value, &mut bytes));
            prop_assert_eq!(Properties::new(&bytes).iter().collect::<Vec<_>>(), kept);
        }

        #[test]
        fn no_text_panics(text: String) {
            prop_assert!(in_text(&text).eq(Properties::new(text.as_bytes()).iter()));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            assert!(Properties::new(&bytes).iter().count() <= bytes.len());
        }
    }
}
