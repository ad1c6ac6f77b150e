//! Recalling a message that waits for its time.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

header_fields! {
    /// A message that waits for its time is not to be delivered: code 370. Answered with [`Recalled`], or with 604
    /// where the handle names none that waits.
    Recall<'a> {
        /// The group of the producer that asks.
        producer_group: Option<&'a str> = "producerGroup",
        /// The topic of the message.
        topic: &'a str = "topic",
        /// What the answer to its send called it: a [`RecallHandle`].
        handle: &'a str = "recallHandle",
    }
}

header_fields! {
    /// What answers code 370.
    Recalled<'a> {
        /// The unique key of the message.
        message_id: &'a str = "msgId",
    }
}

/// Names a message that waits for its time: Base64 with the alphabet for URLs, padded, of `v1`, topic, broker,
/// time and unique key, with a blank between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle<'a> {
    /// The topic that the message is for.
    pub topic: Cow<'a, str>,
    /// The broker where it waits.
    pub broker: Cow<'a, str>,
    /// The millisecond behind the one at which it is due, in milliseconds since 1970.
    pub behind_due_ms: u64,
    /// Its unique key.
    pub message_id: Cow<'a, str>,
}

/// A text is no recall handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("recall handle is invalid")]
pub struct NoRecallHandle;

impl RecallHandle<'_> {
    /// Whether a handle can name a message with this unique key: it must not look like two.
    pub fn can_name(message_id: &str) -> bool {
        !message_id.is_empty() && !message_id.contains(' ')
    }

    /// Reads a handle, padded or not. What stands behind the key is left for later versions, as RocketMQ does.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<RecallHandle<'static>, NoRecallHandle> {
        let raw = String::from_utf8(decoded(text).ok_or(NoRecallHandle)?).map_err(|_| NoRecallHandle)?;
        let mut parts = raw.split(' ');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or(NoRecallHandle);
        if next()? != "v1" {
            return Err(NoRecallHandle);
        }
        let (topic, broker) = (next()?.to_owned().into(), next()?.to_owned().into());
        let behind_due_ms = next()?.parse().map_err(|_| NoRecallHandle)?;
        Ok(RecallHandle { topic, broker, behind_due_ms, message_id: next()?.to_owned().into() })
    }

    /// The handle's text.
    pub fn text(&self) -> String {
        let Self { topic, broker, behind_due_ms, message_id } = self;
        let mut number = itoa::Buffer::new();
        let parts = ["v1", topic, broker, number.format(*behind_due_ms), message_id];
        let mut raw = SmallVec::<[u8; 128]>::new();
        for part in parts {
            if !raw.is_empty() {
                raw.push(b' ');
            }
            raw.extend_from_slice(part.as_bytes());
        }
        encoded(&raw)
    }
}

impl fmt::Display for RecallHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The digits of each twelve bits: each answer to the send of a message that waits has a handle, and two digits at a time
/// are made in half the time.
static PAIRS: [[u8; 2]; 4096] = {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = [ALPHABET[bits >> 6], ALPHABET[bits & 0x3F]];
        bits += 1;
    }
    pairs
};

fn encoded(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    let digits = |[a, b, c]: [u8; 3]| {
        let bits = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let ([first, second], [third, fourth]) = (PAIRS[bits >> 12], PAIRS[bits & 0xFFF]);
        [first, second, third, fourth]
    };
    let (whole, rest) = bytes.as_chunks::<3>();
    text.extend(whole.iter().flat_map(|chunk| digits(*chunk)));
    match *rest {
        [a] => text.extend_from_slice(&digits([a, 0, 0])[..2]),
        [a, b] => text.extend_from_slice(&digits([a, b, 0])[..3]),
        _ => {}
    }
    text.resize(text.len().next_multiple_of(4), b'=');
    String::from_utf8(text).expect("the alphabet is ASCII")
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    // A padding is whole if it is there; a digit alone is less than a byte.
    let is_whole =
        digits.len() == text.len() || text.len().is_multiple_of(4) && text.len() - digits.len() <= 2;
    if !is_whole || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits = 0;
        for digit in chunk {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        let [_, a, b, c] = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        bytes.extend_from_slice(&[a, b, c][..chunk.len() - 1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_handle_is_what_rocketmq_makes_of_it() {
        let handle = RecallHandle {
            topic: "TopicTest".into(),
            broker: "broker-a".into(),
            behind_due_ms: 1_700_000_060_001,
            message_id: "7F00000100002A9F0000000000000000".into(),
        };
        let text =
            "djEgVG9waWNUZXN0IGJyb2tlci1hIDE3MDAwMDAwNjAwMDEgN0YwMDAwMDEwMDAwMkE5RjAwMDAwMDAwMDAwMDAwMDA=";
        assert_eq!(handle.to_string(), text);
        assert_eq!(RecallHandle::parse(text), Ok(handle.clone()));
        assert_eq!(RecallHandle::parse(text.trim_end_matches('=')), Ok(handle), "the padding may be missing");
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let encoded = |raw: &str| encoded(raw.as_bytes());
        for raw in ["", "v1", "v2 t b 1 u", "v1 t b 1", "v1 t b x u", "v1 t b -1 u", "v1 t  1 u", "v1 t b 1 "]
        {
            assert_eq!(RecallHandle::parse(&encoded(raw)), Err(NoRecallHandle), "{raw:?}");
        }
        for text in ["djE=x", "d", "dj=", "d===", "dj+/", "é", "===="] {
            assert_eq!(RecallHandle::parse(text), Err(NoRecallHandle), "{text:?}");
        }
        assert!(RecallHandle::parse(&encoded("v1 t b 1 u and more")).is_ok());
        assert!(RecallHandle::can_name("u") && !RecallHandle::can_name("") && !RecallHandle::can_name("u v"));
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes: Vec<u8>) {
            let text = encoded(&bytes);
            prop_assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
            prop_assert_eq!(decoded(&text), Some(bytes.clone()));
            prop_assert_eq!(decoded(text.trim_end_matches('=')), Some(bytes));
        }

        #[test]
        fn no_text_panics(text: String) {
            RecallHandle::parse(&text).ok();
        }
    }
}
