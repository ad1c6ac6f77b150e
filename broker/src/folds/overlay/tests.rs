use super::*;
use crate::folds::{Change, Event, Fold};

fn at(bytes: u64) -> PhysicalOffset {
    PhysicalOffset::new(bytes)
}

fn fold(offsets: &mut Offsets, record: OffsetsCommitted) {
    let event = Event { at: at(0), stored_at: 0, change: Change::OffsetsCommitted(record) };
    offsets.apply(&event).unwrap();
}

/// What a group committed of a topic.
type Commits<'a> = (&'a str, &'a str, &'a [(u32, u64)]);

fn record(commits: &[Commits<'_>]) -> OffsetsCommitted {
    let commits = commits.iter().map(|&(group, topic, offsets)| TopicCommits {
        group: group.to_owned(),
        topic: topic.to_owned(),
        offsets: offsets.to_vec(),
    });
    OffsetsCommitted { commits: commits.collect() }
}

#[test]
fn a_commit_is_read_at_every_stage() {
    let (mut offsets, mut overlay) = (Offsets::default(), OffsetsOverlay::default());
    assert_eq!(overlay.get(&offsets, "g", "t", 0), None);
    overlay.commit(&offsets, "g", "t", 0, 7);
    assert_eq!(overlay.get(&offsets, "g", "t", 0), Some(7));
    let taken = overlay.take_dirty(100).unwrap();
    assert_eq!(taken, record(&[("g", "t", &[(0, 7)])]));
    assert_eq!((overlay.take_dirty(100), overlay.get(&offsets, "g", "t", 0)), (None, Some(7)));
    overlay.appended(at(500));
    overlay.settle(at(499));
    assert_eq!(overlay.get(&offsets, "g", "t", 0), Some(7));
    fold(&mut offsets, taken);
    overlay.settle(at(500));
    assert!(overlay.groups.is_empty() && overlay.appended_end.is_none());
    assert_eq!(overlay.get(&offsets, "g", "t", 0), Some(7));
    overlay.commit(&offsets, "g", "t", 0, 7);
    assert_eq!(overlay.take_dirty(100), None, "what the fold has is no news");
    overlay.commit(&offsets, "g", "t", 0, 3);
    assert_eq!(overlay.get(&offsets, "g", "t", 0), Some(3), "a consumer may go back");
}

#[test]
fn a_commit_during_an_append_is_not_lost() {
    let (mut offsets, mut overlay) = (Offsets::default(), OffsetsOverlay::default());
    overlay.commit(&offsets, "g", "t", 0, 7);
    overlay.commit(&offsets, "g", "t", 1, 70);
    let taken = overlay.take_dirty(100).unwrap();
    overlay.commit(&offsets, "g", "t", 0, 8);
    overlay.appended(at(500));
    fold(&mut offsets, taken);
    overlay.settle(at(1000));
    assert_eq!(overlay.get(&offsets, "g", "t", 0), Some(8));
    assert_eq!(overlay.take_dirty(100), Some(record(&[("g", "t", &[(0, 8)])])));
    // The append was refused: the log is full, say.
    overlay.put_back();
    assert_eq!(overlay.take_dirty(100), Some(record(&[("g", "t", &[(0, 8)])])));
}

#[test]
fn records_settle_in_their_order() {
    let (offsets, mut overlay) = (Offsets::default(), OffsetsOverlay::default());
    for (queue, end) in [(0, 100), (1, 200), (2, 300)] {
        overlay.commit(&offsets, "g", "t", queue, 9);
        assert!(overlay.take_dirty(100).is_some());
        overlay.appended(at(end));
    }
    overlay.settle(at(250));
    let left: Vec<u32> = (0..3).filter(|&queue| overlay.get(&offsets, "g", "t", queue).is_some()).collect();
    assert_eq!(left, [2]);
    assert_eq!(overlay.appended_end, Some(at(300)));
}

#[test]
fn a_record_is_bounded() {
    let (offsets, mut overlay) = (Offsets::default(), OffsetsOverlay::default());
    for topic in ["a", "b"] {
        for queue in 0..3 {
            overlay.commit(&offsets, "g", topic, queue, 5);
        }
    }
    let expected = record(&[("g", "a", &[(0, 5), (1, 5), (2, 5)]), ("g", "b", &[(0, 5)])]);
    assert_eq!(overlay.take_dirty(4), Some(expected));
    assert_eq!(overlay.take_dirty(4), Some(record(&[("g", "b", &[(1, 5), (2, 5)])])));
    assert_eq!(overlay.take_dirty(4), None);
}

#[test]
fn what_was_deleted_or_reset_is_forgotten() {
    let (offsets, mut overlay) = (Offsets::default(), OffsetsOverlay::default());
    for (group, topic) in [("g", "t"), ("g", "u"), ("h", "t"), ("h", "u")] {
        overlay.commit(&offsets, group, topic, 0, 1);
    }
    overlay.forget_topic("t");
    overlay.forget_group("h");
    assert_eq!(overlay.get(&offsets, "g", "u", 0), Some(1));
    overlay.forget("g", "u", 0);
    assert_eq!(overlay.take_dirty(100), None);
}
