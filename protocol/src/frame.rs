//! Frames: a length word, a header, a body.
//!
//! ```text
//! 0        4        5             8                8+H                    4+L
//! ├────────┼────────┼─────────────┼────────────────┼──────────────────────┤
//! │ L: i32 │ T: u8  │ H: u24      │ header         │ body                 │
//! └────────┴────────┴─────────────┴────────────────┴──────────────────────┘
//! ```
//!
//! `L` counts what follows it: 4 + H + the body. `T` says how the header is written. All integers are
//! big-endian. The body has no length of its own.

use crate::header::{Header, HeaderError, binary, json};

/// How a frame's header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON text, which every client speaks.
    Json,
    /// RocketMQ's own binary form.
    Binary,
}

/// One frame, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How the header is written.
    pub encoding: Encoding,
    /// The header's bytes, not yet parsed.
    pub header: &'a [u8],
    /// The body's bytes.
    pub body: &'a [u8],
}

/// Why bytes are not a frame. Nothing behind them can be trusted, so the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length word announces more than is allowed (a TLS handshake looks like this too).
    #[error("a frame of {frame_bytes} bytes is announced, the limit is {frame_bytes_max}")]
    TooLong {
        /// Bytes announced, the length word included.
        frame_bytes: usize,
        /// The limit.
        frame_bytes_max: usize,
    },
    /// The length word leaves no room for the word that describes the header, or is negative.
    #[error("the length word says {length}, a frame has at least 4 bytes behind it")]
    TooShort {
        /// What the length word says.
        length: i32,
    },
    /// The header would end behind the frame.
    #[error("a header of {header_bytes} bytes does not fit into a frame of {frame_bytes}")]
    HeaderTooLong {
        /// What the header's length says.
        header_bytes: usize,
        /// Bytes of the whole frame.
        frame_bytes: usize,
    },
    /// The byte that tells the header's encoding is neither 0 nor 1.
    #[error("header encoding {0} is unknown (0 is JSON, 1 is binary)")]
    UnknownEncoding(u8),
}

/// What RocketMQ accepts as a whole frame, and therefore the most one may send to it.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the length word and the word that describes the header.
pub(crate) const PREFIX_BYTES: usize = 8;

/// Longest header that the 24 bits of its length can express.
pub(crate) const HEADER_BYTES_MAX: usize = 0x00FF_FFFF;

/// Finds the frame at the start of `buffer` and tells how many bytes it takes; `None` asks for more bytes.
///
/// A broken rule is reported as soon as the bytes that break it are there.
///
/// # Errors
/// When the bytes are no frame, or one of more than `frame_bytes_max` bytes.
pub fn decode(buffer: &[u8], frame_bytes_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, behind)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    let Some(behind_bytes) = usize::try_from(length).ok().filter(|&bytes| bytes >= 4) else {
        return Err(FrameError::TooShort { length });
    };
    let frame_bytes = behind_bytes + 4;
    if frame_bytes > frame_bytes_max {
        return Err(FrameError::TooLong { frame_bytes, frame_bytes_max });
    }
    let Some(([encoding, high, middle, low], _)) = behind.split_first_chunk::<4>() else { return Ok(None) };
    let encoding = match encoding {
        0 => Encoding::Json,
        1 => Encoding::Binary,
        &unknown => return Err(FrameError::UnknownEncoding(unknown)),
    };
    let header_bytes = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    let header_end = PREFIX_BYTES + header_bytes;
    if header_end > frame_bytes {
        return Err(FrameError::HeaderTooLong { header_bytes, frame_bytes });
    }
    let Some(whole) = buffer.get(..frame_bytes) else { return Ok(None) };
    let frame = Frame { encoding, header: &whole[PREFIX_BYTES..header_end], body: &whole[header_end..] };
    Ok(Some((frame, frame_bytes)))
}

/// How long the frame at the start of `buffer` will be, once its length word is there.
///
/// Not to be believed before [`decode`] has seen the same bytes without an error.
pub fn need(buffer: &[u8]) -> Option<usize> {
    let length = buffer.first_chunk::<4>()?;
    usize::try_from(i32::from_be_bytes(*length)).ok().map(|behind| behind + 4)
}

impl<'a> Frame<'a> {
    /// Parses the header.
    ///
    /// # Errors
    /// When the header's bytes do not follow its encoding. The frame itself is sound and so is what comes
    /// behind it, but there is no opaque that an answer could carry.
    pub fn parse(&self) -> Result<Header<'a>, HeaderError> {
        match self.encoding {
            Encoding::Json => json::parse(self.header),
            Encoding::Binary => binary::parse(self.header),
        }
    }

    /// Bytes of the whole frame on the wire.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        PREFIX_BYTES + self.header.len() + self.body.len()
    }

    /// The frame as it is on the wire.
    ///
    /// # Panics
    /// When the header has 16 MiB or the frame 2 GiB, which no decoded frame has.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.len());
        wire.extend_from_slice(&prefix(self.encoding, self.header.len(), self.body.len()));
        wire.extend_from_slice(self.header);
        wire.extend_from_slice(self.body);
        wire
    }
}

/// The first eight bytes of a frame.
pub(crate) fn prefix(encoding: Encoding, header_bytes: usize, body_bytes: usize) -> [u8; PREFIX_BYTES] {
    assert!(header_bytes <= HEADER_BYTES_MAX, "headers are below 16 MiB");
    let length = i32::try_from(4 + header_bytes + body_bytes).expect("frames are below 2 GiB");
    let kind = match encoding {
        Encoding::Json => 0,
        Encoding::Binary => 1_u32 << 24,
    };
    let described = kind | u32::try_from(header_bytes).expect("checked above");
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&length.to_be_bytes());
    prefix[4..].copy_from_slice(&described.to_be_bytes());
    prefix
}

#[cfg(test)]
mod tests;
