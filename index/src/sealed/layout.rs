//! The bytes of an index file.
//!
//! A file is pages of [`PAGE_BYTES`]; page 0 is the header, the sections follow in the order of [`Section`], each
//! from a page of its own on. A section is items of one length, none across pages, so an item is found by
//! arithmetic. Every page ends in a checksum that says which page of which file it is.

use std::mem::{offset_of, size_of};

use skylark_storage::{LogId, PhysicalOffset};
use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::directory::{Links, RunRef};

/// Raised by every change of the format; a file of another version is built anew.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// What is read and verified at once.
pub(crate) const PAGE_BYTES: usize = 4096;
/// What of a page is not its checksum.
pub(crate) const CONTENT_BYTES: usize = PAGE_BYTES - size_of::<u32>();

const MAGIC: [u8; 8] = *b"SKYLKIDX";

/// The first bytes of page 0, the rest of whose content is zero; integers are little-endian.
///
/// |  at | bytes | field              | meaning                                                           |
/// |----:|------:|--------------------|-------------------------------------------------------------------|
/// |   0 |     8 | `magic`            | `SKYLKIDX`                                                        |
/// |   8 |     4 | `format_version`   | see [`FORMAT_VERSION`]                                      |
/// |  12 |     4 | `number`           | of the segment; the log's first is 1                              |
/// |  16 |    16 | `log_id`           | which log                                                         |
/// |  32 |     8 | `base`             | physical offset of the segment's first byte                       |
/// |  40 |     8 | `end`              | where the segment ends and the next begins                        |
/// |  48 |     8 | `created_at`       | of the segment, ms since 1970: what `stored_at_delta` counts from |
/// |  56 |     8 | `oldest_stored_at` | time of the first message; 0 without messages                     |
/// |  64 |     8 | `newest_stored_at` | time of the last message; 0 without messages                      |
/// |  72 |     8 | `oldest_due`       | lowest due time; 0 without timers                                 |
/// |  80 |     8 | `newest_due`       | highest due time; 0 without timers                                |
/// |  88 |    40 | `sections`         | for each of the five: its first page (4), its items (4)           |
/// | 128 |     4 | `pages`            | of the file, this one included                                    |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    format_version: U32,
    number: U32,
    log_id: [u8; 16],
    base: U64,
    end: U64,
    created_at: U64,
    oldest_stored_at: U64,
    newest_stored_at: U64,
    oldest_due: U64,
    newest_due: U64,
    sections: [[U32; 2]; SECTIONS],
    pages: U32,
}

const _: () = {
    assert!(size_of::<Header>() == 132);
    assert!(offset_of!(Header, base) == 32);
    assert!(offset_of!(Header, oldest_due) == 72);
    assert!(offset_of!(Header, sections) == 88);
    assert!(offset_of!(Header, pages) == 128);
};

/// The sections, in the order in which they lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// [`RunItem`]s, in the order in which they began.
    Runs,
    /// The names of topics, one behind the other, in the order in which runs first name them; items are bytes.
    Topics,
    /// [`EntryItem`]s, run by run, in the order of queue offsets.
    Entries,
    /// [`KeyItem`]s by hash, then in the log's order.
    Keys,
    /// [`TimerItem`]s by due time, then in the log's order.
    Timers,
}

pub(crate) const SECTIONS: usize = 5;

impl Section {
    /// How many items a page holds.
    pub(crate) const fn per_page(self) -> u32 {
        match self {
            Self::Runs => 78,
            Self::Topics => 4092,
            Self::Entries | Self::Timers => 255,
            Self::Keys => 511,
        }
    }
}

/// What a section is made of.
pub(crate) trait Item: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Copy {
    const SECTION: Section;
}

/// The messages that one queue has in the segment, or a dense part of them.
///
/// | at | bytes | field              | meaning                                                              |
/// |---:|------:|--------------------|----------------------------------------------------------------------|
/// |  0 |     8 | `first`            | queue offset of the first message                                    |
/// |  8 |     4 | `count`            | how many messages; not 0                                             |
/// | 12 |     4 | `first_entry`      | item number of the first message's entry                             |
/// | 16 |     4 | `stored_at_delta`  | of the first message                                                 |
/// | 20 |     4 | `queue_number`     | the queue, together with its topic                                   |
/// | 24 |     4 | `topic_at`         | the topic's first byte in the topics section                         |
/// | 28 |     4 | `topic_bytes`      | the name's length                                                    |
/// | 32 |     4 | `depth`            | how many runs the queue has had in the log, this one included        |
/// | 36 |     8 | `previous`         | the run before: its segment's number (4), its item number (4)        |
/// | 44 |     8 | `jump`             | the run that the depth jumps to, likewise; 0 and 0 where there is none |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RunItem {
    first: U64,
    count: U32,
    first_entry: U32,
    stored_at_delta: U32,
    queue_number: U32,
    topic_at: U32,
    topic_bytes: U32,
    depth: U32,
    previous: [U32; 2],
    jump: [U32; 2],
}

