use skylark_storage::PhysicalOffset;

use super::*;
use crate::folds::topics::TopicDeleted;

const LOG: LogId = LogId::from_bytes([7; 16]);

fn apply(window: &mut DuplicateWindow, at: u64, stored_at: u64, change: Change<'static>) {
    window.apply(&Event { at: PhysicalOffset::new(at), stored_at, change }).unwrap();
}

fn sent(window: &mut DuplicateWindow, number: u64, at: u64, stored_at: u64) {
    let wait_ms = u32::try_from(number / 2 * 100).unwrap();
    let place = SentPlace { fingerprint: Fingerprint::of(number), queue: 3, queue_offset: at / 100, wait_ms };
    apply(window, at, stored_at, Change::Sent(place));
}

fn limited(messages_max: u32, age_max_ms: u64) -> DuplicateWindow {
    let mut window = DuplicateWindow::default();
    apply(&mut window, 0, 0, Change::WindowLimits(WindowLimits { messages_max, age_max_ms }));
    window
}

/// What lies in it, by number.
fn held(window: &DuplicateWindow) -> Vec<u64> {
    window.iter().map(|message| message.fingerprint.short()).collect()
}

#[test]
fn the_newest_messages_are_held_as_many_as_there_is_room_for() {
    let mut window = limited(3, 1000);
    (0..5).for_each(|number| sent(&mut window, number, number * 100, 50));
    assert_eq!((held(&window), window.floor()), (vec![2, 3, 4], 101));
    let fingerprint = Fingerprint::of(2);
    let first = SentMessage { fingerprint, at: 200, stored_at: 50, queue: 3, queue_offset: 2, wait_ms: 100 };
    assert_eq!(window.iter().next(), Some(&first));
    apply(&mut window, 600, 50, Change::WindowLimits(WindowLimits { messages_max: 1, age_max_ms: 1000 }));
    assert_eq!((held(&window), window.floor()), (vec![4], 301));
}

#[test]
fn a_full_window_says_how_far_back_it_reaches() {
    let mut window = limited(2, 1000);
    sent(&mut window, 1, 100, 5_000);
    assert_eq!(window.reach_ms(), None, "there is room for another");
    sent(&mut window, 2, 200, 5_040);
    assert_eq!(window.reach_ms(), Some(40));
    sent(&mut window, 3, 300, 5_050);
    assert_eq!(window.reach_ms(), Some(10));
}

