//! One index file, open for questions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use skylark_storage::{File, Files, LogId, PhysicalOffset};

use super::SealedError;
use super::layout::{EntryItem, Item, PAGE_BYTES, Page, RunItem, SealedRun, Section, Summary, file_name};
use super::pages::{FileId, Pages};
use super::segments::NextTimer;
use crate::directory::RunRef;
use crate::spine::DEPTH_MAX;

/// One index file whose header was found sound.
pub(crate) struct SealedFile {
    id: FileId,
    files: Arc<dyn Files>,
    pub(crate) summary: Summary,
    /// As of the last question. A look behind an earlier key finds its way anew.
    pub(crate) next_timer: Mutex<Option<NextTimer>>,
}

/// Everything a file says about runs.
pub(crate) struct Directory {
    /// The topics section.
    topics: Vec<u8>,
    pub(crate) runs: Vec<SealedRun>,
}

impl Directory {
    /// The topic of a run; none if the file contradicts itself.
    pub(crate) fn topic(&self, run: &SealedRun) -> Option<&str> {
        let at = run.topic_at as usize;
        str::from_utf8(self.topics.get(at..at.checked_add(run.topic_bytes as usize)?)?).ok()
    }
}

impl SealedFile {
    /// The file that says this of itself.
    pub(crate) fn new(files: &Arc<dyn Files>, summary: Summary) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number of its own is all that is asked for.
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            files: Arc::clone(files),
            summary,
            next_timer: Mutex::new(None),
        }
    }

    /// Opens the file of a segment, which is not read but for its header. None if there is none, or one that is not
    /// this log's and segment's, is of another format, or has another length than it says.
    pub(crate) fn open(files: &Arc<dyn Files>, log: LogId, base: PhysicalOffset) -> io::Result<Option<Self>> {
        let file = match files.open(&file_name(base)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut page = Page::ZERO;
        let read = file.read_at(0, page.bytes_mut())?;
        if read < PAGE_BYTES || !page.is_sound(log, base, 0) {
            return Ok(None);
        }
        let bytes = file.len()?;
        let summary = Summary::from_page(&page).filter(|summary| {
            let ours = summary.log_id == log && summary.base == base && summary.end > base;
            ours && bytes == u64::from(summary.pages()) * PAGE_BYTES as u64
        });
        Ok(summary.map(|summary| Self::new(files, summary)))
    }

    pub(crate) fn base(&self) -> PhysicalOffset {
        self.summary.base
    }

    /// The run in this slot of the directory.
    pub(crate) fn run(&self, pages: &Pages, slot: u32) -> Result<SealedRun, SealedError> {
        let run = SealedRun::from(self.item::<RunItem>(pages, slot)?);
        let here = RunRef { segment: self.summary.number, slot };
        // So that every way along a queue ends.
        let older = |other: RunRef| (other.segment, other.slot) < (here.segment, here.slot);
        if older(run.links.previous) && older(run.links.jump) && run.links.depth < DEPTH_MAX {
            Ok(run)
        } else {
            Err(self.damaged(self.page_of(Section::Runs, slot)))
        }
    }

    /// Checks that a run's entries are there, so that whoever walks them arrives.
    pub(crate) fn expect_entries(&self, run: &SealedRun) -> Result<(), SealedError> {
        let end = run.first_entry.checked_add(run.count);
        if end.is_some_and(|end| end <= self.summary.count(Section::Entries)) {
            Ok(())
        } else {
            Err(self.damaged(self.page_of(Section::Entries, run.first_entry)))
        }
    }

    /// When the message of this entry was stored.
    pub(crate) fn stored_at(&self, pages: &Pages, entry: u32) -> Result<u64, SealedError> {
        Ok(self.time(self.item::<EntryItem>(pages, entry)?.stored_at_delta.get()))
    }

    /// The time that lies so many milliseconds behind the segment's creation.
    pub(crate) fn time(&self, delta: u32) -> u64 {
        self.summary.created_at.saturating_add(u64::from(delta))
    }

    /// One item.
    pub(crate) fn item<T: Item>(&self, pages: &Pages, index: u32) -> Result<T, SealedError> {
        let page = self.page_of(T::SECTION, index);
        if index >= self.summary.count(T::SECTION) {
            return Err(self.damaged(page));
        }
        Ok(self.page(pages, page)?.item(index % T::SECTION.per_page()))
    }

    /// Calls `each` with the items from `start` on, until it wants no more or the section ends.
    pub(crate) fn walk<T: Item>(
        &self,
        pages: &Pages,
        start: u32,
        mut each: impl FnMut(T) -> bool,
    ) -> Result<(), SealedError> {
        let (count, per_page) = (self.summary.count(T::SECTION), T::SECTION.per_page());
        let mut index = start;
        while index < count {
            let page = self.page(pages, self.page_of(T::SECTION, index))?;
            let page_end = (index - index % per_page).saturating_add(per_page).min(count);
            while index < page_end {
                if !each(page.item(index % per_page)) {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Reads the directory, past the cache: it is large, and wanted once.
    pub(crate) fn directory(&self) -> Result<Directory, SealedError> {
        let file = self.files.open(&self.name()).map_err(|cause| self.unreadable(cause))?;
        let mut topics = Vec::new();
        let mut runs = Vec::new();
        self.scan(&*file, Section::Topics, |page, items| topics.extend_from_slice(&page.content()[..items]))?;
        self.scan(&*file, Section::Runs, |page, items| {
            let places = 0..Section::Runs.per_page();
            runs.extend(places.take(items).map(|place| SealedRun::from(page.item::<RunItem>(place))));
        })?;
        Ok(Directory { topics, runs })
    }

    /// Calls `each` with a section's pages, and how many items each has.
    fn scan(
        &self,
        file: &dyn File,
        section: Section,
        mut each: impl FnMut(&Page, usize),
    ) -> Result<(), SealedError> {
        let mut left = self.summary.count(section) as usize;
        let per_page = section.per_page() as usize;
        for number in self.summary.first_page(section).. {
            if left == 0 {
                break;
            }
            let page = self.read(file, number)?;
            each(&page, left.min(per_page));
            left = left.saturating_sub(per_page);
        }
        Ok(())
    }

    fn page(&self, pages: &Pages, number: u32) -> Result<Arc<Page>, SealedError> {
        if let Some(page) = pages.get(self.id, number) {
            return Ok(page);
        }
        let file = pages.open(self.id, &*self.files, &self.name()).map_err(|cause| self.unreadable(cause))?;
        let page = Arc::new(self.read(&*file, number)?);
        pages.put(self.id, number, &page);
        Ok(page)
    }

    /// Reads and verifies a page.
    fn read(&self, file: &dyn File, number: u32) -> Result<Page, SealedError> {
        let mut page = Page::ZERO;
        let at = u64::from(number) * PAGE_BYTES as u64;
        let read = file.read_at(at, page.bytes_mut()).map_err(|cause| self.unreadable(cause))?;
        if read == PAGE_BYTES && page.is_sound(self.summary.log_id, self.base(), number) {
            Ok(page)
        } else {
            Err(self.damaged(number))
        }
    }

    fn page_of(&self, section: Section, index: u32) -> u32 {
        self.summary.first_page(section).saturating_add(index / section.per_page())
    }

    fn name(&self) -> String {
        file_name(self.base())
    }

    pub(crate) fn damaged(&self, page: u32) -> SealedError {
        SealedError::Damaged { base: self.base(), file: self.name(), page }
    }

    fn unreadable(&self, cause: io::Error) -> SealedError {
        let base = self.base();
        if cause.kind() == io::ErrorKind::NotFound {
            SealedError::Missing { base }
        } else {
            SealedError::Io { base, file: self.name(), cause }
        }
    }
}

/// The first number between `low` and `high`, or `high`, that does not meet `condition`, which none behind it does.
pub(crate) fn partition_point(
    mut low: u32,
    mut high: u32,
    mut condition: impl FnMut(u32) -> Result<bool, SealedError>,
) -> Result<u32, SealedError> {
    while low < high {
        let middle = low + (high - low) / 2;
        if condition(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
