//! Transactions on a simulated disk and clock: who gets what, how often, who is asked, and what survives.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, dead_code, reason = "shared with another test, which uses more of it")]
#[path = "delays/world.rs"]
mod world;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod transactions {
    pub mod carried;
    pub mod checks;
    pub mod crashes;
    pub mod ends;
    pub mod operators;
    pub mod producer;
}
