//! The list of sealed segments, and questions to all of them.

use std::collections::BinaryHeap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use skylark_storage::PhysicalOffset;

use super::SealedError;
use super::file::{SealedFile, partition_point};
use super::layout::{EntryItem, KeyItem, SealedRun, Section, TimerItem};
use super::pages::Pages;
use crate::directory::RunRef;
use crate::keys::{self, Found};
use crate::timers::{First, Timer, TimerKey};

/// The segments whose indexes are in files, as of the moment at which the index was asked for them. Clones share
/// everything. Every method may wait for the disk.
#[derive(Clone)]
pub struct SealedSegments {
    list: Arc<List>,
    pages: Arc<Pages>,
}

/// Replaced as a whole by every change, because readers hold on to what they were given.
#[derive(Clone)]
struct List {
    /// Number of the first.
    first: u32,
    /// Where the last one ends.
    end: PhysicalOffset,
    slots: Vec<Slot>,
}

#[derive(Clone)]
enum Slot {
    File(Arc<SealedFile>),
    Missing(SegmentSpan),
}

/// What the log says of one of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// The segment's first byte.
    pub base: PhysicalOffset,
    /// Where the next segment begins.
    pub end: PhysicalOffset,
    /// When it was created, in milliseconds since 1970.
    pub created_at: u64,
}

impl Slot {
    fn span(&self) -> SegmentSpan {
        match self {
            Self::File(file) => {
                let summary = &file.summary;
                SegmentSpan { base: summary.base, end: summary.end, created_at: summary.created_at }
            }
            Self::Missing(span) => *span,
        }
    }

    fn file(&self) -> Result<&Arc<SealedFile>, SealedError> {
        match self {
            Self::File(file) => Ok(file),
            Self::Missing(span) => Err(SealedError::Missing { base: span.base }),
        }
    }
}

impl SealedSegments {
    /// Up to `limit` messages with a key of this hash, stored within `times`, newest first.
    ///
    /// # Errors
    /// When a file that may know some is missing, damaged or cannot be read.
    pub fn keys(
        &self,
        hash: u32,
        times: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Found>, SealedError> {
        self.keys_while(hash, times, limit, || true)
    }

    /// As [`SealedSegments::keys`], for as long as `goes_on` says so, which is asked before each segment.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn keys_while(
        &self,
        hash: u32,
        times: RangeInclusive<u64>,
        limit: usize,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Vec<Found>, SealedError> {
        let mut found = Vec::new();
        for slot in self.list.slots.iter().rev() {
            if found.len() >= limit || !goes_on() {
                break;
            }
            if slot.span().created_at > *times.end() {
                continue;
            }
            let file = slot.file()?;
            let summary = &file.summary;
            if summary.count(Section::Entries) == 0 || summary.oldest_stored_at > *times.end() {
                continue;
            }
            // Times do not decrease along the log.
            if summary.newest_stored_at < *times.start() {
                break;
            }
            file.keys(&self.pages, hash, &times, limit, &mut found)?;
        }
        Ok(found)
    }

    /// The first `limit` timers behind `after` that are due at `until_due` or earlier, ascending.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn timers(&self, after: TimerKey, until_due: u64, limit: usize) -> Result<Vec<Timer>, SealedError> {
        let mut heads = Vec::new();
        for slot in &self.list.slots {
            let file = slot.file()?;
            let summary = &file.summary;
            let has_some = summary.count(Section::Timers) > 0;
            if !has_some || summary.newest_due < after.due || summary.oldest_due > until_due {
                continue;
            }
            let NextTimer { index, timer, .. } = file.next_timer(&self.pages, after)?;
            heads.extend(timer.filter(|timer| timer.key.due <= until_due).map(|timer| (timer, index, file)));
        }
        // Of files that begin behind all that is wanted nothing is read: one whose timers are spread over a year has none
        // among those of the next moment.
        heads.sort_unstable_by_key(|(timer, ..)| *timer);
        let mut first = First::new(limit);
        for (timer, index, file) in heads {
            if !first.offer(timer) {
                break;
            }
            file.walk(&self.pages, index + 1, |item: TimerItem| {
                let timer = file.timer(item);
                timer.key.due <= until_due && first.offer(timer)
            })?;
        }
        Ok(first.into_sorted())
    }

