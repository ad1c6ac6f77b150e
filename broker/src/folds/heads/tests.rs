use skylark_storage::PhysicalOffset;

use super::*;
use crate::folds::topics::TopicDeleted;

const AT: PhysicalOffset = PhysicalOffset::new(640);

fn apply(heads: &mut Heads, change: Change<'_>) -> Result<(), FoldError> {
    heads.apply(&Event { at: AT, stored_at: 0, change })
}

fn message(queue_offset: u64) -> Change<'static> {
    Change::Message(MessagePlace { topic: "t", queue: 2, queue_offset })
}

fn set(next: u64) -> Change<'static> {
    Change::HeadSet(HeadSet { topic: "t".to_owned(), queue: 2, next })
}

#[test]
fn a_head_has_these_bytes() {
    let record = HeadSet { topic: "T".to_owned(), queue: 2, next: 300 };
    assert_eq!(record.encode(), [1, 1, b'T', 2, 0xac, 0x02]);
    assert_eq!(Change::decode(kinds::HEAD_SET, &record.encode()), Ok(Change::HeadSet(record)));
}

#[test]
fn offsets_are_dense_and_never_restart() {
    let mut heads = Heads::default();
    for queue_offset in 0..3 {
        apply(&mut heads, message(queue_offset)).unwrap();
    }
    apply(&mut heads, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() })).unwrap();
    assert_eq!((heads.next("t", 2), heads.next("t", 0), heads.next("u", 2)), (3, 0, 0));
    apply(&mut heads, set(10)).unwrap();
    apply(&mut heads, message(10)).unwrap();
    assert_eq!(heads.iter().collect::<Vec<_>>(), [("t", 2, 11)]);

    let (topic, queue) = ("t".to_owned(), 2);
    let gap = FoldError::QueueOffset { at: AT, topic: topic.clone(), queue, expected: 11, found: 12 };
    assert_eq!(apply(&mut heads, message(12)), Err(gap));
    assert_eq!(
        apply(&mut heads, set(10)),
        Err(FoldError::HeadSetBack { at: AT, topic, queue, next: 11, found: 10 })
    );
}
