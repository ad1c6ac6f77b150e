//! Consuming: pulled by the application, or pushed to it.

mod allocate;
mod progress;
mod pull;
mod push;

pub use pull::{PullConsumer, PullStatus, Pulled};
pub use push::{Consumed, PushConsumer, PushOptions};

/// Where a queue starts of which the group has no offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// At its beginning.
    First,
    /// At its end: with what comes from now on.
    #[default]
    Last,
    /// With the first message stored at this time, in milliseconds since 1970, or later.
    Timestamp(i64),
}
