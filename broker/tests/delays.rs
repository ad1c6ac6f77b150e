//! Delayed messages and messages that are sent back, on a simulated disk and clock: when they are delivered, how
//! often, and with what.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod delays {
    pub mod clocks;
    pub mod crashes;
    pub mod levels;
    pub mod mixes;
    pub mod process;
    pub mod recalls;
    pub mod sent_back;
    pub mod times;
    pub mod trims;
    #[allow(dead_code, reason = "shared with another test, which uses more of it")]
    pub mod world;
}
