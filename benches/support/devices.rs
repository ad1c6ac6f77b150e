//! The devices of the log that are put beside each other.

use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};
use std::io;
use std::path::Path;

/// One way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As in the log's configuration.
    pub name: &'static str,
    device: DeviceChoice,
}

/// What a log takes by itself.
const BY_ITSELF: Choice = Choice { name: "auto", device: DeviceChoice::Auto };

/// All there are, and last the one that a log takes by itself.
pub fn choices() -> Vec<Choice> {
    let fixed = |kind: &DeviceKind| Choice { name: kind.name(), device: DeviceChoice::Fixed(*kind) };
    DeviceKind::ALL.iter().map(fixed).chain([BY_ITSELF]).collect()
}

/// The one of this name.
pub fn find(name: &str) -> Option<Choice> {
    choices().into_iter().find(|choice| choice.name == name)
}

/// What a log takes by itself.
pub fn by_itself() -> Choice {
    BY_ITSELF
}

/// Whether a log in `root` can be written to in the way of `choice`.
///
/// # Errors
/// What the kernel or the file system has against it.
pub fn check(root: &Path, choice: Choice) -> io::Result<()> {
    Directory::open(root)?.with_device(choice.device).check_device()
}

/// The directory at `root`, written to in the way of `choice`.
///
/// A log that chooses by itself measures in the background, and changes over at its next segment. Here it has done so
/// before it is opened, as one has that was opened on the same directory before: each such directory is measured, and the
/// log then takes what came of that.
///
/// # Errors
/// When the directory cannot be used so.
pub fn open(root: &Path, choice: Choice) -> io::Result<Directory> {
    let directory = Directory::open(root)?.with_device(choice.device);
    if choice.device == DeviceChoice::Auto {
        directory.calibrate_if_due()?;
    }
    Ok(directory)
}
