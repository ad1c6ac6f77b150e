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
pub fn choices() -> Vec<Choice> {
    vec![Choice { name: "buffered" }]
}

/// The one of this name.
pub fn find(name: &str) -> Option<Choice> {
    choices().into_iter().find(|choice| choice.name == name)
}

/// What a log takes by itself.
///
/// # Panics
/// Never: there are choices.
pub fn by_itself() -> Choice {
    choices().pop().expect("there are choices")
}

/// Whether a log in `root` can be written to in the way of `choice`.
///
/// # Errors
/// What the kernel or the file system has against it.
pub fn check(root: &Path, choice: Choice) -> io::Result<()> {
    open(root, choice).map(drop)
}

/// The directory at `root`, written to in the way of `choice`.
///
/// # Errors
/// When the directory cannot be used so.
pub fn open(root: &Path, choice: Choice) -> io::Result<Arc<dyn Files>> {
    debug_assert_eq!(find(choice.name), Some(choice), "a device is one of those there are");
    Ok(Arc::new(Directory::open(root)?))
}
