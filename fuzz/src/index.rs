//! An index whose segments are in files, and every question that there is to ask it.

use std::sync::Arc;

use skylark_index::{Answer, Entry, Extras, Index, SealedError, SegmentSpan, TimerKey};
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Files, PhysicalOffset};

use crate::disk::{LOG_ID, crc32c};

/// Finished segments, and how many messages each of them has.
pub const SEGMENTS: u64 = 3;
const MESSAGES: u64 = 40;
const SEGMENT_BYTES: u64 = 1 << 20;
/// From one segment's creation to the next.
const SEGMENT_MS: u64 = 10_000;
/// What is verified at once.
pub const PAGE_BYTES: usize = 4096;

/// Files on a disk, and what belongs to them.
pub struct Sealed {
    pub disk: Disk,
    pub spans: Vec<SegmentSpan>,
    pub snapshot: Vec<u8>,
}

impl Sealed {
    /// A busy queue and a sparse one, some messages with keys and due times.
    pub fn new() -> Self {
        let disk = Disk::new(1);
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let mut index = Index::new();
        let mut spans = Vec::new();
        for segment in 0..=SEGMENTS {
            let base = PhysicalOffset::new(segment * SEGMENT_BYTES);
            let span =
                SegmentSpan { base, end: base.advance(SEGMENT_BYTES), created_at: SEGMENT_MS * segment };
            index.begin_segment(base, span.created_at).expect("it is the next");
            if segment == SEGMENTS {
                break;
            }
            spans.push(span);
            for n in 0..=MESSAGES {
                let (topic, queue_offset) =
                    if n == 0 { ("sparse", segment) } else { ("busy", segment * MESSAGES + n - 1) };
                let queue = index.register(topic, 3);
                let entry = Entry {
                    queue_offset,
                    physical_offset: base.advance(4096 + n * 256),
                    record_bytes: 200,
                    tag_hash: -5,
                    stored_at: span.created_at + n,
                };
                let keys = [u32::try_from(n % 7).expect("it is small")];
                let due = (n % 2 == 0).then_some(entry.stored_at + 500);
                index.push(queue, entry, Extras { keys: &keys, due }).expect("it is the next");
            }
        }
        while let Some(unsealed) = index.unsealed() {
            assert!(index.attach(unsealed.write(&files, LOG_ID).expect("the disk works")));
        }
        Self { disk, spans, snapshot: index.snapshot() }
    }

    /// The file of a segment.
    pub fn name(&self, segment: usize) -> String {
        format!("log/{:020}.idx", self.spans[segment].base.get())
    }

    /// Makes the checksum at the end of each page fit the page's content, and the place where it stands.
    pub fn seal(&self, segment: usize, bytes: &mut [u8]) {
        for (number, page) in (0_u32..).zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
            let (content, crc) = page.split_at_mut(PAGE_BYTES - 4);
            let base = self.spans[segment].base.get().to_le_bytes();
            let covered = [&LOG_ID.to_bytes(), &base[..], &number.to_le_bytes(), content].concat();
            crc.copy_from_slice(&crc32c(&covered).to_le_bytes());
        }
    }
}

impl Default for Sealed {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks everything that there is to ask, and gives the answers as text; the errors among them too.
pub fn ask_everything(index: &Index) -> Vec<Result<String, SealedError>> {
    let mut answers = Vec::new();
    let segments = index.sealed();
    for hash in 0..8 {
        let keys = segments.keys(hash, 0..=u64::MAX, 1000);
        answers.push(keys.map(|found| format!("{found:?}")));
    }
    let timers = segments.timers(TimerKey::default(), u64::MAX, 1000);
    let until =
        timers.as_ref().ok().and_then(|timers| timers.last()).map(|last| last.key).unwrap_or_default();
    answers.push(timers.map(|found| format!("{found:?}")));
    answers.push(
        segments
            .late_timers(PhysicalOffset::ZERO..segments.end(), until, 1000)
            .map(|found| format!("{found:?}")),
    );
    for queue in index.queues() {
        let range = index.range(queue);
        for from in [range.start, range.start + (range.end - range.start) / 2, range.end.saturating_sub(1)] {
            answers.push(match index.entries(queue, from, 100) {
                Answer::Sealed(view) => view.entries(from, 100).map(|found| format!("{found:?}")),
                Answer::Known(found) => Ok(format!("{:?}", found.count())),
            });
        }
        for time in [0, SEGMENT_MS + MESSAGES / 2, u64::MAX] {
            answers.push(match index.first_at_or_after(queue, time) {
                Answer::Sealed(view) => view.first_at_or_after(time).map(|found| format!("{found:?}")),
                Answer::Known(found) => Ok(format!("{found:?}")),
            });
            answers.push(match index.last_at_or_before(queue, time) {
                Answer::Sealed(view) => view.last_at_or_before(time).map(|found| format!("{found:?}")),
                Answer::Known(found) => Ok(format!("{found:?}")),
            });
        }
    }
    answers
}
