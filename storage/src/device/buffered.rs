//! `pwritev` and `fdatasync`: works on every file system.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::fs::{FlockOperation, Mode, OFlags};
use smallvec::SmallVec;

use super::{Device, File, Files, Operation, Space, Ticket, ZEROS, for_each_zeros};
use crate::segment::BLOCK_BYTES;

/// A data directory of the real file system.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`, created if absent.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_directory(&root)?;
        Ok(Self { root })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open_file(&self, name: &str, options: &fs::OpenOptions) -> io::Result<OpenFile> {
        let path = self.path(name);
        let file = options.open(&path).map_err(about(&path, "open"))?;
        Ok(OpenFile { file, path })
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
        path.parent().map_or(Ok(()), create_directory)?;
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
        lock.lock()?;
        Ok(Box::new(lock))
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(BufferedDevice { directory: self.clone(), segment: None, done: VecDeque::new(), tickets: 0 })
    }

    fn space(&self) -> io::Result<Space> {
        space_of(&self.root)
    }

    fn describe(&self) -> String {
        fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()).display().to_string()
    }
}

/// What it takes to find out whether a file system transfers directly.
const PROBE_BYTES: usize = 4096;
const _: () = assert!(PROBE_BYTES as u64 == BLOCK_BYTES);

/// An open description, and the path for messages.
struct OpenFile {
    file: fs::File,
    path: PathBuf,
}

impl OpenFile {
    /// Takes the exclusive lock, which the kernel gives back when the description is closed, however that happens.
    fn lock(&self) -> io::Result<()> {
        rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| about(&self.path, "lock")(errno.into()))
    }

    /// Waits for the lock while a predecessor's last writes land.
    fn lock_when_free(&self) -> io::Result<()> {
        for _ in 0..LOCK_ATTEMPTS {
            match self.lock() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(LOCK_PAUSE),
                answer => return answer,
            }
        }
        self.lock()
    }

    /// Writes all pieces one behind the other, from byte `at`.
    fn write_pieces(&self, at: u64, mut pieces: SmallVec<[Bytes; 3]>) -> io::Result<()> {
        let (mut at, mut next) = (at, 0);
        while let Some(rest) = pieces.get_mut(next..).filter(|rest| !rest.is_empty()) {
            let written = {
                let slices: SmallVec<[IoSlice<'_>; 3]> =
                    rest.iter().map(|piece| IoSlice::new(piece)).collect();
                rustix::io::pwritev(&self.file, &slices, at)
            };
            let mut written = match written {
                Ok(0) if rest.iter().any(|piece| !piece.is_empty()) => {
                    return Err(about(&self.path, "write")(io::ErrorKind::WriteZero.into()));
                }
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(about(&self.path, "write")(errno.into())),
            };
            at += written as u64;
            // A short write is not an error: what is left is offered again.
            for piece in rest {
                let taken = written.min(piece.len());
                piece.advance(taken);
                written -= taken;
                if !piece.is_empty() {
                    break;
                }
                next += 1;
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(about(&self.path, "flush"))
    }
}

impl File for OpenFile {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully(&self.file, at, buffer).map_err(about(&self.path, "read"))
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(about(&self.path, "write"))
    }

    fn write_zeros(&self, at: u64, bytes: u64) -> io::Result<()> {
        // By descriptor, because the file may have been renamed since. Where there is no /proc, cached writes do.
        let this = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let direct = rustix::fs::open(this, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
        let direct = direct.map(fs::File::from);
        // Some file systems refuse direct transfers, when the file is opened or at the first of them.
        let direct = direct.ok().filter(|file| file.write_all_at(&ZEROS.0[..PROBE_BYTES], at).is_ok());
        let Some(file) = direct else {
            return for_each_zeros(bytes, |from, zeros| self.write_at(at + from, zeros));
        };
        for_each_zeros(bytes, |from, zeros| {
            file.write_all_at(zeros, at + from).map_err(about(&self.path, "write"))
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(about(&self.path, "stat"))?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes).map_err(about(&self.path, "resize"))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Does each operation when it is submitted, and hands over the outcome when asked.
struct BufferedDevice {
    directory: Directory,
    segment: Option<OpenFile>,
    done: VecDeque<(Ticket, io::Result<()>)>,
    tickets: u64,
}

impl Device for BufferedDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        assert!(self.done.is_empty(), "nothing is under way when a device changes segments");
        let file = self.directory.open_file(segment, fs::OpenOptions::new().read(true).write(true))?;
        file.lock_when_free()?;
        self.segment = Some(file);
        Ok(())
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let segment = self.segment.as_ref().expect("a device is attached before it writes");
        let outcome = segment.write_pieces(operation.at, operation.pieces);
        let outcome = outcome.and_then(|()| if operation.flush { segment.sync_data() } else { Ok(()) });
        self.done.push_back((ticket, outcome));
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.done.pop_front()
    }
}

/// A killed process needs no longer than this for the writes it had under way: 10 s in all.
const LOCK_ATTEMPTS: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Creates a directory and those above it, where they are missing.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(Path::new(""));
    create_directory(above)?;
    // Somebody else may have been faster.
    fs::create_dir(path)
        .or_else(|error| if path.is_dir() { Ok(()) } else { Err(about(path, "create")(error)) })?;
    // A directory is an entry of the one above it, which a power cut can lose as well.
    sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above })
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

/// Fills `buffer` from byte `at`, or as much of it as the file has.
pub(super) fn read_fully(file: &fs::File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How much room the file system that holds `path` has.
pub(super) fn space_of(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path).map_err(io::Error::from).map_err(about(path, "measure"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { total_bytes: bytes(found.f_blocks), available_bytes: bytes(found.f_bavail) })
}

/// Says which file an error is about, and keeps its kind, which callers branch on.
pub(super) fn about(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
