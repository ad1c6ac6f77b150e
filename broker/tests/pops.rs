//! POP: what is popped, acknowledged, prolonged, and delivered again, on a simulated disk and clock and against the real
//! binary.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod pops {
    pub mod clocks;
    pub mod consumer;
    pub mod frames;
    pub mod lives;
    pub mod mixes;
    pub mod order;
    pub mod process;
    pub mod waits;
}
