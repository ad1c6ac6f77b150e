//! Writing an index file.

use std::io;
use std::sync::Arc;

use skylark_storage::{File, Files, LogId, PhysicalOffset};

use super::file::SealedFile;
use super::layout::{
    CONTENT_BYTES, EntryItem, Item, KeyItem, PAGE_BYTES, RunItem, SealedRun, Section, Summary, TimerItem,
    file_name, page_crc,
};
use crate::active::ActiveSegment;
use crate::due::Due;
use crate::queue::Queues;

/// The names of the queues that have runs in a segment.
pub(crate) struct Names {
    /// In the order in which runs first name them.
    topics: Vec<Arc<str>>,
    /// For each run, its topic's place in `topics`, and the queue's number.
    runs: Vec<(u32, u32)>,
}

impl Names {
    /// The names of the segment's queues.
    pub(crate) fn of(segment: &ActiveSegment, queues: &Queues) -> Self {
        const UNSEEN: u32 = u32::MAX;
        let mut places = vec![UNSEEN; queues.topics().len()];
        let mut topics = Vec::new();
        let runs = segment.runs().map(|run| {
            let (topic, number) = queues[run.queue].name();
            let place = &mut places[topic as usize];
            if *place == UNSEEN {
                *place = narrow(topics.len());
                topics.push(Arc::clone(&queues.topics()[topic as usize]));
            }
            (*place, number)
        });
        let runs = runs.collect();
        Self { topics, runs }
    }
}

/// Writes the index of a finished segment, and makes it durable under its name. What it writes depends on the
/// segment's messages and on the runs before them, on nothing else.
pub(crate) fn write(
    files: &Arc<dyn Files>,
    log: LogId,
    segment: &ActiveSegment,
    names: &Names,
) -> io::Result<SealedFile> {
    let name = file_name(segment.base());
    let unfinished = format!("{name}{UNFINISHED}");
    match files.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.create(&unfinished)?;
    let summary = fill(&*file, log, segment, names).inspect_err(|_| {
        // The disk may be full, and what was written so far is of no use; whether it goes changes nothing else.
        files.remove(&unfinished).ok();
    })?;
    files.rename(&unfinished, &name)?;
    files.sync_directory("log")?;
    Ok(SealedFile::new(files, summary))
}

/// What the name of a file that is not finished ends in.
pub(crate) const UNFINISHED: &str = ".tmp";

fn fill(file: &dyn File, log: LogId, segment: &ActiveSegment, names: &Names) -> io::Result<Summary> {
    let topic_starts: Vec<u32> = names
        .topics
        .iter()
        .scan(0, |end, topic| Some(narrow(std::mem::replace(end, *end + topic.len()))))
        .collect();
    let topic_bytes: usize = names.topics.iter().map(|topic| topic.len()).sum();
    let oldest_stored_at = if segment.len() > 0 { segment.stored_at(0) } else { 0 };
    let (oldest_due, newest_due) = segment.due.bounds().unwrap_or_default();
    let summary = Summary {
        log_id: log,
        number: segment.number(),
        base: segment.base(),
        end: segment.end(),
        created_at: segment.created_at(),
        oldest_stored_at,
        newest_stored_at: segment.newest_stored_at().unwrap_or(0),
        oldest_due,
        newest_due,
        counts: [names.runs.len(), topic_bytes, segment.len(), segment.keys.len(), segment.timers.len()]
            .map(narrow),
    };

    let mut out = Writer { file, log, base: segment.base(), pages: 0, buffer: Vec::new(), filled: 0 };
    out.put(&summary.to_content())?;
    out.end_section()?;

    let mut first_entry = 0;
    for (run, &(topic, queue_number)) in segment.runs().zip(&names.runs) {
        out.item(RunItem::from(SealedRun {
            first: run.first,
            count: run.count,
            first_entry,
            stored_at_delta: segment.slot(run.first_entry).stored_at_delta,
            queue_number,
            topic_at: topic_starts[topic as usize],
            topic_bytes: narrow(names.topics[topic as usize].len()),
            links: run.links,
        }))?;
        first_entry += run.count;
    }
    debug_assert_eq!(first_entry, summary.count(Section::Entries), "every entry is in a run");
    out.end_section()?;

    for topic in &names.topics {
        out.text(topic.as_bytes())?;
    }
    out.end_section()?;

    // Where each entry goes, for its keys.
    let mut places = vec![0; segment.len()];
    let mut place = 0;
    for run in segment.runs() {
        let mut at = run.first_entry;
        for _ in 0..run.count {
            let slot = segment.slot(at);
            out.item(EntryItem {
                record_at: slot.record_at.into(),
                record_bytes: slot.record_bytes.into(),
                tag_hash: slot.tag_hash.into(),
                stored_at_delta: slot.stored_at_delta.into(),
            })?;
            places[at as usize] = place;
            place += 1;
            at = slot.next;
        }
    }
    out.end_section()?;

    let mut keys: Vec<(u32, u32)> = segment.keys.iter().map(|key| (key.hash, key.entry)).collect();
    keys.sort_unstable();
    for (hash, entry) in keys {
        out.item(KeyItem { hash: hash.into(), entry: places[entry as usize].into() })?;
    }
    out.end_section()?;

    for due in segment.due.first(Due { ms: 0, position: 0 }, usize::MAX) {
        let timer = segment.timers.at(due.position);
        out.item(TimerItem {
            due: timer.due.into(),
            record_at: timer.record_at.into(),
            record_bytes: timer.record_bytes.into(),
        })?;
    }
    out.end_section()?;
    out.flush()?;
    debug_assert_eq!(out.pages, summary.pages(), "the header tells the file's length");
    file.sync()?;
    Ok(summary)
}

/// Makes pages of items.
struct Writer<'a> {
    file: &'a dyn File,
    log: LogId,
    base: PhysicalOffset,
    /// Pages that are complete.
    pages: u32,
    /// The last of them, not written yet, and the content of the next.
    buffer: Vec<u8>,
    /// How long that content is.
    filled: usize,
}

/// So much is written at once.
const BUFFER_BYTES: usize = 64 * PAGE_BYTES;

impl Writer<'_> {
    fn item<T: Item>(&mut self, item: T) -> io::Result<()> {
        self.put(item.as_bytes())
    }

    fn text(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CONTENT_BYTES - self.filled;
            let room = if room == 0 { CONTENT_BYTES } else { room };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.put(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Adds bytes that are not to be parted.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.filled + bytes.len() > CONTENT_BYTES {
            self.end_page()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// What follows begins a page.
    fn end_section(&mut self) -> io::Result<()> {
        if self.filled > 0 { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> io::Result<()> {
        let start = self.buffer.len() - self.filled;
        self.buffer.resize(start + CONTENT_BYTES, 0);
        let crc = page_crc(self.log, self.base, self.pages, &self.buffer[start..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.filled = 0;
        self.pages += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let end = u64::from(self.pages) * PAGE_BYTES as u64;
        self.file.write_at(end - self.buffer.len() as u64, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A count or place of a segment, which has less than 4 GiB.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a segment of less than 4 GiB has fewer than 2^32 of anything")
}
