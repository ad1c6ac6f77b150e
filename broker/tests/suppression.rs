//! Messages that their producer sends again: acknowledged as they were, and stored once. On a simulated disk and clock,
//! and against the real binary.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

#[path = "transactions/producer.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod transactions;

#[path = "../examples/idempotent_consumer.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example has a main function that no test calls")]
mod idempotent_consumer;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod suppression {
    pub mod bounds;
    pub mod crashes;
    pub mod halves;
    pub mod idempotent;
    pub mod kinds;
    pub mod process;
    pub mod producer;
    pub mod retries;
    pub mod waiting;
}
