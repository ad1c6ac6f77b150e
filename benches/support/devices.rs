//! The devices of the log that are put beside each other.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use skylark_storage::Files;
use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};

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
/// A log that chooses by itself measures in the background, and changes over at its next segment. Here the first such
/// directory is measured before it is used, and the others follow its choice, so that a run compares one device.
///
/// # Errors
/// When the directory cannot be used so.
pub fn open(root: &Path, choice: Choice) -> io::Result<Arc<dyn Files>> {
    let directory = Directory::open(root)?;
    let device = match choice.device {
        DeviceChoice::Auto => DeviceChoice::Fixed(chosen(&directory)?),
        fixed => fixed,
    };
    Ok(Arc::new(directory.with_device(device)))
}

fn chosen(directory: &Directory) -> io::Result<DeviceKind> {
    static CHOSEN: OnceLock<DeviceKind> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(*chosen);
    }
    let calibration = match directory.calibration() {
        Some(recorded) => recorded,
        None => directory.calibrate()?,
    };
    let figures: Vec<String> = calibration.measured.iter().map(ToString::to_string).collect();
    eprintln!("auto: {} ({})", calibration.choice, figures.join("; "));
    Ok(*CHOSEN.get_or_init(|| calibration.choice))
}
