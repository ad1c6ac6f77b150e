use super::*;

mod model;

/// Pushes the queue's next message, `at` bytes into the log, stored at `time`.
fn push(index: &mut Index, queue: QueueId, at: u64, time: u64) {
    let queue_offset = index.range(queue).end;
    index.push(queue, entry(queue_offset, at, time), Extras::default()).unwrap();
}

fn entry(queue_offset: u64, at: u64, stored_at: u64) -> Entry {
    let tag_hash = i32::try_from(queue_offset % 1000).unwrap() - 500;
    Entry { queue_offset, physical_offset: PhysicalOffset::new(at), record_bytes: 100, tag_hash, stored_at }
}

/// What memory answers.
fn known<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Known(value) => value,
        Answer::Sealed(_) => panic!("everything is in memory"),
    }
}

fn begin(index: &mut Index, base: u64, created_at: u64) {
    index.begin_segment(PhysicalOffset::new(base), created_at).unwrap();
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let mut index = Index::new();
    let queue = index.register("t", 0);
    assert_eq!(index.push(queue, entry(0, 0, 0), Extras::default()), Err(PushError::NoSegment));
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
        assert_eq!(index.push(queue, refused, Extras::default()), Err(error));
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
    assert_eq!(
        (known(index.first_at_or_after(queue, 0)), known(index.last_at_or_before(queue, 9))),
        (0, None)
    );
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
        assert_eq!(known(index.first_at_or_after(queue, time)), first, "first at or after {time}");
        assert_eq!(known(index.last_at_or_before(queue, time)), last, "last at or before {time}");
    }
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
    // The topic is deleted and created again.
    index.set_head(queue, 1_000_000_000_600).unwrap();
    assert_eq!(index.range(queue), 1_000_000_000_600..1_000_000_000_600);
    assert_eq!(
        (known(index.entry(queue, 1_000_000_000_599)), known(index.first_at_or_after(queue, 0))),
        (None, 1_000_000_000_600)
    );
    for n in 600..1200 {
        push(&mut index, queue, n * 32, n);
    }
    assert_eq!(known(index.entry(queue, 1_000_000_001_100)), Some(entry(1_000_000_001_100, 1100 * 32, 1100)));
    assert_eq!(known(index.first_at_or_after(queue, 3)), 1_000_000_000_600);
    assert_eq!(known(index.last_at_or_before(queue, 599)), None);
}

#[test]
fn a_long_sparse_queue_is_found_in_few_steps() {
    let mut index = Index::new();
    let queue = index.register("sparse", 0);
    let segments = 5000;
    for segment in 0..segments {
        begin(&mut index, segment * 100, segment * 10);
        push(&mut index, queue, segment * 100, segment * 10);
    }
    for n in (0..segments).step_by(7) {
        // The way `locate` goes, counted.
        let (mut at, mut steps) = (index.queues[queue].spine.newest(), 0);
        while let Some(run) = index.run(at).filter(|run| run.first > n) {
            let far = index.run(run.links.jump).is_some_and(|jump| jump.first > n);
            at = if far { run.links.jump } else { run.links.previous };
            steps += 1;
        }
        assert!(steps <= 3 * 13, "{steps} steps to offset {n}");
        assert_eq!(known(index.entry(queue, n)), Some(entry(n, n * 100, n * 10)));
        assert_eq!(known(index.first_at_or_after(queue, (n * 10).saturating_sub(3))), n);
        assert_eq!(known(index.last_at_or_before(queue, n * 10 + 3)), Some(n));
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
    assert_eq!(known(index.entries(queues[3], 0, usize::MAX)).count(), messages / 8);
}

#[test]
fn a_hundred_thousand_queues_are_cheap() {
    let mut index = Index::new();
    let queues: Vec<QueueId> =
        (0..100_000).map(|n| index.register(&format!("topic-{}", n / 8), n % 8)).collect();
    let idle = index.memory_bytes();
    assert!(idle < 100_000 * 100, "{} bytes a queue", idle / 100_000);
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
        let found: Vec<u64> =
            known(index.entries(queue, 0, 9)).map(|entry| entry.physical_offset.get()).collect();
        let inside = place as u64 * 512;
        assert_eq!(found, [(1 << 28) + inside, (2 << 28) + inside, (3 << 28) + inside]);
    }
}
