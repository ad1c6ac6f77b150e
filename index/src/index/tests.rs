use super::*;

mod model;

/// Pushes the queue's next message, `at` bytes into the log, stored at `time`.
fn push(index: &mut Index, queue: QueueId, at: u64, time: u64) {
    let queue_offset = index.range(queue).end;
    index.push(queue, entry(queue_offset, at, time)).unwrap();
}

fn entry(queue_offset: u64, at: u64, stored_at: u64) -> Entry {
    let tag_hash = i32::try_from(queue_offset % 1000).unwrap() - 500;
    Entry { queue_offset, physical_offset: PhysicalOffset::new(at), record_bytes: 100, tag_hash, stored_at }
}

fn begin(index: &mut Index, base: u64, created_at: u64) {
    index.begin_segment(PhysicalOffset::new(base), created_at).unwrap();
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let mut index = Index::new();
    let queue = index.register("t", 0);
    assert_eq!(index.push(queue, entry(0, 0, 0)), Err(PushError::NoSegment));
    begin(&mut index, 1000, 50);
    push(&mut index, queue, 1100, 60);

    let base = PhysicalOffset::new(1000);
    let last = PhysicalOffset::new(1100);
    let elsewhere = |found| PushError::PhysicalOffset { base, last, found: PhysicalOffset::new(found) };
    let untimely = |found| PushError::StoredAt { created_at: 50, last: 60, found };
    let far = 1000 + (1 << 32);
    for (refused, error) in [
        (entry(0, 1200, 61), PushError::QueueOffset { expected: 1, found: 0 }),
        (entry(2, 1200, 61), PushError::QueueOffset { expected: 1, found: 2 }),
        (entry(1, 1099, 61), elsewhere(1099)),
        (entry(1, 900, 61), elsewhere(900)),
        (entry(1, far, 61), elsewhere(far)),
        (entry(1, 1200, 59), untimely(59)),
        (entry(1, 1200, 50 + (1 << 32)), untimely(50 + (1 << 32))),
    ] {
        assert_eq!(index.push(queue, refused), Err(error));
        assert_eq!((index.range(queue), index.entry_count()), (0..1, 1));
    }
    assert_eq!(index.begin_segment(last, 60), Err(SegmentError { last, found: last }));
    assert_eq!(index.set_head(queue, 0), Err(HeadError { next: 1, found: 0 }));
    // A record that several queues name is pushed once for each.
    push(&mut index, queue, 1100, 60);
    assert_eq!(index.range(queue), 0..2);
}

#[test]
fn times_are_found_as_clients_ask_for_them() {
    let mut index = Index::new();
    let queue = index.register("t", 0);
    assert_eq!((index.first_at_or_after(queue, 0), index.last_at_or_before(queue, 9)), (0, None));
    begin(&mut index, 0, 10);
    for (at, time) in [(0, 10), (1, 10), (2, 10), (3, 30), (4, 30)] {
        push(&mut index, queue, at, time);
    }
    for (time, first, last) in [
        (9, 0, None), // All are later.
        (10, 0, Some(2)),
        (20, 3, Some(2)), // Nothing was stored then: the bounds cross, which suits queries for a range.
        (30, 3, Some(4)),
        (31, 5, Some(4)), // All are earlier.
        (u64::MAX, 5, Some(4)),
    ] {
        assert_eq!(index.first_at_or_after(queue, time), first, "first at or after {time}");
        assert_eq!(index.last_at_or_before(queue, time), last, "last at or before {time}");
    }
}

#[test]
fn trimmed_messages_lie_below_the_minimum() {
    let mut index = Index::new();
    let (busy, quiet) = (index.register("busy", 0), index.register("quiet", 3));
    for segment in 0..10 {
        begin(&mut index, segment * 1000, segment);
        push(&mut index, busy, segment * 1000 + 32, segment);
        if segment == 2 {
            push(&mut index, quiet, segment * 1000 + 64, segment);
        }
    }
    index.trim(PhysicalOffset::new(2000));
    assert_eq!((index.range(busy), index.range(quiet)), (2..10, 0..1));
    index.trim(PhysicalOffset::new(3000));
    assert_eq!(
        (index.range(busy), index.range(quiet)),
        (3..10, 1..1),
        "an emptied queue keeps its next offset"
    );
    assert_eq!((index.entry(busy, 2), index.entry(quiet, 0)), (None, None));
    push(&mut index, quiet, 9500, 9);
    assert_eq!(index.entry(quiet, 1), Some(entry(1, 9500, 9)));
    // The newest segment stays, whatever is asked.
    index.trim(PhysicalOffset::new(u64::MAX));
    assert_eq!((index.range(busy), index.range(quiet)), (9..10, 1..2));
}

