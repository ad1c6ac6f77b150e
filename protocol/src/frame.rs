//! Frames: a length word, a header, a body.

/// How a frame's header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON text, which every client speaks.
    Json,
    /// RocketMQ's own binary form.
    Binary,
}

/// One frame, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How the header is written.
    pub encoding: Encoding,
    /// The header's bytes, not yet parsed.
    pub header: &'a [u8],
    /// The body's bytes.
    pub body: &'a [u8],
}
