use std::ops::Range;

use skylark_storage::device::simulated::Disk;

use super::layout::{CONTENT_BYTES, PAGE_BYTES, RunItem, file_name, page_crc};
use super::*;
use crate::{
    Answer, Entry, Extras, QueueId, RebuildError, SegmentSpan, TimerKey, remove_below, remove_beyond,
};

const LOG: LogId = LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const SEGMENT_BYTES: u64 = 1 << 20;
/// From one segment's creation to the next.
const MS: u64 = 10_000;

/// A log of so many finished segments, and one more that was begun. Each has one message of a sparse queue, the
/// first to come, and so many of a busy one, some with keys and due times.
struct Log {
    disk: Disk,
    files: Arc<dyn Files>,
    spans: Vec<SegmentSpan>,
    messages: u64,
    snapshot: Vec<u8>,
}

impl Log {
    fn new(segments: u64, messages: u64) -> Self {
        let disk = Disk::new(1);
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let mut log = Self { disk, files, spans: Vec::new(), messages, snapshot: Vec::new() };
        let mut index = Index::new();
        for segment in 0..segments {
            log.begin(&mut index, segment);
            for (topic, number, entry, keys, due) in log.of_segment(segment) {
                let queue = index.register(topic, number);
                index.push(queue, entry, Extras { keys: &keys, due }).unwrap();
            }
        }
        log.begin(&mut index, segments);
        log.spans.pop();
        while let Some(unsealed) = index.unsealed() {
            assert!(index.attach(unsealed.write(&log.files, LOG).unwrap()));
        }
        log.snapshot = index.snapshot();
        log
    }

    fn begin(&mut self, index: &mut Index, segment: u64) {
        let base = PhysicalOffset::new(segment * SEGMENT_BYTES);
        let span = SegmentSpan { base, end: base.advance(SEGMENT_BYTES), created_at: MS * segment };
        index.begin_segment(base, span.created_at).unwrap();
        self.spans.push(span);
    }

    fn of_segment(&self, segment: u64) -> impl Iterator<Item = (&str, u32, Entry, Vec<u32>, Option<u64>)> {
        let messages = self.messages;
        (0..=messages).map(move |n| {
            let queue_offset = if n == 0 { segment } else { segment * messages + n - 1 };
            let entry = Entry {
                queue_offset,
                physical_offset: PhysicalOffset::new(segment * SEGMENT_BYTES + 4096 + n * 256),
                record_bytes: 200,
                tag_hash: -5,
                stored_at: MS * segment + n,
            };
            let keys = vec![u32::try_from(n % 7).unwrap()];
            let due = (n % 2 == 0).then_some(entry.stored_at + 500);
            if n == 0 { ("sparse", 3, entry, keys, due) } else { ("busy", 0, entry, keys, due) }
        })
    }

    /// The index after a restart: nothing is cached.
    fn index(&self) -> Index {
        Index::restore(&self.snapshot, &self.files, LOG, &self.spans).unwrap()
    }

    fn rebuild(&self, index: &mut Index, segment: u64) {
        let base = self.spans[usize::try_from(segment).unwrap()].base;
        let mut rebuild = index.rebuild(base).unwrap().begin().unwrap();
        for (topic, number, entry, keys, due) in self.of_segment(segment) {
            rebuild.push(topic, number, entry, Extras { keys: &keys, due }).unwrap();
        }
        assert!(index.attach(rebuild.write(&self.files, LOG).unwrap()));
    }

    fn name(&self, segment: usize) -> String {
        file_name(self.spans[segment].base)
    }

