//! A data directory of the real file system.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::StatVfs;

use super::auto::AutoDevice;
use super::buffered::BufferedDevice;
use super::calibration::{Calibration, Machine};
use super::direct::DirectDevice;
use super::kind::{DeviceChoice, DeviceKind};
use super::open_file::{OpenFile, about};
use super::probe;
#[cfg(feature = "uring")]
use super::uring::UringDevice;
use super::{Device, File, Files, Space};
use crate::clock::{Clock, SystemClock};

/// A data directory of the real file system. Clones share what was chosen for it.
///
/// ```
/// use skylark_storage::device::{DeviceChoice, DeviceKind, Directory, Files};
///
/// let temporary = tempfile::tempdir()?;
/// let directory = Directory::open(temporary.path())?.with_device(DeviceChoice::Fixed(DeviceKind::Buffered));
/// directory.check_device()?;
/// assert_eq!(directory.chosen_device(), DeviceKind::Buffered);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    choice: DeviceChoice,
    /// What [`DeviceChoice::Auto`] stands for; `None` until somebody asks.
    chosen: Arc<Mutex<Option<DeviceKind>>>,
    /// Directories whose own names are known to be durable.
    kept: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Directory {
    /// The directory at `root`, created if absent, with [`DeviceChoice::Auto`].
    ///
    /// Its name is made durable, also where it was there before: who made it may have been killed before doing so. A
    /// directory above that may not be opened, or that its file system does not flush, is left to whoever manages it,
    /// if `root` exists.
    ///
    /// # Errors
    /// When it cannot be created, or the disk refuses to make its name durable.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let directory = Self {
            root: root.clone(),
            choice: DeviceChoice::default(),
            chosen: Arc::default(),
            kept: Arc::default(),
        };
        directory.keep(&root, &sync_directory)?;
        Ok(directory)
    }

    /// Sees to it that there is a directory at `path` whose name is durable. Flushes what is above it once.
    fn keep(&self, path: &Path, flush: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        if !self.kept.lock().contains(path) || !path.is_dir() {
            create_directory(path, flush)?;
            self.kept.lock().insert(path.to_owned());
        }
        Ok(())
    }

    /// The same directory, with this choice for the devices that it gives from now on.
    #[must_use]
    pub fn with_device(self, choice: DeviceChoice) -> Self {
        Self { choice, ..self }
    }

    /// The device that the next segment to be written is given to.
    pub fn chosen_device(&self) -> DeviceKind {
        match self.choice {
            DeviceChoice::Fixed(kind) => kind,
            DeviceChoice::Auto => {
                let mut chosen = self.chosen.lock();
                *chosen.get_or_insert_with(|| {
                    // Even an old choice is the best guess until somebody measures.
                    Calibration::load(self).map_or(DeviceKind::Buffered, |recorded| recorded.choice)
                })
            }
        }
    }

    /// Shows that the chosen device can be used here, with a write to a file of its own. An opened log would only
    /// find out with its first group.
    ///
    /// # Errors
    /// What the device said: [`io::ErrorKind::Unsupported`] where kernel or file system do not support it.
    pub fn check_device(&self) -> io::Result<()> {
        probe::check(self, self.chosen_device())
    }

    /// What the latest calibration recorded, if it still holds: it was made by this release, under this kernel, on
    /// this file system, of the devices of this build.
    pub fn calibration(&self) -> Option<Calibration> {
        let recorded = Calibration::load(self)?;
        let holds = Machine::current(self).is_ok_and(|machine| machine == recorded.machine);
        (holds && recorded.measured.iter().map(|measured| measured.kind).eq(DeviceKind::ALL.iter().copied()))
            .then_some(recorded)
    }

    /// Measures every device of this build in this directory, chooses the best, records figures and choice in the
    /// file `DEVICE`, and logs them. A log that is open with [`DeviceChoice::Auto`] changes over at its next segment.
    ///
    /// Takes up to two seconds on a healthy disk and writes about 30 MiB, on files of its own. Blocks: for a
    /// background thread.
    ///
    /// # Errors
    /// When the directory takes no file, or [`DeviceKind::Buffered`] cannot write. The choice is what it was.
    pub fn calibrate(&self) -> io::Result<Calibration> {
        let measured = probe::probe(self)?;
        let measured_at = SystemClock::new().wall_ms();
        let calibration =
            Calibration::new(Machine::current(self)?, measured, measured_at, self.chosen_device());
        tracing::info!(device = %calibration.choice, figures = calibration.figures(), "devices measured");
        calibration.store(self)?;
        self.choose(calibration.choice);
        Ok(calibration)
    }

    /// As [`Self::calibrate`], unless the latest calibration still holds (see [`Self::calibration`]) and is younger than
    /// a week: then nothing is measured, so that a start disturbs nobody, and the recorded choice goes on.
    ///
    /// # Errors
    /// As [`Self::calibrate`].
    pub fn calibrate_if_due(&self) -> io::Result<Calibration> {
        let now = SystemClock::new().wall_ms();
        let Some(recorded) = self.calibration().filter(|recorded| !recorded.is_outdated(now)) else {
            return self.calibrate();
        };
        tracing::info!(
            device = %recorded.choice,
            hours_ago = now.saturating_sub(recorded.measured_at) / 3_600_000,
            figures = recorded.figures(),
            "devices were measured by an earlier start, and are not measured again"
        );
        self.choose(recorded.choice);
        Ok(recorded)
    }

    pub(super) fn choose(&self, kind: DeviceKind) {
        *self.chosen.lock() = Some(kind);
    }

    /// A device of this kind for files of this directory.
    pub(super) fn device_of(&self, kind: DeviceKind) -> Box<dyn Device> {
        match kind {
            DeviceKind::Buffered => Box::new(BufferedDevice::new(self.clone())),
            DeviceKind::Direct => Box::new(DirectDevice::new(self.clone())),
            #[cfg(feature = "uring")]
            DeviceKind::Uring => Box::new(UringDevice::new(self.clone())),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open_file(&self, name: &str, options: &fs::OpenOptions) -> io::Result<OpenFile> {
        OpenFile::open(self.path(name), options)
    }
}

impl Files for Directory {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        list_directory(&self.path(directory))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_file(name, fs::OpenOptions::new().read(true).write(true))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path(name);
        path.parent().map_or(Ok(()), |above| self.keep(above, &sync_directory))?;
        Ok(Arc::new(self.open_file(name, fs::OpenOptions::new().read(true).write(true).create_new(true))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(about(&path, "rename"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(about(&path, "remove"))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        sync_directory(&self.path(directory))
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>> {
        let options = &mut fs::OpenOptions::new();
        // Not truncated: whoever holds the lock may have written who it is.
        let lock = self.open_file(name, options.read(true).write(true).create(true).truncate(false))?;
        lock.lock_soon()?;
        Ok(Box::new(lock))
    }

    fn device(&self) -> Box<dyn Device> {
        match self.choice {
            DeviceChoice::Auto => Box::new(AutoDevice::new(self.clone())),
            DeviceChoice::Fixed(kind) => self.device_of(kind),
        }
    }

    fn space(&self) -> io::Result<Space> {
        space_of(&self.root)
    }

    fn describe(&self) -> String {
        fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()).display().to_string()
    }
}

/// Creates a directory and those above it, where they are missing, and makes their names durable.
///
/// Each is flushed before the next is created, so that whoever was killed on the way has left at most one name that
/// is not durable: that of the lowest directory there is.
fn create_directory(path: &Path, flush: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let Some(above) = path.parent() else { return Ok(()) };
    // A directory is an entry of the one above it, which a power cut can lose as well.
    let keep_name = || flush(if above.as_os_str().is_empty() { Path::new(".") } else { above });
    if path.is_dir() {
        return keep_name().or_else(|error| if is_kept_by_others(&error) { Ok(()) } else { Err(error) });
    }
    create_directory(above, flush)?;
    // Somebody else may have been faster.
    fs::create_dir(path)
        .or_else(|error| if path.is_dir() { Ok(()) } else { Err(about(path, "create")(error)) })?;
    keep_name()
}

/// Whether a directory cannot be flushed for a reason that says nothing about the disk: it may not be opened by this
/// user, or its file system does not do that. Names in it are then kept by other means than ours.
fn is_kept_by_others(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match fs::File::open(path) {
        // Nothing was ever created in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        directory => directory.map_err(about(path, "open"))?,
    };
    directory.sync_all().map_err(about(path, "flush"))
}

/// Names in the directory at `path`; none if it is absent.
pub(super) fn list_directory(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(about(path, "list"))?,
    };
    // A name that is not UTF-8 is none that the log gave.
    entries
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect::<io::Result<_>>()
        .map_err(about(path, "list"))
}

/// How much room the file system that holds `path` has.
pub(super) fn space_of(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path).map_err(io::Error::from).map_err(about(path, "measure"))?;
    Ok(space_in(&found))
}

/// What counts as room. Free blocks that are not available are set aside for others: counted as used, they would let
/// messages go while `df` shows a half empty disk.
fn space_in(found: &StatVfs) -> Space {
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    let total = used.saturating_add(found.f_bavail);
    Space { total_bytes: bytes(total), available_bytes: bytes(found.f_bavail) }
}

#[cfg(test)]
mod tests;
