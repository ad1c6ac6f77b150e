//! The devices that can be used where the tests run.

#![allow(dead_code, unreachable_pub, reason = "each test of the crate uses a part of this")]

use std::io;
use std::path::Path;

use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};
use tempfile::TempDir;

/// A directory on the disk that the build is on, not in memory.
pub fn temporary() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

/// The directory at `root`, with this device.
pub fn directory(root: impl AsRef<Path>, kind: DeviceKind) -> Directory {
    Directory::open(root.as_ref()).expect("it can be created").with_device(DeviceChoice::Fixed(kind))
}

/// The devices that can be used on the disk that the build is on.
pub fn usable() -> Vec<DeviceKind> {
    let temporary = temporary();
    let is_usable = |kind: &DeviceKind| works(*kind, directory(&temporary, *kind).check_device());
    DeviceKind::ALL.iter().copied().filter(is_usable).collect()
}

/// The devices that can be used in this directory; that others cannot is its file system's nature.
pub fn usable_in(root: &Path) -> Vec<DeviceKind> {
    let is_usable = |kind: &DeviceKind| directory(root, *kind).check_device().is_ok();
    DeviceKind::ALL.iter().copied().filter(is_usable).collect()
}

/// Whether something worked; says so if not, unless everything has to.
pub fn works(kind: DeviceKind, outcome: io::Result<()>) -> bool {
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
