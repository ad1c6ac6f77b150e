use proptest::prelude::*;
use skylark_storage::device::simulated::Disk;

use super::*;
use crate::{Entry, Extras};

const LOG: LogId = LogId::from_bytes([7; 16]);

fn files() -> Arc<dyn Files> {
    Arc::new(Disk::new(0))
}

fn span(number: u64) -> SegmentSpan {
    let base = PhysicalOffset::new((number - 1) * 65536);
    SegmentSpan { base, end: base.advance(65536), created_at: number }
}

/// Five segments: queue 0 of `orders` has a message in each, queue 7 went on at 100 and has none.
fn snapshot() -> Vec<u8> {
    let mut index = Index::new();
    let orders = index.register("orders", 0);
    let retries = index.register("retries", 7);
    index.set_head(retries, 100).unwrap();
    for number in 1..=5 {
        let span = span(number);
        index.begin_segment(span.base, span.created_at).unwrap();
        let entry = Entry {
            queue_offset: number - 1,
            physical_offset: span.base.advance(4112),
            record_bytes: 64,
            tag_hash: 0,
            stored_at: 1000 + number,
        };
        index.push(orders, entry, Extras::default()).unwrap();
    }
    index.begin_segment(span(6).base, 6).unwrap();
    index.snapshot()
}

#[test]
fn bytes_are_fixed() {
    let expected: &[u8] = &[
        1, // version
        0x80, 0x80, 0x14, 6, // position, number
        0xed, 7, // stored at 1005
        0, 1, // origin
        2, 6, b'o', b'r', b'd', b'e', b'r', b's', 7, b'r', b'e', b't', b'r', b'i', b'e', b's', //
        2,    // queues
        0, 0, 0, 5, // orders, queue 0, from 0 to 5
        5, 3, 3, 0, 4, 0, 5, 0, // five runs, known: in segments 3, 4 and 5
        0, 0, // nothing trimmed
        1, 7, 100, 100, 0, 0, 0, 0, // retries, queue 7
    ];
    assert_eq!(snapshot(), expected);
}

#[test]
fn the_queues_are_restored() {
    let spans: Vec<SegmentSpan> = (1..=7).map(span).collect();
    let index = Index::restore(&snapshot(), &files(), LOG, &spans).unwrap();
    let names: Vec<_> = index.queues().map(|queue| (index.name(queue), index.range(queue))).collect();
    assert_eq!(names, [(("orders", 0), 0..5), (("retries", 7), 100..100)]);
    assert_eq!(index.missing(), spans[..5].iter().map(|span| span.base).collect::<Vec<_>>());
    assert_eq!(index.snapshot(), snapshot());
    assert_eq!(needed_from(&snapshot()).unwrap(), PhysicalOffset::ZERO);
}

#[test]
fn another_logs_segments_are_refused() {
    let all: Vec<SegmentSpan> = (1..=5).map(span).collect();
    let restore = |spans: &[SegmentSpan]| Index::restore(&snapshot(), &files(), LOG, spans).map(|_| ());
    assert!(restore(&all[2..]).is_ok(), "trimmed since");
    assert!(restore(&[]).is_ok(), "all of it trimmed since");
    let longer = SegmentSpan { end: PhysicalOffset::new(5 * 65536 + 8), ..all[4] };
    let half = SegmentSpan { base: PhysicalOffset::new(32768), end: span(2).base, created_at: 0 };
    let first = SegmentSpan { end: half.base, ..all[0] };
    for (spans, why) in [
        (all[..4].to_vec(), "the newest is missing"),
        ([&all[..2], &all[3..]].concat(), "there is a gap"),
        ([&all[..4], &[longer]].concat(), "the newest ends elsewhere"),
        ([&[first, half], &all[1..]].concat(), "there are too many"),
        (vec![SegmentSpan { end: span(6).base, ..all[0] }], "there are too few"),
    ] {
        assert!(matches!(restore(&spans), Err(RestoreError::Segments { .. })), "{why}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sound = snapshot();
    let decoded = || Snapshot::decode(&sound).unwrap();
    let runs = |depth, segments: &[u32]| Runs {
        depth,
        runs: segments.iter().map(|&segment| RunRef { segment, slot: 0 }).collect(),
    };
    let queue = |newest, origin| Queue { topic: 0, number: 0, min: 0, next: 5, newest, origin };
    let none = || runs(0, &[]);
    let with = |queues| Snapshot { queues, ..decoded() };
    assert!(decoded().queues().is_some());
    for (broken, why) in [
        (Snapshot { number: 0, ..decoded() }, "there is no segment before the first"),
        (Snapshot { origin_number: 7, origin: 7, ..decoded() }, "the oldest lies behind the newest"),
        (Snapshot { origin: decoded().position, ..decoded() }, "the oldest begins where the newest does"),
        (Snapshot { origin: u64::MAX, ..decoded() }, "the oldest begins behind the newest"),
        (Snapshot { topics: vec!["orders", "orders"], ..decoded() }, "one topic twice"),
        (Snapshot { topics: vec!["orders"], ..decoded() }, "a queue without a topic"),
        (with(vec![queue(none(), none()), queue(none(), none())]), "one queue twice"),
        (with(vec![Queue { min: 6, ..queue(none(), none()) }]), "the minimum lies behind the end"),
        (
            with(vec![Queue { next: u64::MAX, ..queue(none(), none()) }]),
            "no offset is left for the next message",
        ),
        (with(vec![queue(runs(5, &[3, 4]), none())]), "too few runs"),
        (with(vec![queue(runs(5, &[3, 4, 6]), none())]), "a run that is not sealed"),
        (with(vec![queue(runs(5, &[4, 3, 5]), none())]), "runs out of order"),
        (with(vec![queue(runs(5, &[3, 4, 0]), none())]), "the newest was trimmed, and an older one was not"),
        (with(vec![queue(runs(u32::MAX, &[1]), none())]), "too deep"),
        (with(vec![queue(none(), runs(1, &[1]))]), "trimmed, but not before the oldest"),
    ] {
        assert!(broken.queues().is_none(), "{why}");
    }
    assert!(matches!(Snapshot::decode(&[]), Err(RestoreError::Version { found: 0 })));
    assert!(matches!(Snapshot::decode(&[2]), Err(RestoreError::Version { found: 2 })));
    let longer = [sound.as_slice(), &[0]].concat();
    assert!(matches!(Snapshot::decode(&longer), Err(RestoreError::Contradiction)));
    for end in 1..sound.len() {
        assert!(matches!(Snapshot::decode(&sound[..end]), Err(RestoreError::Malformed { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No panic, and no allocation that the bytes do not pay for.
    #[test]
    fn arbitrary_bytes_are_refused_or_make_sense(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let spans: Vec<SegmentSpan> = (1..=7).map(span).collect();
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let mut near = snapshot();
        for (place, byte) in changes {
            let at = place.index(near.len());
            near[at] = byte;
        }
        for bytes in [bytes, near] {
            if let Ok(index) = Index::restore(&bytes, &files(), LOG, &spans) {
                prop_assert!(index.queues().all(|queue| index.range(queue).start <= index.range(queue).end));
            }
        }
    }
}