    /// The timer with this key, if there is one. Asks the file of its segment alone.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn timer(&self, key: TimerKey) -> Result<Option<Timer>, SealedError> {
        let place = self.list.slots.partition_point(|slot| slot.span().end <= key.at);
        let slot = self.list.slots.get(place).filter(|slot| slot.span().base <= key.at);
        let Some(file) = slot.map(Slot::file).transpose()? else { return Ok(None) };
        let count = file.summary.count(Section::Timers);
        if !(file.summary.oldest_due..=file.summary.newest_due).contains(&key.due) {
            return Ok(None);
        }
        let timer = |index| Ok(file.timer(file.item(&self.pages, index)?));
        let index = partition_point(0, count, |index| Ok(timer(index)?.key < key))?;
        let timer = (index < count).then(|| timer(index)).transpose()?;
        Ok(timer.filter(|timer| timer.key == key))
    }

    /// The first `limit` timers of records within `places` whose keys are at or below `until`, in the order of their
    /// records. Looks at all timers up to `until` of the segments that reach into `places`, the oldest segment first,
    /// until there are enough.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn late_timers(
        &self,
        places: Range<PhysicalOffset>,
        until: TimerKey,
        limit: usize,
    ) -> Result<Vec<Timer>, SealedError> {
        let mut late = Vec::new();
        let start = self.list.slots.partition_point(|slot| slot.span().end <= places.start);
        for slot in &self.list.slots[start..] {
            let left = limit - late.len();
            if left == 0 || slot.span().base >= places.end {
                break;
            }
            let file = slot.file()?;
            let mut lowest = BinaryHeap::new();
            file.walk(&self.pages, 0, |item: TimerItem| {
                let timer = file.timer(item);
                if timer.key > until {
                    return false;
                }
                if places.contains(&timer.key.at) {
                    lowest.push((timer.key.at, timer));
                    if lowest.len() > left {
                        lowest.pop();
                    }
                }
                true
            })?;
            late.extend(lowest.into_sorted_vec().into_iter().map(|(_, timer)| timer));
        }
        Ok(late)
    }

    /// Where the newest of them ends; what lies behind is in memory.
    pub fn end(&self) -> PhysicalOffset {
        self.list.end
    }
}

/// Where the timers of a file go on.
#[derive(Clone, Copy)]
pub(crate) struct NextTimer {
    /// Behind this key.
    after: TimerKey,
    /// Behind so many timers.
    index: u32,
    /// The first of them; none if there are no more.
    timer: Option<Timer>,
}

impl SealedFile {
    /// Adds what has a key of this hash, newest first.
    fn keys(
        &self,
        pages: &Pages,
        hash: u32,
        times: &RangeInclusive<u64>,
        limit: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), SealedError> {
        let count = self.summary.count(Section::Keys);
        let key = |index| self.item::<KeyItem>(pages, index);
        let low = partition_point(0, count, |index| Ok(key(index)?.hash.get() < hash))?;
        let high = partition_point(low, count, |index| Ok(key(index)?.hash.get() == hash))?;
        // Among equal hashes in the log's order, so in the order of time.
        let high = partition_point(low, high, |index| {
            Ok(self.stored_at(pages, key(index)?.entry.get())? <= *times.end())
        })?;
        for index in (low..high).rev() {
            let entry: EntryItem = self.item(pages, key(index)?.entry.get())?;
            let stored_at = self.time(entry.stored_at_delta.get());
            if found.len() >= limit || stored_at < *times.start() {
                break;
            }
            let at = self.base().advance(u64::from(entry.record_at.get()));
            keys::add(found, Found { at, record_bytes: entry.record_bytes.get(), stored_at });
        }
        Ok(())
    }

    /// The first timer behind `after`. Whoever goes on from there is answered from memory until that one's turn has
    /// come, and then from a place close by.
    fn next_timer(&self, pages: &Pages, after: TimerKey) -> Result<NextTimer, SealedError> {
        let known = self.next_timer.lock().filter(|known| known.after <= after);
        if let Some(known) = known.filter(|known| known.timer.is_none_or(|timer| timer.key > after)) {
            return Ok(known);
        }
        let count = self.summary.count(Section::Timers);
        let timer = |index| Ok(self.timer(self.item(pages, index)?));
        let (mut low, mut step) = (known.map_or(0, |known| known.index), 1_u32);
        let mut high = low;
        while high < count && timer(high)?.key <= after {
            low = high + 1;
            high = low.saturating_add(step);
            step = step.saturating_mul(2);
        }
        let index = partition_point(low, high.min(count), |index| Ok(timer(index)?.key <= after))?;
        let next = NextTimer { after, index, timer: (index < count).then(|| timer(index)).transpose()? };
        *self.next_timer.lock() = Some(next);
        Ok(next)
    }

    fn timer(&self, item: TimerItem) -> Timer {
        let at = self.base().advance(u64::from(item.record_at.get()));
        Timer { key: TimerKey { due: item.due.get(), at }, record_bytes: item.record_bytes.get() }
    }
}