/// One message of a queue.
///
/// | at | bytes | field             | meaning                                                |
/// |---:|------:|-------------------|--------------------------------------------------------|
/// |  0 |     4 | `record_at`       | where the record starts, from the segment's first byte |
/// |  4 |     4 | `record_bytes`    | length of the whole record, header included            |
/// |  8 |     4 | `tag_hash`        | hash of the tag; filters may collide, clients re-check |
/// | 12 |     4 | `stored_at_delta` | milliseconds since the segment was created             |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EntryItem {
    pub(crate) record_at: U32,
    pub(crate) record_bytes: U32,
    pub(crate) tag_hash: I32,
    pub(crate) stored_at_delta: U32,
}

/// One key of a message.
///
/// | at | bytes | field   | meaning                               |
/// |---:|------:|---------|---------------------------------------|
/// |  0 |     4 | `hash`  | of the key, see [`crate::key_hash`]   |
/// |  4 |     4 | `entry` | item number of the message's entry    |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct KeyItem {
    pub(crate) hash: U32,
    pub(crate) entry: U32,
}

/// One message that is due at a time.
///
/// | at | bytes | field          | meaning                                                |
/// |---:|------:|----------------|--------------------------------------------------------|
/// |  0 |     8 | `due`          | when, in milliseconds since 1970                       |
/// |  8 |     4 | `record_at`    | where the record starts, from the segment's first byte |
/// | 12 |     4 | `record_bytes` | length of the whole record, header included            |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TimerItem {
    pub(crate) due: U64,
    pub(crate) record_at: U32,
    pub(crate) record_bytes: U32,
}

const _: () = {
    assert!(
        size_of::<RunItem>() == 52 && offset_of!(RunItem, depth) == 32 && offset_of!(RunItem, jump) == 44
    );
    assert!(size_of::<EntryItem>() == 16 && offset_of!(EntryItem, stored_at_delta) == 12);
    assert!(size_of::<KeyItem>() == 8 && size_of::<TimerItem>() == 16);
    assert!(Section::Topics.per_page() as usize == CONTENT_BYTES);
    assert!(Section::Runs.per_page() as usize == CONTENT_BYTES / size_of::<RunItem>());
    assert!(Section::Entries.per_page() as usize == CONTENT_BYTES / size_of::<EntryItem>());
    assert!(Section::Keys.per_page() as usize == CONTENT_BYTES / size_of::<KeyItem>());
    assert!(Section::Timers.per_page() as usize == CONTENT_BYTES / size_of::<TimerItem>());
};

impl Item for RunItem {
    const SECTION: Section = Section::Runs;
}

impl Item for EntryItem {
    const SECTION: Section = Section::Entries;
}

impl Item for KeyItem {
    const SECTION: Section = Section::Keys;
}

impl Item for TimerItem {
    const SECTION: Section = Section::Timers;
}

/// What a run item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedRun {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) first_entry: u32,
    pub(crate) stored_at_delta: u32,
    pub(crate) queue_number: u32,
    pub(crate) topic_at: u32,
    pub(crate) topic_bytes: u32,
    pub(crate) links: Links,
}

impl SealedRun {
    /// Offset behind the last message.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

impl From<SealedRun> for RunItem {
    fn from(run: SealedRun) -> Self {
        let place = |RunRef { segment, slot }| [segment.into(), slot.into()];
        Self {
            first: run.first.into(),
            count: run.count.into(),
            first_entry: run.first_entry.into(),
            stored_at_delta: run.stored_at_delta.into(),
            queue_number: run.queue_number.into(),
            topic_at: run.topic_at.into(),
            topic_bytes: run.topic_bytes.into(),
            depth: run.links.depth.into(),
            previous: place(run.links.previous),
            jump: place(run.links.jump),
        }
    }
}

impl From<RunItem> for SealedRun {
    fn from(item: RunItem) -> Self {
        let place = |[segment, slot]: [U32; 2]| RunRef { segment: segment.get(), slot: slot.get() };
        Self {
            first: item.first.get(),
            count: item.count.get(),
            first_entry: item.first_entry.get(),
            stored_at_delta: item.stored_at_delta.get(),
            queue_number: item.queue_number.get(),
            topic_at: item.topic_at.get(),
            topic_bytes: item.topic_bytes.get(),
            links: Links { depth: item.depth.get(), previous: place(item.previous), jump: place(item.jump) },
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) log_id: LogId,
    pub(crate) number: u32,
    pub(crate) base: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
    pub(crate) created_at: u64,
    pub(crate) oldest_stored_at: u64,
    pub(crate) newest_stored_at: u64,
    pub(crate) oldest_due: u64,
    pub(crate) newest_due: u64,
    /// Items of each section.
    pub(crate) counts: [u32; SECTIONS],
}

impl Summary {
    /// How many items a section has.
    pub(crate) fn count(&self, section: Section) -> u32 {
        self.counts[section as usize]
    }

