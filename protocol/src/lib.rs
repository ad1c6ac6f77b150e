//! The RocketMQ remoting protocol and the transport boundary, without I/O.

pub mod frame;
pub mod transport;
