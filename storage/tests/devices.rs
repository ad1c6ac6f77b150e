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

use std::io;
use std::process::{Child, Command};
use std::sync::RwLock;

use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};
use tempfile::TempDir;

/// A directory on the disk that the build is on, not in memory.
fn temporary() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

fn directory(root: &TempDir, kind: DeviceKind) -> Directory {
    Directory::open(root.path()).expect("it exists").with_device(DeviceChoice::Fixed(kind))
}

/// Held for reading by who closes a log and opens it again, for writing by who starts a process: until that is another
/// program it holds all descriptors of this one, and with them the locks that were just given back.
static STARTS: RwLock<()> = RwLock::new(());

fn start(command: &mut Command) -> io::Result<Child> {
    let _nobody_opens = STARTS.write();
    command.spawn()
}

/// The devices that can be used here.
fn usable() -> Vec<DeviceKind> {
    let temporary = temporary();
    let is_usable = |kind: &DeviceKind| works(*kind, directory(&temporary, *kind).check_device());
    DeviceKind::ALL.iter().copied().filter(is_usable).collect()
}

/// Whether something worked; says so if not, unless everything has to.
fn works(kind: DeviceKind, outcome: io::Result<()>) -> bool {
    let required = std::env::var_os("SKYLARK_DEVICES").is_some_and(|devices| devices == "required");
    match outcome {
        Ok(()) => true,
        Err(error) => {
            assert!(!required && error.kind() == io::ErrorKind::Unsupported, "{kind}: {error}");
            println!("{kind} is skipped: {error}");
            false
        }
    }
}