    /// The page that a section begins with.
    pub(crate) fn first_page(&self, section: Section) -> u32 {
        ORDER[..section as usize].iter().fold(1, |page, &before| page + self.pages_of(before))
    }

    /// Pages of the whole file.
    pub(crate) fn pages(&self) -> u32 {
        self.first_page(Section::Timers) + self.pages_of(Section::Timers)
    }

    fn pages_of(&self, section: Section) -> u32 {
        self.count(section).div_ceil(section.per_page())
    }

    /// The content of page 0.
    pub(crate) fn to_content(self) -> [u8; size_of::<Header>()] {
        let header = Header {
            magic: MAGIC,
            format_version: FORMAT_VERSION.into(),
            number: self.number.into(),
            log_id: self.log_id.to_bytes(),
            base: self.base.get().into(),
            end: self.end.get().into(),
            created_at: self.created_at.into(),
            oldest_stored_at: self.oldest_stored_at.into(),
            newest_stored_at: self.newest_stored_at.into(),
            oldest_due: self.oldest_due.into(),
            newest_due: self.newest_due.into(),
            sections: ORDER.map(|section| [self.first_page(section).into(), self.count(section).into()]),
            pages: self.pages().into(),
        };
        header.as_bytes().try_into().expect("a header is as long as a header")
    }

    /// Reads page 0, whose checksum was verified. None if it is no header of this format, or contradicts itself.
    pub(crate) fn from_page(page: &Page) -> Option<Self> {
        let (header, rest) = Header::ref_from_prefix(page.content()).ok()?;
        let counts = header.sections.map(|[_, count]| count.get());
        // So that no sum of pages overflows: a segment of less than 4 GiB has fewer items by far.
        if counts.iter().any(|&count| count > ITEMS_MAX) {
            return None;
        }
        let summary = Self {
            log_id: LogId::from_bytes(header.log_id),
            number: header.number.get(),
            base: PhysicalOffset::new(header.base.get()),
            end: PhysicalOffset::new(header.end.get()),
            created_at: header.created_at.get(),
            oldest_stored_at: header.oldest_stored_at.get(),
            newest_stored_at: header.newest_stored_at.get(),
            oldest_due: header.oldest_due.get(),
            newest_due: header.newest_due.get(),
            counts,
        };
        let known = header.magic == MAGIC && header.format_version.get() == FORMAT_VERSION;
        let agrees = summary.to_content() == header.as_bytes() && rest.iter().all(|&byte| byte == 0);
        (known && agrees).then_some(summary)
    }
}

const ORDER: [Section; SECTIONS] =
    [Section::Runs, Section::Topics, Section::Entries, Section::Keys, Section::Timers];
const ITEMS_MAX: u32 = 1 << 31;

/// A page, as it lies in the file.
#[derive(Clone)]
pub(crate) struct Page([u8; PAGE_BYTES]);

impl Page {
    pub(crate) const ZERO: Self = Self([0; PAGE_BYTES]);

    /// What is not its checksum.
    pub(crate) fn content(&self) -> &[u8] {
        &self.0[..CONTENT_BYTES]
    }

    /// To be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; PAGE_BYTES] {
        &mut self.0
    }

    /// The item at this place of the page.
    pub(crate) fn item<T: Item>(&self, place: u32) -> T {
        let at = place as usize * size_of::<T>();
        T::read_from_bytes(&self.0[at..at + size_of::<T>()]).expect("an item is as long as an item")
    }

    /// Whether this is what was written as page `number` of the file of this segment.
    pub(crate) fn is_sound(&self, log: LogId, base: PhysicalOffset, number: u32) -> bool {
        let (content, crc) = self.0.split_at(CONTENT_BYTES);
        crc == page_crc(log, base, number, content).to_le_bytes()
    }
}

/// The checksum that ends a page: CRC32C of the log's id, the segment's base (8 bytes), the page's number (4 bytes),
/// and the page's content.
pub(crate) fn page_crc(log: LogId, base: PhysicalOffset, number: u32, content: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&log.to_bytes());
    let crc = crc32c::crc32c_append(crc, &base.get().to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
    crc32c::crc32c_append(crc, content)
}

/// `log/` and the 20-digit offset of the segment's first byte.
pub(crate) fn file_name(base: PhysicalOffset) -> String {
    format!("log/{:020}.idx", base.get())
}

/// The base that a file name in `log/` stands for, if it is an index file's.
pub(crate) fn file_base(name: &str) -> Option<PhysicalOffset> {
    let digits = name.strip_suffix(".idx").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().map(PhysicalOffset::new))?
}

#[cfg(test)]
mod tests;
