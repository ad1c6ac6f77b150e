//! Which log a byte belongs to.

use std::fmt;

/// Random identity of a log, shared by its replicas.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId([u8; 16]);

impl LogId {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The identity's bytes, as they stand in every file of the log.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The checksum state every checksum of this log starts from: bytes of another log never validate.
    pub fn seed(self) -> Seed {
        Seed(crc32c::crc32c(&self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// CRC32C of the log's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub(crate) u32);
