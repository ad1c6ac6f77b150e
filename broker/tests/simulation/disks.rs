//! What may happen to a data directory while its broker is down.

use skylark_storage::device::Files;
use skylark_storage::device::simulated::Disk;

const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";

/// The index files, oldest first.
pub fn index_files(disk: &Disk) -> Vec<String> {
    named(disk, LOG, ".idx")
}

/// The snapshots, oldest first.
pub fn snapshots(disk: &Disk) -> Vec<String> {
    named(disk, SNAPSHOTS, ".snap")
}

fn named(disk: &Disk, directory: &str, ending: &str) -> Vec<String> {
    let mut names = disk.list(directory).unwrap_or_default();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names.into_iter().map(|name| format!("{directory}/{name}")).collect()
}

/// Files are gone, and no power cut brings them back.
pub fn lose(disk: &Disk, files: &[String]) {
    for file in files {
        disk.remove(file).expect("a file that was listed");
    }
    for directory in [LOG, SNAPSHOTS] {
        // A directory that was never made has lost nothing.
        disk.sync_directory(directory).ok();
    }
}

/// A file's contents.
pub fn read(disk: &Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// A file with these contents, in place of one that may be there.
pub fn put(disk: &Disk, name: &str, bytes: &[u8]) {
    disk.remove(name).ok();
    let file = disk.create(name).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    for directory in [LOG, SNAPSHOTS] {
        disk.sync_directory(directory).unwrap();
    }
}
