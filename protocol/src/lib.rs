//! The RocketMQ remoting protocol and the transport boundary, without I/O.

pub mod code;
pub mod command;
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
