//! Types of messages, as topics may state them by their attribute `message.type`.
//!
//! RocketMQ's broker stores and shows the attribute and lets its proxy go by it. Here a broker goes by it if it is
//! configured to.

use std::collections::BTreeMap;

/// The attribute of a topic that says of which type its messages are.
pub const ATTRIBUTE: &str = "message.type";
/// The value that an operator has to allow by configuration.
pub const MIXED: &str = "MIXED";

/// What a message is, by its properties: the first of these in the order of [`MessageType::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Nothing else.
    Normal,
    /// In the order of a key.
    Fifo,
    /// Delivered later.
    Delay,
    /// Delivered if its transaction is committed.
    Transaction,
}

impl MessageType {
    /// The type of a message that is one of these.
    pub fn of(is_half: bool, is_delayed: bool, is_ordered: bool) -> Self {
        match (is_half, is_delayed, is_ordered) {
            (true, ..) => Self::Transaction,
            (_, true, _) => Self::Delay,
            (_, _, true) => Self::Fifo,
            _ => Self::Normal,
        }
    }

    /// The type that a topic's messages have to be of, if its attributes state one.
    pub fn stated(attributes: &BTreeMap<String, String>) -> Option<Self> {
        let types = [Self::Normal, Self::Fifo, Self::Delay, Self::Transaction];
        let stated = attributes.get(ATTRIBUTE)?;
        types.into_iter().find(|known| known.name() == stated)
    }

    /// RocketMQ's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
        }
    }
}

/// Whether the attribute may have this value.
pub fn is_attribute_value(value: &str) -> bool {
    matches!(value, "UNSPECIFIED" | "NORMAL" | "FIFO" | "DELAY" | "TRANSACTION" | MIXED)
}
