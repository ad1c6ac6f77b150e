//! Clients, as models: what they were told is what the broker is held to.
//!
//! Each does what it does when the world lets it act, hears when bytes have moved, and forgets what was under way
//! when its connection is gone.

use std::time::Duration;

use rand_pcg::Pcg64;

use super::line::Line;
use super::story::Story;

pub mod follower;
pub mod operator;
pub mod orderly;
pub mod producer;
pub mod returner;

pub use follower::Follower;
pub use operator::Operator;
pub use orderly::Orderly;
pub use producer::Producer;
pub use returner::Returner;

/// A topic that is never deleted, and one that is, with the number of their queues.
pub const STEADY: (&str, u32) = ("steady", 3);
pub const FLEETING: (&str, u32) = ("fleeting", 2);
/// Whose messages come back, and where to.
pub const RETURNING_GROUP: &str = "RG";
pub const RETRY_TOPIC: &str = "%RETRY%RG";
pub const DEAD_LETTERS: &str = "%DLQ%RG";
/// How often a message of that group is tried again.
pub const RETRIES_MAX: i32 = 2;

/// What a client acts with.
pub struct Scene<'a> {
    pub random: &'a mut Pcg64,
    pub story: &'a mut Story,
    pub wall_ms: u64,
    pub now: Duration,
}

pub trait Client {
    fn line(&self) -> &Line;

    /// Does something, if it has nothing under way.
    fn act(&mut self, scene: &mut Scene<'_>);

    /// Takes the answers that have come.
    fn hear(&mut self, scene: &mut Scene<'_>);

    /// The connection is gone, and what was under way may have happened or not.
    fn lost(&mut self, scene: &mut Scene<'_>);
}
