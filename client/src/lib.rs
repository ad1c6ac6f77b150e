//! A RocketMQ producer and consumers, for any compatible broker, over any transport.
//!
//! ```text
//!  Producer  PullConsumer  PushConsumer  Admin
//!      └────────────┴──────┬──────┴────────┘
//!                        Client        routes, connections by address, heartbeats
//!                          │
//!                        Remote ◄──► RemoteSession ◄── a transport
//! ```
//!
//! | to change…                                   | open                 |
//! |----------------------------------------------|----------------------|
//! | how requests meet their answers              | `remote`             |
//! | which connections there are, who says hello  | `client`             |
//! | what a topic's route means                   | `route`              |
//! | how a message is sent, and sent again        | `producer`           |
//! | what a message looks like to an application  | `message`            |
//! | how queues are pulled                        | `consumer::pull`     |
//! | how a group shares queues and keeps offsets  | `consumer::push`     |
//! | who gets which queue                         | `consumer::allocate` |
//!
//! Delivery is at least once: an offset is committed when everything before it was consumed, and a send whose
//! answer is lost may have been stored. Start reading at [`Client::new`].

#![forbid(unsafe_code)]

mod admin;
mod client;
mod clock;
pub mod consumer;
mod groups;
mod message;
mod producer;
mod remote;
mod route;

pub use admin::{Admin, TopicSettings};
pub use client::{Client, ClientOptions};
pub use consumer::{Consumed, PullConsumer, PullStatus, Pulled, PushConsumer, PushOptions, StartFrom};
pub use message::UnreadableMessage;
pub use message::{Message, Received};
pub use producer::{Producer, ProducerOptions, SendError, SendStatus, Sent};
pub use remote::{InvokeError, Remote, RemoteSession, Request, Response, ServerRequests, refuse};
pub use route::{Queue, Route};

#[cfg(test)]
mod tests;