/// What the index does with its list.
impl SealedSegments {
    /// No segments yet; the first will have this number, and begin here.
    pub(crate) fn new(first: u32, end: PhysicalOffset) -> Self {
        let list = List { first, end, slots: Vec::new() };
        Self { list: Arc::new(list), pages: Arc::new(Pages::new()) }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Number of the first segment.
    pub(crate) fn first_number(&self) -> u32 {
        self.list.first
    }

    /// Number of the segment behind the last.
    pub(crate) fn end_number(&self) -> u32 {
        let count = u32::try_from(self.list.slots.len()).expect("there are fewer than 2^32 segments");
        self.list.first + count
    }

    /// Where the first segment begins.
    pub(crate) fn start(&self) -> PhysicalOffset {
        self.oldest().map_or(self.list.end, |span| span.base)
    }

    pub(crate) fn contains(&self, run: RunRef) -> bool {
        (self.list.first..self.end_number()).contains(&run.segment)
    }

    /// The oldest segment.
    pub(crate) fn oldest(&self) -> Option<SegmentSpan> {
        self.list.slots.first().map(Slot::span)
    }

    /// First bytes of the segments without a file, oldest first.
    pub(crate) fn missing(&self) -> impl Iterator<Item = PhysicalOffset> {
        self.list.slots.iter().filter_map(|slot| match slot {
            Slot::File(_) => None,
            Slot::Missing(span) => Some(span.base),
        })
    }

    /// The file of the segment with this number, which is one of these.
    pub(crate) fn file(&self, number: u32) -> Result<&Arc<SealedFile>, SealedError> {
        let place = number.checked_sub(self.list.first).expect("the segment was not trimmed");
        self.list.slots[place as usize].file()
    }

    /// The run, and the file it is in; none if its segment was trimmed.
    pub(crate) fn run(&self, run: RunRef) -> Result<Option<(&Arc<SealedFile>, SealedRun)>, SealedError> {
        if !self.contains(run) {
            return Ok(None);
        }
        let file = self.file(run.segment)?;
        Ok(Some((file, file.run(&self.pages, run.slot)?)))
    }

    /// When the oldest message was stored. Of a segment without a file it is taken to be its creation.
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.list.slots.iter().find_map(|slot| match slot {
            Slot::File(file) => {
                let summary = &file.summary;
                (summary.count(Section::Entries) > 0).then_some(summary.oldest_stored_at)
            }
            Slot::Missing(span) => Some(span.created_at),
        })
    }

    pub(crate) fn entry_count(&self) -> usize {
        let count = |slot: &Slot| match slot {
            Slot::File(file) => file.summary.count(Section::Entries) as usize,
            Slot::Missing(_) => 0,
        };
        self.list.slots.iter().map(count).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.list.slots.capacity() * size_of::<Slot>() + self.list.slots.len() * size_of::<SealedFile>()
    }

    /// Adds the segment that follows.
    pub(crate) fn push(&mut self, file: Arc<SealedFile>) {
        self.push_slot(Slot::File(file));
    }

    /// Adds the segment that follows, and has no file.
    pub(crate) fn push_missing(&mut self, span: SegmentSpan) {
        self.push_slot(Slot::Missing(span));
    }

    fn push_slot(&mut self, slot: Slot) {
        let list = Arc::make_mut(&mut self.list);
        list.end = slot.span().end;
        list.slots.push(slot);
    }

    /// Puts a file in the place of its segment's; says whether there is such a segment.
    pub(crate) fn replace(&mut self, file: Arc<SealedFile>) -> bool {
        let Some(place) = self.place(file.base()) else { return false };
        Arc::make_mut(&mut self.list).slots[place] = Slot::File(file);
        true
    }

    /// Gives up the segment's file.
    pub(crate) fn discard(&mut self, base: PhysicalOffset) {
        if let Some(place) = self.place(base) {
            let slot = &mut Arc::make_mut(&mut self.list).slots[place];
            *slot = Slot::Missing(slot.span());
        }
    }

    /// Drops the oldest segment.
    pub(crate) fn drop_oldest(&mut self) {
        let list = Arc::make_mut(&mut self.list);
        list.slots.remove(0);
        list.first += 1;
    }

    /// Number and span of the segment that begins here.
    pub(crate) fn find(&self, base: PhysicalOffset) -> Option<(u32, SegmentSpan)> {
        let place = self.place(base)?;
        Some((self.list.first + u32::try_from(place).ok()?, self.list.slots[place].span()))
    }

    fn place(&self, base: PhysicalOffset) -> Option<usize> {
        self.list.slots.binary_search_by_key(&base, |slot| slot.span().base).ok()
    }
}
