//! Pages of index files that were read last, and the files, open.

use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use parking_lot::Mutex;
use skylark_storage::{File, Files};

use super::layout::{PAGE_BYTES, Page};

/// A bounded cache of verified pages, shared by all sealed segments of an index, and a few open files.
///
/// A page is evicted when the hand of a clock finds that nobody used it since it came by last. Pages of files that
/// were trimmed or replaced are not asked for any more and go the same way.
pub(crate) struct Pages {
    clock: Mutex<Clock>,
    /// Most recently used last.
    open: Mutex<Vec<(FileId, Arc<dyn File>)>>,
}

/// Tells files apart for as long as the process lives, those of one name too.
pub(crate) type FileId = u64;

struct Clock {
    slots: Vec<Slot>,
    by_key: HashTable<usize>,
    hand: usize,
}

struct Slot {
    key: (FileId, u32),
    page: Arc<Page>,
    used: bool,
}

/// 16 MiB of pages, and a twentieth of that for finding them.
const PAGES_MAX: usize = (16 << 20) / PAGE_BYTES;
/// How many files stay open for readers.
const OPEN_FILES_MAX: usize = 64;

impl Pages {
    pub(crate) fn new() -> Self {
        let clock = Clock { slots: Vec::new(), by_key: HashTable::new(), hand: 0 };
        Self { clock: Mutex::new(clock), open: Mutex::default() }
    }

    /// The page, if it is here.
    pub(crate) fn get(&self, file: FileId, page: u32) -> Option<Arc<Page>> {
        self.clock.lock().get((file, page))
    }

    /// Keeps a page that was verified.
    pub(crate) fn put(&self, file: FileId, number: u32, page: &Arc<Page>) {
        self.clock.lock().put((file, number), Arc::clone(page));
    }

    /// How many pages are here.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.clock.lock().slots.len()
    }

    /// How many files are open here.
    #[cfg(test)]
    pub(crate) fn open_files(&self) -> usize {
        self.open.lock().len()
    }

    /// The file, open.
    pub(crate) fn open(&self, id: FileId, files: &dyn Files, name: &str) -> io::Result<Arc<dyn File>> {
        {
            let mut open = self.open.lock();
            if let Some(place) = open.iter().position(|(of, _)| *of == id) {
                let entry = open.remove(place);
                let file = Arc::clone(&entry.1);
                open.push(entry);
                return Ok(file);
            }
        }
        // Not under the lock, which others need for files that are open.
        let file = files.open(name)?;
        let mut open = self.open.lock();
        if open.len() == OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((id, Arc::clone(&file)));
        Ok(file)
    }
}

impl Clock {
    fn get(&mut self, key: (FileId, u32)) -> Option<Arc<Page>> {
        let Self { slots, by_key, .. } = self;
        let place = *by_key.find(hash(key), |&slot| slots[slot].key == key)?;
        let slot = &mut slots[place];
        slot.used = true;
        Some(Arc::clone(&slot.page))
    }

    fn put(&mut self, key: (FileId, u32), page: Arc<Page>) {
        // Two readers may have missed it at once.
        if self.get(key).is_some() {
            return;
        }
        let slot = Slot { key, page, used: false };
        let place = if self.slots.len() < PAGES_MAX {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.evict();
            self.slots[place] = slot;
            place
        };
        let Self { slots, by_key, .. } = self;
        by_key.insert_unique(hash(key), place, |&slot| hash(slots[slot].key));
    }

    /// Makes room, and says where.
    fn evict(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[place];
            if !std::mem::take(&mut slot.used) {
                let key = slot.key;
                if let Ok(entry) = self.by_key.find_entry(hash(key), |&slot| slot == place) {
                    entry.remove();
                }
                return place;
            }
        }
    }
}

/// Nobody outside chooses ids or page numbers, so their hash needs no secret.
fn hash(key: (FileId, u32)) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_since_the_hand_came_by_stays() {
        let pages = Pages::new();
        let count = u32::try_from(PAGES_MAX).unwrap();
        let page = Arc::new(Page::ZERO);
        for number in 0..count {
            pages.put(1, number, &page);
        }
        for number in (0..count).step_by(2) {
            assert!(pages.get(1, number).is_some());
        }
        for number in 0..count / 2 {
            pages.put(2, number, &page);
        }
        assert!((0..count).step_by(2).all(|number| pages.get(1, number).is_some()));
        assert!((1..count).step_by(2).all(|number| pages.get(1, number).is_none()));
        assert!((0..count / 2).all(|number| pages.get(2, number).is_some()));
        assert_eq!(pages.len(), PAGES_MAX);
    }
}