    fn bytes(&self, segment: usize) -> Vec<u8> {
        let file = self.files.open(&self.name(segment)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }
}

fn sealed<T>(answer: Answer<T>) -> SealedQueue {
    match answer {
        Answer::Sealed(view) => view,
        Answer::Known(_) => panic!("everything is in files"),
    }
}

/// Asks everything that there is to ask.
fn ask_everything(index: &Index) -> Result<usize, SealedError> {
    let mut answers = 0;
    let segments = index.sealed();
    for hash in 0..8 {
        answers += segments.keys(hash, 0..=u64::MAX, usize::MAX)?.len();
    }
    answers += segments.timers(TimerKey::default(), u64::MAX, usize::MAX)?.len();
    for queue in index.queues() {
        let range = index.range(queue);
        let view = sealed(index.entries(queue, range.start, 1));
        answers += view.entries(range.start, usize::MAX)?.len();
    }
    // Names are read for trims and rebuilds.
    let mut trim = index.trim_plan(segments.end());
    if let Some(plan) = trim.take() {
        plan.read()?;
    }
    Ok(answers)
}

#[test]
fn every_page_is_verified() {
    let log = Log::new(2, 1200);
    let answers = ask_everything(&log.index()).unwrap();
    assert_eq!(answers, 2 * (1201 + 601 + 1201));
    let pages = log.bytes(0).len() / PAGE_BYTES;
    assert_eq!(pages, 1 + 1 + 1 + 5 + 3 + 3);
    for page in 0..pages {
        let at = (page * PAGE_BYTES + (page * 977) % PAGE_BYTES) as u64;
        log.disk.flip_bit(&log.name(0), at, 3).unwrap();
        let mut index = log.index();
        if page == 0 {
            assert_eq!(index.missing(), [PhysicalOffset::ZERO]);
        } else {
            match ask_everything(&index) {
                Err(SealedError::Damaged { base, page: found, .. }) => {
                    assert_eq!((base, found as usize), (PhysicalOffset::ZERO, page));
                    index.discard(base);
                }
                other => panic!("page {page} is damaged, but: {other:?}"),
            }
        }
        assert_eq!(index.missing(), [PhysicalOffset::ZERO]);
        log.rebuild(&mut index, 0);
        assert_eq!((index.missing(), ask_everything(&index).unwrap()), (Vec::new(), answers));
    }
}

#[test]
fn what_is_not_this_file_is_missing() {
    let log = Log::new(3, 300);
    let whole = log.bytes(1);
    let write = |name: &str, bytes: &[u8]| {
        let file = log.files.open(name).unwrap();
        file.set_len(0).unwrap();
        file.write_at(0, bytes).unwrap();
    };
    let missing = |is_missing: bool, why: &str| {
        let expected = if is_missing { vec![log.spans[1].base] } else { Vec::new() };
        assert_eq!(log.index().missing(), expected, "{why}");
    };
    missing(false, "as it was written");
    write(&log.name(1), &whole[..whole.len() - PAGE_BYTES]);
    missing(true, "the last page is cut off");
    write(&log.name(1), &whole[..100]);
    missing(true, "cut inside the header");
    write(&log.name(1), &[whole.as_slice(), &[0; PAGE_BYTES]].concat());
    missing(true, "too long");
    write(&log.name(1), &log.bytes(2));
    missing(true, "the file of another segment");
    write(&log.name(1), &whole);
    missing(false, "as it was written, again");
    log.files.remove(&log.name(1)).unwrap();
    missing(true, "gone");

    let other = LogId::from_bytes([9; 16]);
    let index = Index::restore(&log.snapshot, &log.files, other, &log.spans).unwrap();
    assert_eq!(index.missing().len(), 3, "files of another log");
}

#[test]
fn a_file_that_goes_while_it_is_used_is_missing() {
    let log = Log::new(3, 300);
    let mut index = log.index();
    let original = log.bytes(1);
    log.files.remove(&log.name(1)).unwrap();
    let busy = index.lookup("busy", 0).unwrap();
    let view = sealed(index.entries(busy, 450, 1));
    let base = log.spans[1].base;
    assert!(matches!(view.entries(450, 1), Err(SealedError::Missing { base: found }) if found == base));
    assert_eq!(view.entries(750, 1).unwrap().len(), 1, "another file");
    // Until it is discarded, nobody else knows.
    assert_eq!(index.missing(), []);
    index.discard(base);
    assert_eq!(index.missing(), [base]);
    log.rebuild(&mut index, 1);
    assert_eq!(log.bytes(1), original);
    assert_eq!(sealed(index.entries(busy, 450, 1)).entries(450, 1).unwrap()[0].queue_offset, 450);
}

#[test]
fn files_are_built_anew_oldest_first() {
    let log = Log::new(4, 300);
    let originals: Vec<Vec<u8>> = (0..4).map(|segment| log.bytes(segment)).collect();
    (0..4).for_each(|segment| log.files.remove(&log.name(segment)).unwrap());
    let mut index = log.index();
    assert_eq!(index.missing().len(), 4);
    let younger = index.rebuild(log.spans[2].base).unwrap().begin();
    assert!(matches!(younger, Err(SealedError::Missing { base: PhysicalOffset::ZERO })));
    let beyond = PhysicalOffset::new(4 * SEGMENT_BYTES);
    assert_eq!(index.rebuild(beyond).err(), Some(RebuildError::NotSealed { base: beyond }));
    for (segment, original) in (0..4).zip(&originals) {
        log.rebuild(&mut index, segment);
        assert!(log.bytes(usize::try_from(segment).unwrap()) == *original, "segment {segment}");
    }
    assert!(index.basis.is_none(), "nothing is kept for a next one that will not come");
}

#[test]
fn an_older_file_is_not_built_on_a_younger_one() {
    let log = Log::new(4, 300);
    let originals: Vec<Vec<u8>> = (0..4).map(|segment| log.bytes(segment)).collect();
    let mut index = log.index();
    for segment in [1, 3] {
        index.discard(log.spans[segment].base);
    }
    log.rebuild(&mut index, 1);
    assert!(index.basis.is_some(), "the next one goes on from here");
    index.discard(log.spans[0].base);
    for segment in [0, 3] {
        log.rebuild(&mut index, segment);
    }
    (0..4).for_each(|segment| assert!(log.bytes(segment) == originals[segment], "segment {segment}"));
}

#[test]
fn what_is_trimmed_meanwhile_is_of_no_use() {
    let log = Log::new(3, 10);
    let mut index = log.index();
    let mut rebuild = index.rebuild(PhysicalOffset::ZERO).unwrap().begin().unwrap();
    let (_, _, of_the_next, ..) = log.of_segment(1).next().unwrap();
    assert!(rebuild.push("sparse", 3, of_the_next, Extras::default()).is_err());
    let (plan, again) =
        (index.trim_plan(log.spans[0].end).unwrap(), index.trim_plan(log.spans[0].end).unwrap());
    index.trim(plan.read().unwrap());
    index.trim(again.read().unwrap());
    let busy = index.lookup("busy", 0).unwrap();
    assert_eq!(index.range(busy), 10..30, "one plan has one effect");
    assert!(!index.attach(rebuild.write(&log.files, LOG).unwrap()));
    assert!(index.trim_plan(log.spans[0].end).is_none());
}

/// Found by the fuzzer: a minimum beyond the next offset, and a depth beyond all numbers.
#[test]
fn a_sound_page_that_contradicts_the_queues_is_not_believed() {
    for (field, value) in [(8, u32::MAX), (8, 0), (32, u32::MAX), (28, u32::MAX), (20, 9)] {
        let log = Log::new(3, 10);
        let mut bytes = log.bytes(0);
        for item in 0..2 {
            let at = PAGE_BYTES + item * size_of::<RunItem>() + field;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let page = &mut bytes[PAGE_BYTES..2 * PAGE_BYTES];
        let crc = page_crc(LOG, log.spans[0].base, 1, &page[..CONTENT_BYTES]);
        page[CONTENT_BYTES..].copy_from_slice(&crc.to_le_bytes());
        log.files.open(&log.name(0)).unwrap().write_at(0, &bytes).unwrap();

        let mut index = log.index();
        assert_eq!(index.missing(), Vec::new(), "the header is as it was");
        // Errors are answers; what must not happen is a panic, or a wrong range.
        let _answers = ask_everything(&index);
        while let Some(Ok(trim)) = index.trim_plan(log.spans[2].end).map(|plan| plan.read()) {
            index.trim(trim);
            for queue in index.queues() {
                let Range { start, end } = index.range(queue);
                assert!(start <= end, "{start}..{end} with {value} at {field}");
            }
        }
    }
}

#[test]
fn a_queue_with_nothing_left_keeps_its_offsets() {
    let log = Log::new(3, 10);
    // The second time around the files of what is trimmed are gone.
    for restarts in 0..2 {
        let mut index = log.index();
        let (sparse, busy) = (index.lookup("sparse", 3).unwrap(), index.lookup("busy", 0).unwrap());
        while let Some(plan) = index.trim_plan(log.spans[2].end) {
            index.trim(plan.read().unwrap());
        }
        assert_eq!((index.range(sparse), index.range(busy)), (3..3, 30..30));
        assert_eq!((index.earliest(), index.missing()), (None, Vec::new()));
        let restored = Index::restore(&index.snapshot(), &log.files, LOG, &[]).unwrap();
        assert_eq!((restored.range(sparse), restored.range(busy)), (3..3, 30..30));
        assert_eq!(restored.snapshot(), index.snapshot());
        // The log was trimmed, and the snapshot from before is what a restart finds.
        if restarts == 1 {
            remove_below(&*log.files, PhysicalOffset::new(u64::MAX)).unwrap();
        }
        let restored = Index::restore(&log.snapshot, &log.files, LOG, &[]).unwrap();
        assert_eq!((restored.range(sparse), restored.range(busy)), (3..3, 30..30));
    }
}

#[test]
fn a_power_cut_leaves_the_whole_file_or_none() {
    let mut index = Index::new();
    let queue = index.register("t", 0);
    index.begin_segment(PhysicalOffset::ZERO, 0).unwrap();
    for n in 0..2000 {
        let entry = Entry {
            queue_offset: n,
            physical_offset: PhysicalOffset::new(4096 + n * 64),
            record_bytes: 64,
            tag_hash: 0,
            stored_at: n,
        };
        index.push(queue, entry, Extras { keys: &[7], due: Some(n) }).unwrap();
    }
    index.begin_segment(PhysicalOffset::new(SEGMENT_BYTES), 0).unwrap();
    let unsealed = index.unsealed().unwrap();
    let write = |disk: &Disk| {
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        unsealed.write(&files, LOG).map(|_| ())
    };
    let whole = Disk::new(0);
    write(&whole).unwrap();
    let found = |disk: &Disk| {
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        SealedFile::open(&files, LOG, PhysicalOffset::ZERO).unwrap().map(|_| {
            let file = files.open(&file_name(PhysicalOffset::ZERO)).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(0, &mut bytes).unwrap();
            bytes
        })
    };
    let expected = found(&whole).unwrap();
    let (mut all, mut none) = (0, 0);
    for seed in 0..20 {
        for operation in 1..=whole.operations() {
            let disk = Disk::new(seed);
            disk.power_off_at(operation);
            assert!(write(&disk).is_err());
            let after = disk.crash();
            match found(&after) {
                Some(bytes) => {
                    assert!(bytes == expected, "power cut at operation {operation}, seed {seed}");
                    all += 1;
                }
                None => none += 1,
            }
            // The next attempt is not hindered by what is left of this one.
            remove_beyond(&after, PhysicalOffset::new(SEGMENT_BYTES)).unwrap();
            write(&after).unwrap();
            assert!(found(&after.crash()) == Some(expected.clone()), "a file that was written survives");
        }
    }
    assert!(all > 0 && none > 0, "{all} whole files, {none} none");
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let log = Log::new(1, 10);
    let mut index = log.index();
    let rebuild = index.rebuild(PhysicalOffset::ZERO).unwrap().begin().unwrap();
    let before = log.bytes(0);
    log.disk.fail_flush(1);
    assert!(rebuild.write(&log.files, LOG).is_err());
    assert_eq!(log.files.list("log").unwrap(), ["00000000000000000000.idx"]);
    assert_eq!(log.bytes(0), before);
}

#[test]
fn a_sparse_queue_costs_logarithmically_many_pages() {
    let log = Log::new(1000, 3);
    for n in (0..1000).step_by(83) {
        let index = log.index();
        let sparse: QueueId = index.lookup("sparse", 3).unwrap();
        let view = sealed(index.entry(sparse, n));
        assert_eq!(view.entry(n).unwrap().unwrap().stored_at, MS * n);
        let pages = view.segments.pages().len();
        assert!(pages <= 3 * 10, "{pages} pages for offset {n}");

        let index = log.index();
        let view = sealed(index.first_at_or_after(sparse, MS * n + 1));
        assert_eq!(view.first_at_or_after(MS * n + 1).unwrap(), n + 1);
        assert_eq!(view.last_at_or_before(MS * n + 1).unwrap(), Some(n));
        let pages = view.segments.pages().len();
        assert!(pages <= 3 * 10, "{pages} pages for the time of offset {n}");
    }
    // Timers of a time are in one segment or two, whatever their number.
    let index = log.index();
    let after = TimerKey { due: 500 * MS + 501, at: PhysicalOffset::ZERO };
    assert_eq!(index.sealed().timers(after, 501 * MS + 501, 9).unwrap().len(), 2);
    assert!(index.sealed().pages().len() <= 2);
}

#[test]
fn a_long_time_of_keys_can_be_cut_short() {
    let log = Log::new(9, 3);
    let segments = log.index().sealed();
    let mut asked = 0;
    let found = segments.keys_while(1, 0..=u64::MAX, 100, || {
        asked += 1;
        asked <= 4
    });
    let found: Vec<u64> = found.unwrap().iter().map(|found| found.stored_at).collect();
    assert_eq!(found, [8 * MS + 1, 7 * MS + 1, 6 * MS + 1, 5 * MS + 1]);
}

#[test]
fn open_files_are_bounded() {
    let log = Log::new(200, 1);
    let index = log.index();
    let busy = index.lookup("busy", 0).unwrap();
    assert_eq!(sealed(index.entries(busy, 0, 1)).entries(0, usize::MAX).unwrap().len(), 200);
    assert_eq!(index.sealed().pages().open_files(), 64);
}

#[test]
fn a_segment_that_never_got_its_file_can_be_trimmed() {
    let mut index = Index::new();
    let (busy, gone) = (index.register("busy", 0), index.register("gone", 0));
    let base = |segment: u64| PhysicalOffset::new(segment * SEGMENT_BYTES);
    for segment in 0..4_u64 {
        index.begin_segment(base(segment), 0).unwrap();
        for n in 0..10 {
            let at = base(segment).advance(4096 + n * 64);
            let entry = |queue_offset| Entry {
                queue_offset,
                physical_offset: at,
                record_bytes: 64,
                tag_hash: 0,
                stored_at: 0,
            };
            index.push(busy, entry(segment * 10 + n), Extras::default()).unwrap();
            if segment == 0 {
                index.push(gone, entry(n), Extras::default()).unwrap();
            }
        }
    }
    assert_eq!(index.unsealed_count(), 3);
    assert!(!index.abandon_unsealed(base(0).advance(1)), "it reaches further");
    for trimmed in 1..=2 {
        assert!(index.abandon_unsealed(base(trimmed)));
        assert!(!index.abandon_unsealed(base(3)), "one at a time");
        while let Some(plan) = index.trim_plan(base(trimmed)) {
            index.trim(plan.read().unwrap());
        }
        assert_eq!((index.range(busy), index.range(gone)), (trimmed * 10..40, 10..10));
        assert_eq!(index.missing(), Vec::new());
    }
    // What follows gets its file as usual, and answers.
    let disk: Arc<dyn Files> = Arc::new(Disk::new(1));
    let file = index.unsealed().unwrap().write(&disk, LOG).unwrap();
    assert!(index.attach(file));
    let view = sealed(index.entries(busy, 20, 1));
    assert_eq!(view.entries(20, usize::MAX).unwrap().len(), 10);
    assert!(!index.abandon_unsealed(base(4)), "it has its file");
    while let Some(plan) = index.trim_plan(base(3)) {
        index.trim(plan.read().unwrap());
    }
    assert_eq!(index.range(busy), 30..40);
}

#[test]
fn what_was_asked_for_before_changes_no_answer() {
    let log = Log::new(3, 40);
    let all = log.index().sealed().timers(TimerKey::default(), u64::MAX, usize::MAX).unwrap();
    assert_eq!(all.len(), 3 * 21);
    let index = log.index();
    // Forwards, backwards and across.
    let across = (0..all.len()).map(|n| n * 37 % all.len());
    for place in (0..all.len()).chain((0..all.len()).rev()).chain(across) {
        for limit in [1, 5] {
            let found = index.sealed().timers(all[place].key, u64::MAX, limit).unwrap();
            let expected = &all[place + 1..all.len().min(place + 1 + limit)];
            assert_eq!(found, expected, "behind {place}");
        }
    }
}
