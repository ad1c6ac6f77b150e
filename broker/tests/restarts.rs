//! What a restart finds after trims, after topics were deleted and made again, and after files were lost; and that
//! a broker that trusted what it must not trust would be noticed.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod restarts {
    pub mod audit;
    pub mod lives;
    pub mod lost_indexes;
    pub mod misled;
    pub mod process;
    pub mod stuck;
    pub mod trims;
}

#[allow(unreachable_pub, dead_code, reason = "shared with another test, which uses more of it")]
#[path = "delays/world.rs"]
mod world;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
#[path = "simulation/digest.rs"]
mod digest;

#[allow(unreachable_pub, dead_code, reason = "shared with another test, which uses more of it")]
#[path = "simulation/disks.rs"]
mod disks;
