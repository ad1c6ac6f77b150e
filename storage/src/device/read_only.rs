//! A data directory that is looked at and never changed: for tools beside a log, and for media that cannot be written.

use std::fs;
use std::io::{self, IoSliceMut};
use std::path::PathBuf;
use std::sync::Arc;

use rand::RngExt;
use rustix::fs::{Advice, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::directory::{list_directory, space_of};
use super::map::Map;
use super::open_file::{about, open_again_direct, read_fully};
use super::{Device, File, Files, Space};

/// A data directory, opened for reading. Whatever would change it is refused.
#[derive(Clone, Debug)]
pub struct ReadOnlyDirectory {
    root: PathBuf,
}

impl ReadOnlyDirectory {
    /// The directory at `root`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let found = fs::metadata(&root).map_err(about(&root, "open"))?;
        if found.is_dir() {
            Ok(Self { root })
        } else {
            Err(about(&root, "open")(io::ErrorKind::NotADirectory.into()))
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

impl Files for ReadOnlyDirectory {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        list_directory(&self.path(directory))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path(name);
        let file = fs::File::open(&path).map_err(about(&path, "open"))?;
        will_be_read_through(&file);
        Ok(Arc::new(ReadOnlyFile { file, path }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Err(about(&self.path(name), "create")(refused()))
    }

    fn rename(&self, from: &str, _to: &str) -> io::Result<()> {
        Err(about(&self.path(from), "rename")(refused()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Err(about(&self.path(name), "remove")(refused()))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        Err(about(&self.path(directory), "flush")(refused()))
    }

    /// Shares the lock with others who only look: a log cannot be opened meanwhile. Where there is no such file
    /// nobody can hold it, and none is made.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>> {
        let path = self.path(name);
        let lock = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            lock => lock.map_err(about(&path, "lock"))?,
        };
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared)
            .map_err(|errno| about(&path, "lock")(errno.into()))?;
        Ok(Box::new(lock))
    }

    /// # Panics
    /// Always: nobody appends to a directory that is only looked at.
    fn device(&self) -> Box<dyn Device> {
        panic!("a read-only directory has no device")
    }

    fn space(&self) -> io::Result<Space> {
        space_of(&self.root)
    }

    fn describe(&self) -> String {
        fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()).display().to_string()
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the directory is open for reading only")
}

/// Whether at least half of a file of so many bytes is in the page cache, or the system does not tell.
///
/// The kernel is asked for some bytes that it may not wait for. What it has not got it begins to read, and has the next
/// time, so chance says which bytes: each question is about others.
fn is_mostly_cached(file: &fs::File, bytes: u64) -> bool {
    // Of what it begins to read it reads no more than that.
    rustix::fs::fadvise(file, 0, None, Advice::Random).ok();
    let is_cached = |_: &usize| {
        let at = rand::rng().random_range(0..bytes.max(1));
        let (mut byte, flags) = ([0], ReadWriteFlags::NOWAIT);
        rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, flags) != Err(Errno::AGAIN)
    };
    let cached = (0..PROBES).filter(is_cached).count();
    will_be_read_through(file);
    cached >= PROBES / 2
}

/// Places of a file that are looked up in the page cache.
const PROBES: usize = 8;

/// Tools read from one end to the other; where the kernel does not take the hint it is only slower.
fn will_be_read_through(file: &fs::File) {
    rustix::fs::fadvise(file, 0, None, Advice::Sequential).ok();
}

/// An open description for reading, and the path for messages.
struct ReadOnlyFile {
    file: fs::File,
    path: PathBuf,
}

impl File for ReadOnlyFile {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully(&self.file, at, buffer).map_err(about(&self.path, "read"))
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(about(&self.path, "write")(refused()))
    }

    fn map(&self) -> Option<Map> {
        Map::of(&self.file)
    }

    fn uncached(&self) -> Option<Arc<dyn File>> {
        if is_mostly_cached(&self.file, self.len().ok()?) {
            return None;
        }
        let file = open_again_direct(&self.file, OFlags::RDONLY)?;
        Some(Arc::new(Self { file, path: self.path.clone() }))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(about(&self.path, "stat"))?.len())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(about(&self.path, "resize")(refused()))
    }

    fn sync(&self) -> io::Result<()> {
        Err(about(&self.path, "flush")(refused()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_and_refuses_every_change() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), b"abc").unwrap();
        let files = ReadOnlyDirectory::open(directory.path()).unwrap();
        let file = files.open("a").unwrap();
        let mut bytes = [0; 8];
        assert_eq!((file.read_at(1, &mut bytes).unwrap(), &bytes[..2]), (2, &b"bc"[..]));
        let refusals = [
            file.write_at(0, b"x"),
            file.set_len(0),
            file.sync(),
            files.remove("a"),
            files.rename("a", "b"),
            files.create("b").map(|_| ()),
            files.sync_directory(""),
        ];
        for refused in refusals {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(files.list("").unwrap(), ["a"]);
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"abc");
    }

    #[test]
    fn the_lock_is_shared_by_those_who_look_and_kept_from_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let looks = ReadOnlyDirectory::open(directory.path()).unwrap();
        drop(looks.lock("LOCK").unwrap());
        assert!(looks.list("").unwrap().is_empty(), "looking makes no file");
        let writes = super::super::directory::Directory::open(directory.path()).unwrap();
        drop(writes.lock("LOCK").unwrap());
        let (_first, _second) = (looks.lock("LOCK").unwrap(), looks.lock("LOCK").unwrap());
        assert_eq!(writes.lock("LOCK").err().unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
