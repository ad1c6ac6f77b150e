//! The RocketMQ remoting protocol and the transport boundary, without I/O.
//!
//! ```text
//!  bytes ──frame──► Frame ──header──► Header ──command──► typed request ──► a handler, in another crate
//!  bytes ◄─────────── outgoing ◄──── fields ◄──command──── typed answer ◄──┘
//! ```
//!
//! | to change…                                            | open        |
//! |-------------------------------------------------------|-------------|
//! | where a frame ends                                    | `frame`     |
//! | how a header is read, in JSON or binary               | `header`    |
//! | how a header is written, and what an answer needs      | `outgoing`  |
//! | which codes there are                                 | `code`      |
//! | what the fields and body of a request mean            | `command`   |
//! | how messages are stored, batched, named and filtered  | `message`   |
//! | which messages an SQL92 expression selects            | `filter`    |
//! | what is odd about Java's JSON; Java's string hash     | `json`, `java` |
//! | what a server or client core sees of a connection     | `transport` |
//! | connections within one process, for tests             | `memory`    |
//!
//! Promise: no bytes from outside cause a panic or an allocation by a length that was not checked, and reading
//! what was written gives the same value. Start reading at [`frame::decode`].

pub mod code;
pub mod command;
pub mod filter;
pub mod frame;
pub mod header;
pub mod java;
pub mod json;
pub mod memory;
pub mod message;
pub mod outgoing;
pub mod transport;

pub use code::{RequestCode, ResponseCode};
pub use frame::{Encoding, Frame, FrameError};
pub use header::{FieldError, Fields, Header, HeaderError, Language};
pub use outgoing::{Outgoing, ReplyTo, Value};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
