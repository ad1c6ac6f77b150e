use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::device::Files;
use crate::device::read_only::ReadOnlyDirectory;

/// A file and, if there is one, what lies on the disk under it; counts what is read of each.
struct Layered {
    bytes: Vec<u8>,
    /// Refused by every read of it.
    refused: Option<u64>,
    reads: AtomicU64,
    disk: Option<Arc<Layered>>,
    /// Reads are to be as direct transfers are.
    is_direct: bool,
}

impl Layered {
    fn of(bytes: &[u8], refused: Option<u64>, is_direct: bool) -> Self {
        Self { bytes: bytes.to_vec(), refused, reads: AtomicU64::new(0), disk: None, is_direct }
    }
}

impl File for Layered {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.is_direct {
            let place = buffer.as_ptr().align_offset(BLOCK);
            assert!(place == 0 && at.is_multiple_of(BLOCK_BYTES) && buffer.len().is_multiple_of(BLOCK));
        }
        let range = at..at + buffer.len() as u64;
        if self.refused.is_some_and(|byte| range.contains(&byte)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let from = usize::try_from(at).unwrap().min(self.bytes.len());
        let read = buffer.len().min(self.bytes.len() - from);
        buffer[..read].copy_from_slice(&self.bytes[from..from + read]);
        Ok(read)
    }

    fn uncached(&self) -> Option<Arc<dyn File>> {
        self.disk.clone().map(|disk| disk as Arc<dyn File>)
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        unreachable!("a window only reads")
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }

    fn sync(&self) -> io::Result<()> {
        unreachable!("a window only reads")
    }
}

/// Five megabytes and a part of a block, no two stretches of them alike.
fn contents() -> Vec<u8> {
    (0..5_000_011_u32)
        .flat_map(|number| (number / 4).to_le_bytes().into_iter().nth(number as usize % 4))
        .collect()
}

/// Reads as a walk does: short and long pieces, over the ends of windows and of the file, now and then a step back.
fn compare(window: &mut Window, contents: &[u8], refused: Option<u64>) {
    let mut expected = contents.to_vec();
    if let Some(byte) = refused {
        let block = usize::try_from(byte - byte % BLOCK_BYTES).unwrap();
        expected[block..block + BLOCK].fill(0);
    }
    expected.resize(contents.len() + (4 << 20), 0);
    let mut at = 0;
    for step in 0.. {
        if at > contents.len() {
            break;
        }
        let bytes = [16, 1000, 70_001, BLOCK, 3 << 20][step % 5];
        assert_eq!(window.get(at as u64, bytes).unwrap(), &expected[at..at + bytes], "{bytes} bytes at {at}");
        at = if step % 7 == 6 { at - 5000 } else { at + bytes.min(90_000) };
    }
}

#[test]
fn what_is_on_the_disk_is_read_past_the_page_cache_in_whole_blocks() {
    let contents = contents();
    let disk = Arc::new(Layered::of(&contents, None, true));
    let file = Arc::new(Layered { disk: Some(Arc::clone(&disk)), ..Layered::of(&contents, None, false) });
    let mut window = Window::new(Arc::clone(&file) as Arc<dyn File>, false).unwrap();
    compare(&mut window, &contents, None);
    assert_eq!(file.reads.load(Ordering::Relaxed), 0);
    assert_eq!(window.unreadable().count(), 0);
}

#[test]
fn a_block_that_the_disk_refuses_is_located_and_the_others_are_read() {
    let contents = contents();
    let refused = Some(3_000_000);
    let disk = Arc::new(Layered::of(&contents, refused, true));
    let file = Arc::new(Layered { disk: Some(disk), ..Layered::of(&contents, refused, false) });
    let mut window = Window::new(file, true).unwrap();
    compare(&mut window, &contents, refused);
    assert_eq!(window.unreadable().collect::<Vec<_>>(), [3_000_000 / BLOCK_BYTES * BLOCK_BYTES]);
}

#[test]
fn a_disk_that_takes_no_direct_transfer_is_read_through_the_page_cache() {
    let contents = contents();
    let disk = Layered { refused: Some(0), ..Layered::of(&contents, None, true) };
    let file = Layered { disk: Some(Arc::new(disk)), ..Layered::of(&contents, None, false) };
    let mut window = Window::new(Arc::new(file), false).unwrap();
    compare(&mut window, &contents, None);
    assert_eq!(window.unreadable().count(), 0);
}

#[test]
fn a_real_file_is_the_same_from_the_page_cache_and_from_the_disk() {
    let contents = contents();
    let mut places = vec![tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()];
    // Memory, which there is no way past.
    places.extend(tempfile::tempdir_in("/dev/shm").ok());
    for place in &places {
        let path = place.path().join("a");
        fs::write(&path, &contents).unwrap();
        let files = ReadOnlyDirectory::open(place.path()).unwrap();
        for is_cached in [true, false] {
            let plain = fs::File::open(&path).unwrap();
            plain.sync_all().unwrap();
            if !is_cached {
                rustix::fs::fadvise(&plain, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            for may_change in [false, true] {
                let mut window = Window::new(files.open("a").unwrap(), may_change).unwrap();
                assert!(!is_cached || !matches!(window.source, Source::Direct(_)));
                compare(&mut window, &contents, None);
                assert_eq!(window.unreadable().count(), 0);
            }
        }
    }
}
