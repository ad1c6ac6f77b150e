use super::*;
use crate::folds::payload::Payload;

fn at(bytes: u64) -> PhysicalOffset {
    PhysicalOffset::new(bytes)
}

fn fold(overlay: &mut OffsetsOverlay, bytes: u64, change: Change<'_>) {
    overlay.apply(&Event { at: at(bytes), stored_at: 0, change }).unwrap();
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
    let mut overlay = OffsetsOverlay::default();
    assert_eq!(overlay.get("g", "t", 0), None);
    overlay.commit("g", "t", 0, 7);
    assert_eq!(overlay.get("g", "t", 0), Some(7));
    let taken = overlay.take_dirty().unwrap();
    assert_eq!(taken, record(&[("g", "t", &[(0, 7)])]));
    assert_eq!((overlay.take_dirty(), overlay.get("g", "t", 0)), (None, Some(7)));
    overlay.appended(at(500));
    overlay.settle(at(499));
    assert_eq!(overlay.get("g", "t", 0), Some(7));
    fold(&mut overlay, 400, Change::OffsetsCommitted(taken));
    overlay.settle(at(500));
    assert!(overlay.groups.is_empty() && overlay.appended_end.is_none());
    assert_eq!(overlay.get("g", "t", 0), Some(7));
    overlay.commit("g", "t", 0, 7);
    assert_eq!(overlay.take_dirty(), None, "what the fold has is no news");
    overlay.commit("g", "t", 0, 3);
    assert_eq!(overlay.get("g", "t", 0), Some(3), "a consumer may go back");
}

#[test]
fn a_commit_during_an_append_is_not_lost() {
    let mut overlay = OffsetsOverlay::default();
    overlay.commit("g", "t", 0, 7);
    overlay.commit("g", "t", 1, 70);
    let taken = overlay.take_dirty().unwrap();
    overlay.commit("g", "t", 0, 8);
    overlay.appended(at(500));
    fold(&mut overlay, 400, Change::OffsetsCommitted(taken));
    overlay.settle(at(1000));
    assert_eq!(overlay.get("g", "t", 0), Some(8));
    assert_eq!(overlay.take_dirty(), Some(record(&[("g", "t", &[(0, 8)])])));
    // The append was refused: the log is full, say.
    overlay.put_back();
    assert_eq!(overlay.take_dirty(), Some(record(&[("g", "t", &[(0, 8)])])));
}

#[test]
fn records_settle_in_their_order() {
    let mut overlay = OffsetsOverlay::default();
    for (queue, end) in [(0, 100), (1, 200), (2, 300)] {
        overlay.commit("g", "t", queue, 9);
        assert!(overlay.take_dirty().is_some());
        overlay.appended(at(end));
    }
    overlay.settle(at(250));
    let left: Vec<u32> = (0..3).filter(|&queue| overlay.get("g", "t", queue).is_some()).collect();
    assert_eq!(left, [2]);
    assert_eq!(overlay.appended_end, Some(at(300)));
}

#[test]
fn a_record_is_bounded() {
    let mut overlay = OffsetsOverlay::default();
    let (group, topic) = ("g".repeat(120), "t".repeat(250));
    for number in 0..=COMMITS_PER_RECORD as u64 {
        overlay.commit(&group, &format!("{topic}{number:05}"), u32::MAX, u64::MAX - number);
    }
    let full = overlay.take_dirty().unwrap();
    assert_eq!(full.commits.len(), COMMITS_PER_RECORD);
    assert!(full.encode().len() < 4 << 20, "{} bytes", full.encode().len());
    assert_eq!(overlay.take_dirty().map(|rest| rest.commits.len()), Some(1));
    assert_eq!(overlay.take_dirty(), None);
}

#[test]
fn what_was_deleted_is_forgotten() {
    let mut overlay = OffsetsOverlay::default();
    for (group, topic) in [("g", "t"), ("g", "u"), ("h", "t"), ("h", "u")] {
        overlay.commit(group, topic, 0, 1);
    }
    fold(&mut overlay, 0, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
    fold(&mut overlay, 64, Change::GroupDeleted(GroupDeleted { group: "g".to_owned(), with_offsets: false }));
    fold(&mut overlay, 128, Change::GroupDeleted(GroupDeleted { group: "h".to_owned(), with_offsets: true }));
    assert_eq!(overlay.take_dirty(), Some(record(&[("g", "u", &[(0, 1)])])));
}

#[test]
fn a_reset_is_not_hidden_by_what_came_before() {
    let mut overlay = OffsetsOverlay::default();
    overlay.commit("g", "t", 0, 50);
    let taken = overlay.take_dirty().unwrap();
    overlay.appended(at(200));
    overlay.commit("g", "t", 1, 60);
    overlay.forget("g", "t", 1);
    // The administrator's record follows that of the commits.
    fold(&mut overlay, 100, Change::OffsetsCommitted(taken));
    fold(&mut overlay, 200, Change::OffsetsCommitted(record(&[("g", "t", &[(0, 3), (1, 4)])])));
    assert_eq!((overlay.get("g", "t", 0), overlay.get("g", "t", 1)), (Some(3), Some(4)));
    assert_eq!(overlay.folded().of_topic("g", "t").collect::<Vec<_>>(), [(0, 3), (1, 4)]);
}