#[test]
fn a_message_of_a_clock_that_is_ahead_takes_no_other_along() {
    let mut window = limited(3, 1000);
    sent(&mut window, 1, 100, 5_000);
    sent(&mut window, 2, 200, 3_600_000);
    apply(&mut window, 250, 3_600_000, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
    sent(&mut window, 3, 300, 5_001);
    assert_eq!((held(&window), window.floor()), (vec![1, 2, 3], 0));
}

#[test]
fn a_window_without_room_holds_nothing() {
    let mut window = limited(0, 1000);
    sent(&mut window, 1, 100, 1);
    assert_eq!((window.is_empty(), window.floor()), (true, 101));
}

#[test]
fn a_topics_next_life_begins_without_what_was_sent_to_the_one_before() {
    let mut window = limited(2, 1000);
    sent(&mut window, 1, 100, 5);
    apply(&mut window, 200, 5, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
    assert!(window.is_gone("t", 100) && !window.is_gone("t", 201) && !window.is_gone("another", 100));
    assert!(DuplicateWindow::restore(&window.snapshot()).unwrap().is_gone("t", 100));
    sent(&mut window, 1, 300, 5);
    assert!(window.is_gone("t", 100));
    sent(&mut window, 2, 400, 5);
    assert!(window.deleted.is_empty(), "nothing from before is left");
}

#[test]
fn topics_that_are_deleted_without_end_take_bounded_memory() {
    let delete = |window: &mut DuplicateWindow, at, topic: String| {
        apply(window, at, 5, Change::TopicDeleted(TopicDeleted { topic }));
    };
    let mut window = limited(10, 1000);
    sent(&mut window, 1, 100, 5);
    for number in 0..DELETED_MAX as u64 {
        delete(&mut window, 200 + number, format!("t{number}"));
        delete(&mut window, 200 + number, format!("%LMQ%{number}"));
    }
    assert_eq!(
        (window.deleted.len(), held(&window)),
        (DELETED_MAX, vec![1]),
        "light queues are no such topics"
    );
    sent(&mut window, 2, 1_000_000, 5);
    delete(&mut window, 1_000_100, "t0".to_owned());
    assert!(window.is_gone("t0", 1_000_000) && window.is_gone("t1", 100));
    delete(&mut window, 1_000_200, "one too many".to_owned());
    assert_eq!((held(&window), window.floor()), (vec![2], 101), "what could be of the first of them goes");
    assert!(window.deleted.keys().eq(["one too many", "t0"]));
    assert!(window.is_gone("t0", 1_000_000));
    let mut again = DuplicateWindow::restore(&window.snapshot()).unwrap();
    (3..13).for_each(|number| sent(&mut again, number, 1_000_200 + number, 5));
    assert!(again.deleted.is_empty(), "nothing from before is left");
}

#[test]
fn what_was_withdrawn_does_not_count_and_takes_its_room() {
    let mut window = limited(3, 1000);
    (1..4).for_each(|number| sent(&mut window, number, number * 100, 5));
    apply(&mut window, 400, 5, Change::Withdrawn(vec![50, 200, 250]));
    let again = DuplicateWindow::restore(&window.snapshot()).unwrap();
    for window in [&window, &again] {
        let withdrawn = [100, 200, 250, 300].map(|at| window.is_withdrawn(at));
        assert_eq!((withdrawn, window.len()), ([false, true, false, false], 3));
        assert!(window.iter().map(SentMessage::is_withdrawn).eq([false, true, false]));
    }
    (4..6).for_each(|number| sent(&mut window, number, number * 100, 5));
    assert_eq!((held(&window), window.is_withdrawn(200)), (vec![3, 4, 5], false));
}

#[test]
fn each_part_makes_another_message() {
    let sent = Sent { topic: "topic", unique_key: "key", body_crc: 1, body_bytes: 2 };
    let others = [
        Sent { topic: "topi", unique_key: "ckey", ..sent },
        Sent { unique_key: "kez", ..sent },
        Sent { body_crc: 2, ..sent },
        Sent { body_bytes: 3, ..sent },
    ];
    let print = Fingerprint::new(LOG, &sent);
    assert!(others.iter().all(|other| Fingerprint::new(LOG, other) != print));
    assert_ne!(Fingerprint::new(LogId::from_bytes([8; 16]), &sent), print);
    // Snapshots hold it.
    assert_eq!(print, Fingerprint([0xB6B6_6855_87A0_203A, 0x84D9_8374_0DBF_B2EB]));
}

#[test]
fn a_snapshot_holds_the_same_window() {
    let mut window = limited(100, 1000);
    for number in 0..250 {
        sent(&mut window, number * number % 170, number * 1000, 10_000 + number);
    }
    let bytes = window.snapshot();
    let again = DuplicateWindow::restore(&bytes).unwrap();
    assert_eq!(again.snapshot(), bytes);
    assert!(again.iter().eq(window.iter()));
    assert!(DuplicateWindow::restore(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn a_snapshots_bytes_are_these() {
    let mut window = limited(2, 300);
    sent(&mut window, 1, 100, 5);
    sent(&mut window, 2, 500, 133);
    #[rustfmt::skip]
    let expected = [
        2, 0xAC, 2, // two messages, 300 ms
        0, // no topic was deleted
        43, // bytes
        1, 0, 0, 0, 0, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 100, 5, 6, 1,
        2, 0, 0, 0, 0, 0, 0, 0, 0xFD, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x90, 3, 0x80, 1, 7, 5, 100,
    ];
    assert_eq!(window.snapshot(), expected);
    assert_eq!(WindowLimits { messages_max: 2, age_max_ms: 300 }.encode(), [1, 2, 0xAC, 2]);
}
