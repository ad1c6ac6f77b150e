//! Files of a log that nobody has open, seen in memory: for tools, where copying would be half of the work.

use std::fs;

use memmap2::{Advice, Mmap};

/// A file's contents, as they were long when it was mapped.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// The contents of `file`; `None` where it cannot be mapped, an empty one included.
    ///
    /// To be asked for only while the directory's lock is held: those who write to these files respect it.
    #[expect(unsafe_code, reason = "a map is only as sound as what other processes do to the file")]
    pub(super) fn of(file: &fs::File) -> Option<Self> {
        // SAFETY: the bytes must not change while a slice of them is borrowed, nor the file be cut.
        // - unchanged: whoever opens a log takes its lock first, and whoever maps holds a share of that lock for as
        //   long as the map lives: `inspect::Window` maps only where its `Inspection` has the lock, and outlives it not;
        // - not cut: by the same lock. A process that ignores it and cuts a file ends this one by SIGBUS, which harms
        //   no data: maps are for reading only, and only offline tools make them.
        let map = unsafe { Mmap::map(file) }.ok()?;
        // A hint: where it is not taken, reading is only slower.
        map.advise(Advice::Sequential).ok();
        Some(Self(map))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Brings `bytes` bytes from `at` into memory; whether they all are there. Where they cannot be read, touching them
    /// would end the process.
    pub fn populate(&self, at: usize, bytes: usize) -> bool {
        let bytes = bytes.min(self.0.len().saturating_sub(at));
        bytes == 0 || self.0.advise_range(Advice::PopulateRead, at, bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_seen_as_long_as_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(Map::of(&file).is_none_or(|map| map.bytes().is_empty()), "there is nothing to map");
        file.write_all(&[7; 5000]).unwrap();
        let map = Map::of(&file).unwrap();
        assert_eq!(map.bytes(), [7; 5000]);
        // Kernels before 5.14 do not know how.
        if map.populate(0, 1) {
            assert!(map.populate(4096, 1 << 20) && map.populate(8192, 1));
        }
    }
}
