//! The devices of the log that are put beside each other.

use std::io;
use std::path::Path;
use std::sync::Arc;

use skylark_storage::Files;
use skylark_storage::device::buffered::Directory;

/// One way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As in the log's configuration.
    pub name: &'static str,
}

/// All there are, and last the one that a log takes by itself.
pub const CHOICES: &[Choice] = &[Choice { name: "buffered" }];

/// What a log takes by itself.
///
/// # Panics
/// Never: there are choices.
pub fn by_itself() -> Choice {
    *CHOICES.last().expect("there are choices")
}

/// The directory at `root`, written to in the way of `choice`. Where a log would find out in the background which way
/// is best, this is done first.
///
/// # Errors
/// When the directory cannot be used so.
pub fn open(root: &Path, choice: Choice) -> io::Result<Arc<dyn Files>> {
    debug_assert!(CHOICES.contains(&choice), "a device is one of those there are");
    Ok(Arc::new(Directory::open(root)?))
}
