//! Directories that are gone afterwards, and files prepared as a log's segments are.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, OFlags, fadvise};
use tempfile::TempDir;

use super::aligned::Aligned;

/// What is written or read at a time where only bandwidth counts.
pub const PIECE_BYTES: usize = 1 << 20;

/// A new directory in `parent`.
///
/// # Panics
/// When there can be none.
pub fn directory(parent: &Path) -> TempDir {
    tempfile::Builder::new().prefix("skylark-limits-").tempdir_in(parent).expect("the directory can be used")
}

/// Removes a directory, and lets the disk come to rest: freed blocks are discarded, dirty ones written.
pub fn clear(directory: TempDir) {
    let root = File::open(directory.path());
    drop(directory);
    if let Some(error) = root.and_then(|root| Ok(rustix::fs::syncfs(&root)?)).err() {
        eprintln!("the disk may still be busy with what was removed: {error}");
    }
    thread::sleep(Duration::from_millis(50));
}

/// Where the benchmarks keep their files: `SKYLARK_BENCH_DIR`, or the system's temporary directory.
pub fn parent() -> PathBuf {
    std::env::var_os("SKYLARK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Opens a file for direct transfers. Some file systems refuse.
///
/// # Errors
/// When the file system does.
pub fn open_direct(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// A file of so many bytes, all of them written and durable, none of them cached, as a segment's are ahead of use.
///
/// # Errors
/// When the disk refuses.
pub fn written_file(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeros = Aligned::new(PIECE_BYTES);
    let direct = open_direct(path);
    let mut at = 0;
    while at < bytes {
        let piece = &zeros[..usize::try_from(bytes - at).unwrap_or(usize::MAX).min(PIECE_BYTES)];
        let written = direct.as_ref().is_ok_and(|direct| direct.write_all_at(piece, at).is_ok());
        if !written {
            file.write_all_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    file.sync_all()?;
    forget_cached(&file)?;
    Ok(file)
}

/// Drops what the system has cached of a file; what is dirty stays.
///
/// # Errors
/// When the file system refuses.
pub fn forget_cached(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

/// The files of a log's segments, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn segments(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(log.join("log"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    Ok(paths)
}

/// Drops what the system has cached of a log's segments, after it was made durable.
///
/// # Errors
/// When the disk refuses.
pub fn forget_log(log: &Path) -> io::Result<()> {
    for path in segments(log)? {
        let file = File::open(path)?;
        file.sync_all()?;
        forget_cached(&file)?;
    }
    Ok(())
}
