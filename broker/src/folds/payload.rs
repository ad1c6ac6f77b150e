//! How control records are laid out: a version byte, then the struct as [postcard] encodes it.
//!
//! Postcard's format is fixed: fields in order, integers as LEB128 (signed ones zigzag), a length before text and
//! lists, one byte for `bool` and before an `Option`. A field that is added, removed or changed makes a new version;
//! each payload's golden bytes, in the tests beside it, fail when the layout changes unnoticed.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use serde::Serialize;
use serde::de::DeserializeOwned;
use skylark_storage::Kind;

/// What a control record carries.
pub trait Payload: Serialize + DeserializeOwned {
    /// Number of the records that carry it.
    const KIND: Kind;
    /// The layout's version, its first byte.
    const VERSION: u8;

    /// The payload's bytes.
    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION]).expect("a struct of plain fields has an encoding")
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When the version is unknown, or the rest is not exactly the struct.
    fn decode(payload: &[u8]) -> Result<Self, PayloadError> {
        let kind = Self::KIND.get();
        let (&version, bytes) = payload.split_first().ok_or(PayloadError::Empty { kind })?;
        if version != Self::VERSION {
            return Err(PayloadError::UnknownVersion { kind, version, known: Self::VERSION });
        }
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(PayloadError::TooLong { kind, version, left_bytes: rest.len() }),
            Err(cause) => Err(PayloadError::Malformed { kind, version, cause }),
        }
    }
}

/// Why a record could not be read. It passed its checksums, so a newer or a broken broker wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// No control record has this number.
    #[error("records of kind {kind} are not known to this version")]
    UnknownKind {
        /// The record's.
        kind: u8,
    },
    /// The kind is known, its layout is not.
    #[error("records of kind {kind} are known in version {known}, not in version {version}")]
    UnknownVersion {
        /// The record's.
        kind: u8,
        /// The payload's first byte.
        version: u8,
        /// The one that could be read.
        known: u8,
    },
    /// There is not even a version.
    #[error("a record of kind {kind} is empty")]
    Empty {
        /// The record's.
        kind: u8,
    },
    /// The bytes are not the struct.
    #[error("a record of kind {kind}, version {version}, is malformed: {cause}")]
    Malformed {
        /// The record's.
        kind: u8,
        /// The payload's first byte.
        version: u8,
        /// What did not fit.
        cause: postcard::Error,
    },
    /// The struct ends before the bytes do.
    #[error("a record of kind {kind}, version {version}, has {left_bytes} bytes too many")]
    TooLong {
        /// The record's.
        kind: u8,
        /// The payload's first byte.
        version: u8,
        /// Bytes behind the struct.
        left_bytes: usize,
    },
}
