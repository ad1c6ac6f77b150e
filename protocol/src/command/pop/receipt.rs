//! What a consumer shows to acknowledge a message that it popped.

use std::fmt;

use crate::header::FieldError;

/// The revive queue of a message that is consumed in order.
pub const ORDERLY: i32 = 999;

/// Names a popped message; property `POP_CK` and field `extraInfo`. As text, eight values with a blank between them,
/// in the order of the fields: `100 1700000000000 60000 3 0 broker-a 1 103`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// Ordinal of the first message that was popped with it.
    pub start_offset: u64,
    /// When it was popped, in milliseconds.
    pub popped_at: u64,
    /// For how many milliseconds it was invisible.
    pub invisible_ms: u64,
    /// [`ORDERLY`], or a number that some brokers need.
    pub revive_queue_id: i32,
    /// 0 for a message of the topic itself, more for one of its retries.
    pub retry: u8,
    /// The broker.
    pub broker_name: &'a str,
    /// The message's queue.
    pub queue_id: u32,
    /// Its ordinal.
    pub queue_offset: u64,
}

impl<'a> Receipt<'a> {
    /// Reads a receipt. Newer clients may add values behind the eight.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &'a str) -> Result<Self, FieldError> {
        let read = || {
            let mut values = text.split(' ');
            let mut next = || values.next();
            Some(Self {
                start_offset: next()?.parse().ok()?,
                popped_at: next()?.parse().ok()?,
                invisible_ms: next()?.parse().ok()?,
                revive_queue_id: next()?.parse().ok()?,
                retry: next()?.parse().ok()?,
                broker_name: next().filter(|name| !name.is_empty())?,
                queue_id: next()?.parse().ok()?,
                queue_offset: next()?.parse().ok()?,
            })
        };
        read().ok_or_else(|| FieldError::invalid("extraInfo", "the receipt of a popped message", text))
    }

    /// Whether the message is consumed in order.
    pub fn is_orderly(&self) -> bool {
        self.revive_queue_id == ORDERLY
    }
}

impl fmt::Display for Receipt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start_offset,
            popped_at,
            invisible_ms,
            revive_queue_id,
            retry,
            broker_name,
            queue_id,
            queue_offset,
        } = self;
        write!(
            f,
            "{start_offset} {popped_at} {invisible_ms} {revive_queue_id} {retry} {broker_name} {queue_id} "
        )?;
        write!(f, "{queue_offset}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_eight_values() {
        let text = "100 1700000000000 60000 3 0 broker-a 1 103";
        let receipt = Receipt::parse(text).unwrap();
        assert_eq!((receipt.start_offset, receipt.queue_id, receipt.queue_offset), (100, 1, 103));
        assert_eq!((receipt.broker_name, receipt.retry, receipt.is_orderly()), ("broker-a", 0, false));
        assert_eq!(receipt.to_string(), text);
        assert_eq!(Receipt::parse(&format!("{text} more")).unwrap(), receipt);
    }

    #[test]
    fn what_is_no_receipt_is_refused() {
        for text in [
            "",
            "100 1700000000000 60000 3 0 broker-a 1",
            "100 1700000000000 60000 3 0  1 103",
            "-1 1700000000000 60000 3 0 broker-a 1 103",
            "100 1700000000000 60000 3 0 broker-a 1 99999999999999999999",
            "a b c d e f g h",
        ] {
            assert!(Receipt::parse(text).is_err(), "{text}");
        }
    }
}
