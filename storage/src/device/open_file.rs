//! One open description of a file of the real file system.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::aligned::Block;
use super::{Advice, File, ZEROS, for_each_zeros};
use crate::segment::{BLOCK, BLOCK_BYTES};

/// An open description, and the path for messages.
pub(super) struct OpenFile {
    pub(super) file: fs::File,
    path: PathBuf,
}

impl OpenFile {
    pub(super) fn open(path: PathBuf, options: &fs::OpenOptions) -> io::Result<Self> {
        let file = options.open(&path).map_err(about(&path, "open"))?;
        Ok(Self { file, path })
    }

    /// Opens a file that exists for direct transfers of whole blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the file system does not do that; whatever else keeps the file from
    /// being opened.
    pub(super) fn open_direct(path: PathBuf) -> io::Result<Self> {
        let refused = |what: &dyn std::fmt::Display| {
            let text = format!("cannot transfer directly to {}: {what}", path.display());
            io::Error::new(io::ErrorKind::Unsupported, text)
        };
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP)) => return Err(refused(&io::Error::from(errno))),
            opened => fs::File::from(opened.map_err(|errno| about(&path, "open")(errno.into()))?),
        };
        match direct_unit(&file) {
            Some(0) => return Err(refused(&"its file system does not do that")),
            Some(unit) if !BLOCK_BYTES.is_multiple_of(unit) => {
                return Err(refused(&format_args!("its file system needs units of {unit} bytes")));
            }
            Some(_) => {}
            // Some file systems take the flag and refuse the first transfer. Reading harms nobody.
            None => drop(file.read_at(&mut Block([0; BLOCK]).0, 0).map_err(|error| refused(&error))?),
        }
        Ok(Self { file, path })
    }

    /// Takes the exclusive lock, which the kernel gives back when the description is closed, however that happens.
    fn lock(&self) -> io::Result<()> {
        rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| self.about("lock")(errno.into()))
    }

    /// Waits for the lock while a predecessor's last writes land.
    pub(super) fn lock_when_free(&self) -> io::Result<()> {
        self.lock_within(1000)
    }

    /// Takes the lock, or finds that somebody keeps it. A process that has just been started holds what was open in the
    /// one that started it until it runs a program of its own.
    pub(super) fn lock_soon(&self) -> io::Result<()> {
        self.lock_within(10)
    }

    fn lock_within(&self, attempts: u32) -> io::Result<()> {
        for _ in 1..attempts {
            match self.lock() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(LOCK_PAUSE),
                answer => return answer,
            }
        }
        self.lock()
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(self.about("flush"))
    }

    /// Says that an error is about doing something with this file.
    pub(super) fn about(&self, doing: &'static str) -> impl Fn(io::Error) -> io::Error {
        about(&self.path, doing)
    }
}

impl File for OpenFile {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully(&self.file, at, buffer).map_err(self.about("read"))
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(self.about("write"))
    }

    fn write_zeros(&self, at: u64, bytes: u64) -> io::Result<()> {
        let direct = open_again_direct(&self.file, OFlags::WRONLY);
        // Some file systems refuse direct transfers at the first of them only. Cached writes do.
        let direct = direct.filter(|file| file.write_all_at(&ZEROS.0[..BLOCK], at).is_ok());
        let Some(file) = direct else {
            return for_each_zeros(bytes, |from, zeros| self.write_at(at + from, zeros));
        };
        for_each_zeros(bytes, |from, zeros| file.write_all_at(zeros, at + from).map_err(self.about("write")))
    }

    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), at, bytes) {
                Err(Errno::INTR) => {}
                // Some file systems cannot.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(at, bytes),
                outcome => return outcome.map_err(|errno| self.about("extend")(errno.into())),
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(self.about("stat"))?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes).map_err(self.about("resize"))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn advise(&self, at: u64, bytes: u64, advice: Advice) {
        let advice = match advice {
            Advice::Sequential => rustix::fs::Advice::Sequential,
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
        };
        // Nothing hangs on it.
        rustix::fs::fadvise(&self.file, at, NonZeroU64::new(bytes), advice).ok();
    }
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

/// Another description of an open file, for direct transfers of whole blocks; `None` where the file system refuses that
/// already when a file is opened, or says so, and where there is no /proc.
pub(super) fn open_again_direct(file: &fs::File, access: OFlags) -> Option<fs::File> {
    // By descriptor, because the file may have been renamed since.
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = rustix::fs::open(this, access | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
    let direct = direct.map(fs::File::from).ok()?;
    let is_block = |unit| unit > 0 && BLOCK_BYTES.is_multiple_of(unit);
    direct_unit(&direct).is_none_or(is_block).then_some(direct)
}

/// Says which file an error is about, and keeps the kind and the source, which callers branch on.
pub(super) fn about(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |source| io::Error::new(source.kind(), About { doing, path: path.to_owned(), source })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
struct About {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Of what places and lengths of direct transfers must be multiples, in the file and in memory; 0 where there are
/// none, `None` where the kernel or the file system does not say.
fn direct_unit(file: &fs::File) -> Option<u64> {
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let says = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN);
    says.then(|| found.stx_dio_offset_align.max(found.stx_dio_mem_align).into())
}

/// A killed process needs no longer than this for the writes it had under way: 10 s in all.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
