//! Index files that are of no use any more.

use std::io;

use skylark_storage::{Files, PhysicalOffset};

use crate::sealed::layout::file_base;
use crate::sealed::write::UNFINISHED;

/// Removes the index files of segments that begin at `end` or behind, and those that were not finished; returns when
/// that is durable. To be called with the position of the snapshot that a restart begins with, and before the log
/// is cut: what is beyond will be indexed again, perhaps with other contents.
///
/// # Errors
/// When the disk refuses; some may be gone.
pub fn remove_beyond(files: &dyn Files, end: PhysicalOffset) -> io::Result<()> {
    remove(files, |name| match name.strip_suffix(UNFINISHED) {
        Some(name) => file_base(name).is_some(),
        None => file_base(name).is_some_and(|base| base >= end),
    })
}

/// Removes the index files of segments that begin before `base`: that of [`needed_from`](crate::needed_from) for the
/// oldest snapshot that is kept.
///
/// # Errors
/// When the disk refuses; some may be gone.
pub fn remove_below(files: &dyn Files, base: PhysicalOffset) -> io::Result<()> {
    remove(files, |name| file_base(name).is_some_and(|found| found < base))
}

fn remove(files: &dyn Files, is_useless: impl Fn(&str) -> bool) -> io::Result<()> {
    for name in files.list("log")?.iter().filter(|name| is_useless(name)) {
        files.remove(&format!("log/{name}"))?;
    }
    files.sync_directory("log")
}