#[test]
fn a_head_hides_what_came_before() {
    let mut index = Index::new();
    let queue = index.register("t", 0);
    index.set_head(queue, 1_000_000_000_000).unwrap();
    begin(&mut index, 0, 0);
    for n in 0..600 {
        push(&mut index, queue, n * 32, n);
    }
    let mut cursor = index.entries(queue, 1_000_000_000_599, 9).cursor();
    assert!(index.advance(&mut cursor).is_some());
    // The topic is deleted and created again.
    index.set_head(queue, 1_000_000_000_600).unwrap();
    assert_eq!(index.range(queue), 1_000_000_000_600..1_000_000_000_600);
    assert_eq!(
        (index.entry(queue, 1_000_000_000_599), index.first_at_or_after(queue, 0)),
        (None, 1_000_000_000_600)
    );
    assert_eq!(index.advance(&mut cursor), None);
    for n in 600..1200 {
        push(&mut index, queue, n * 32, n);
    }
    assert_eq!(index.advance(&mut cursor), Some(entry(1_000_000_000_600, 600 * 32, 600)));
    assert_eq!(index.entry(queue, 1_000_000_001_100), Some(entry(1_000_000_001_100, 1100 * 32, 1100)));
    assert_eq!(index.first_at_or_after(queue, 3), 1_000_000_000_600);
    assert_eq!(index.last_at_or_before(queue, 599), None);
}

#[test]
fn a_long_sparse_queue_is_found_in_few_steps() {
    let mut index = Index::new();
    let queue = index.register("sparse", 0);
    let segments = 5000;
    for segment in 0..segments {
        begin(&mut index, segment * 100, segment * 10);
        push(&mut index, queue, segment * 100, segment * 10);
        if segment == 4500 {
            index.trim(PhysicalOffset::new(3000 * 100));
        }
    }
    for n in (3000..segments).step_by(7) {
        // The way `locate` goes, counted.
        let (mut at, mut steps) = (index.queues[queue].newest, 0);
        while let Some(run) = index.run(at).filter(|run| run.first > n) {
            let far = index.run(run.jump).is_some_and(|jump| jump.first > n);
            at = if far { run.jump } else { run.previous };
            steps += 1;
        }
        assert!(steps <= 3 * 13, "{steps} steps to offset {n}");
        assert_eq!(index.entry(queue, n), Some(entry(n, n * 100, n * 10)));
        assert_eq!(index.first_at_or_after(queue, n * 10 - 3), n);
        assert_eq!(index.last_at_or_before(queue, n * 10 + 3), Some(n));
    }
}

#[test]
fn a_message_costs_less_than_24_bytes() {
    let mut index = Index::new();
    let queues: Vec<QueueId> = (0..8).map(|number| index.register("t", number)).collect();
    begin(&mut index, 0, 0);
    let messages = 250_000;
    for n in 0..messages {
        push(&mut index, queues[n % 8], n as u64 * 1024, n as u64 / 400);
    }
    let bytes = index.memory_bytes() as f64 / messages as f64;
    assert!(bytes < 21.0, "{bytes} bytes a message");
    assert_eq!(index.entries(queues[3], 0, usize::MAX).count(), messages / 8);
}

#[test]
fn a_hundred_thousand_queues_are_cheap() {
    let mut index = Index::new();
    let queues: Vec<QueueId> =
        (0..100_000).map(|n| index.register(&format!("topic-{}", n / 8), n % 8)).collect();
    let idle = index.memory_bytes();
    assert!(idle < 100_000 * 72, "{} bytes a queue", idle / 100_000);
    let mut at = 0;
    for segment in 1..=3 {
        begin(&mut index, segment << 28, segment);
        at = at.max(segment << 28);
        for &queue in &queues {
            push(&mut index, queue, at, segment);
            at += 512;
        }
    }
    let bytes = (index.memory_bytes() - idle) / 300_000;
    assert!(bytes <= 64, "{bytes} bytes for a message that is alone in its queue and segment");
    for (place, &queue) in queues.iter().enumerate().step_by(997) {
        let number = u32::try_from(place % 8).unwrap();
        assert_eq!(index.lookup(&format!("topic-{}", place / 8), number), Some(queue));
        let found: Vec<u64> = index.entries(queue, 0, 9).map(|entry| entry.physical_offset.get()).collect();
        let inside = place as u64 * 512;
        assert_eq!(found, [(1 << 28) + inside, (2 << 28) + inside, (3 << 28) + inside]);
    }
    index.trim(PhysicalOffset::new(3 << 28));
    assert!(queues.iter().all(|&queue| index.range(queue) == (2..3)));
}
