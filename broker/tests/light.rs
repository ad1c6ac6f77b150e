//! Light queues: one message in many queues. And types of messages, which topics state. On a simulated disk and clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

#[path = "simulation/disks.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod disks;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod light {
    pub mod crashes;
    pub mod producer;
    pub mod queues;
    pub mod types;
}
