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

#[cfg(test)]
mod tests {
    use skylark_storage::device::simulated::Disk;

    use super::*;
    use crate::sealed::layout::file_name;

    #[test]
    fn what_is_of_no_use_goes_and_nothing_else() {
        let disk = Disk::new(3);
        let index = |base| file_name(PhysicalOffset::new(base));
        let unfinished = format!("{}{UNFINISHED}", index(0));
        let others = ["log/00000000000000000300.seg", "log/spare", "CHECKPOINT"].map(str::to_owned);
        let names =
            [index(0), index(100), index(200), index(300), unfinished].into_iter().chain(others.clone());
        names.for_each(|name| drop(disk.create(&name).unwrap()));
        disk.sync_directory("").unwrap();
        let left = |disk: &Disk| {
            let mut names = disk.list("log").unwrap();
            names.retain(|name| !others.contains(&format!("log/{name}")));
            names.iter().map(|name| file_base(name).unwrap().get()).collect::<Vec<u64>>()
        };
        remove_beyond(&disk, PhysicalOffset::new(200)).unwrap();
        assert_eq!(left(&disk), [0, 100]);
        // A power cut brings nothing back.
        assert_eq!(left(&disk.crash()), [0, 100]);
        remove_below(&disk, PhysicalOffset::new(100)).unwrap();
        assert_eq!(left(&disk.crash()), [100]);
        assert!(others.iter().all(|name| disk.open(name).is_ok()));
    }
}
