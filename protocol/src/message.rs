//! Messages: how they are stored, sent in batches, named and filtered.
//!
//! | to change…                                         | open         |
//! |----------------------------------------------------|--------------|
//! | the bytes of a stored message, which a pull returns | `record`     |
//! | names and reading of properties                    | `properties` |
//! | the body of a batch                                | `batch`      |
//! | offset message ids and unique keys                 | `id`         |
//! | which messages a tag expression selects            | `tag_filter` |

pub mod batch;
mod crc;
pub mod id;
pub mod properties;
pub mod record;
mod tag_filter;

pub use crc::body_crc;
pub use id::{IdText, OffsetMessageId, UniqueKeys};
pub use properties::Properties;
pub use record::{MessageError, MessageParts, MessageRefused, NewMessage, StoredMessage, fill_head};
pub use tag_filter::{NoTags, TagFilter};

/// Bits of a message's `sysFlag`.
pub mod sys_flag {
    /// The body is compressed.
    pub const COMPRESSED: i32 = 0x1;
    /// The topic is of the kind MULTI_TAG.
    pub const MULTI_TAGS: i32 = 0x2;
    /// Both bits that tell what the message is to a transaction.
    pub const TRANSACTION: i32 = 0xC;
    /// In [`TRANSACTION`]: a half message.
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    /// In [`TRANSACTION`]: committed.
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    /// In [`TRANSACTION`]: rolled back.
    pub const TRANSACTION_ROLLBACK: i32 = 0xC;
    /// The born host has 16 bytes.
    pub const BORN_HOST_V6: i32 = 0x10;
    /// The store host has 16 bytes.
    pub const STORE_HOST_V6: i32 = 0x20;
    /// The three bits that tell how the body is compressed: 0 and 0x300 are zlib.
    pub const COMPRESSION: i32 = 0x700;
}
