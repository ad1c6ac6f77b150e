use skylark_storage::PhysicalOffset;

use super::*;

fn commits(group: &str, topic: &str, offsets: &[(u32, u64)]) -> TopicCommits {
    TopicCommits { group: group.to_owned(), topic: topic.to_owned(), offsets: offsets.to_vec() }
}

fn apply(offsets: &mut Offsets, change: Change<'_>) {
    offsets.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
}

#[test]
fn a_commit_has_these_bytes() {
    let record = OffsetsCommitted { commits: vec![commits("CG", "T", &[(0, 300), (3, 1)])] };
    #[rustfmt::skip]
    let bytes = [
        1,                  // version
        1,                  // one pair of group and topic
        2, b'C', b'G',
        1, b'T',
        2,                  // two queues
        0, 0xac, 0x02,      // queue 0: 300
        3, 1,               // queue 3: 1
    ];
    assert_eq!(record.encode(), bytes);
    assert_eq!(Change::decode(kinds::OFFSETS_COMMITTED, &bytes), Ok(Change::OffsetsCommitted(record)));
}

#[test]
fn the_latest_commit_counts_until_its_topic_or_group_goes() {
    let mut offsets = Offsets::default();
    let first =
        [commits("g", "t", &[(0, 5), (1, 6)]), commits("g", "u", &[(0, 7)]), commits("h", "t", &[(0, 8)])];
    apply(&mut offsets, Change::OffsetsCommitted(OffsetsCommitted { commits: first.to_vec() }));
    let lower = OffsetsCommitted { commits: vec![commits("g", "t", &[(0, 2)]), commits("i", "t", &[])] };
    apply(&mut offsets, Change::OffsetsCommitted(lower));
    assert_eq!(offsets.of_topic("g", "t").collect::<Vec<_>>(), [(0, 2), (1, 6)]);
    assert_eq!(offsets.groups_of("t").collect::<Vec<_>>(), ["g", "h"]);
    assert_eq!(offsets.topics_of("g").collect::<Vec<_>>(), ["t", "u"]);

    let mut after = offsets.clone();
    apply(&mut after, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
    assert_eq!(
        (after.get("g", "t", 0), after.get("g", "u", 0), after.get("h", "t", 0)),
        (None, Some(7), None)
    );
    assert_eq!(after.groups.len(), 1, "a group without offsets takes no memory");

    let gone = |with_offsets| Change::GroupDeleted(GroupDeleted { group: "g".to_owned(), with_offsets });
    apply(&mut offsets, gone(false));
    assert_eq!(offsets.get("g", "u", 0), Some(7));
    apply(&mut offsets, gone(true));
    assert_eq!((offsets.get("g", "u", 0), offsets.get("h", "t", 0)), (None, Some(8)));
}

#[test]
fn a_reset_has_these_bytes() {
    let record = OffsetsReset { group: "G".to_owned(), topic: "T".to_owned(), offsets: vec![(2, 300)] };
    let bytes = [1, 1, b'G', 1, b'T', 1, 2, 0xac, 0x02];
    assert_eq!(record.encode(), bytes);
    assert_eq!(Change::decode(kinds::OFFSETS_RESET, &bytes), Ok(Change::OffsetsReset(record)));
}

#[test]
fn a_reset_is_pending_until_the_next_commit_of_its_queue() {
    let mut offsets = Offsets::default();
    let reset = |topic: &str| {
        let offsets = vec![(0, 3), (1, 4)];
        Change::OffsetsReset(OffsetsReset { group: "g".to_owned(), topic: topic.to_owned(), offsets })
    };
    apply(&mut offsets, reset("t"));
    apply(&mut offsets, reset("u"));
    let committed = OffsetsCommitted { commits: vec![commits("g", "t", &[(0, 3)])] };
    apply(&mut offsets, Change::OffsetsCommitted(committed));
    assert_eq!(offsets.of_topic("g", "t").collect::<Vec<_>>(), [(0, 3), (1, 4)]);
    assert_eq!([0, 1].map(|queue| offsets.is_reset("g", "t", queue)), [false, true]);
    let restored = Offsets::restore(&offsets.snapshot()).unwrap();
    assert_eq!(restored, offsets, "a pending reset survives");
    apply(&mut offsets, Change::TopicDeleted(TopicDeleted { topic: "u".to_owned() }));
    assert!(!offsets.is_reset("g", "u", 0));
    let gone = GroupDeleted { group: "g".to_owned(), with_offsets: true };
    apply(&mut offsets, Change::GroupDeleted(gone));
    assert_eq!(offsets, Offsets::default());
}
