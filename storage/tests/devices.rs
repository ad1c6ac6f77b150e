//! The same suites on every device of a real file system: what it writes and who may read it meanwhile, the log
//! against a list of records, and kills in the middle of it.
//!
//! A device that cannot be used where the tests run is skipped, with the reason; `SKYLARK_DEVICES=required` makes
//! that a failure. `SKYLARK_CRASH_ROUNDS=n` kills more often.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod devices {
    pub mod file_systems;
    pub mod kills;
    pub mod model;
    pub mod operations;
    pub mod workload;
}

#[path = "support/usable.rs"]
mod usable;

use std::io;
use std::process::{Child, Command};
use std::sync::RwLock;

use usable::{directory, temporary, usable, works};

/// Held for reading by who closes a log and opens it again, for writing by who starts a process: until that is another
/// program it holds all descriptors of this one, and with them the locks that were just given back.
static STARTS: RwLock<()> = RwLock::new(());

fn start(command: &mut Command) -> io::Result<Child> {
    let _nobody_opens = STARTS.write();
    command.spawn()
}
