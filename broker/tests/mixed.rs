//! Traffic of every kind at once, and crashes in the middle of it: plain messages in order, batches, messages that wait
//! and are recalled, transactions, retries and dead letters, POP, consumers that commit, that select, and that are moved.
//! Each kind is a client with a model of its own, which knows what was promised; `broken` shows what the models notice.
//!
//! | who is crashed                                   | how                                               |
//! |--------------------------------------------------|---------------------------------------------------|
//! | `process`: the real binary, over sockets         | `kill -9`: what was written to files is there      |
//! | `simulated`: a broker in this process, by a seed | power cuts too: what was not flushed may be gone; its clock is set |
//!
//! `SKYLARK_CRASH_ROUNDS=200 cargo test -p skylark-broker --test mixed by_kills -- --nocapture` kills two hundred times.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, dead_code, reason = "shared with another test, which uses more of it")]
#[path = "delays/world.rs"]
mod world;

#[allow(unreachable_pub, dead_code, reason = "shared with another test, which uses more of it")]
#[path = "pops/consumer.rs"]
mod consumer;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod mixed {
    pub mod broken;
    pub mod cast;
    pub mod client;
    pub mod delays;
    pub mod filters;
    pub mod logs;
    pub mod pops;
    pub mod process;
    pub mod resets;
    pub mod retries;
    pub mod sends;
    pub mod simulated;
    pub mod transactions;
}
