use skylark_storage::PhysicalOffset;

use super::*;
use crate::folds::payload::PayloadError;

fn apply(topics: &mut Topics, stored_at: u64, change: Change<'_>) {
    topics.apply(&Event { at: PhysicalOffset::ZERO, stored_at, change }).unwrap();
}

fn put(topic: &str, queues: u32) -> Change<'static> {
    Change::TopicPut(TopicPut { topic: topic.to_owned(), config: TopicConfig::with_queues(queues) })
}

#[test]
fn a_topic_put_has_these_bytes() {
    let config = TopicConfig {
        read_queues: 4,
        write_queues: 300,
        perm: Perm::READ_WRITE,
        filter: FilterType::MultiTag,
        sys_flag: -1,
        order: true,
        attributes: BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())]),
    };
    let record = TopicPut { topic: "Orders".to_owned(), config };
    #[rustfmt::skip]
    let bytes = [
        1,                                            // version
        6, b'O', b'r', b'd', b'e', b'r', b's',        // topic
        4,                                            // read_queues
        0xac, 0x02,                                   // write_queues: 300
        6,                                            // perm
        1,                                            // filter: multiple tags
        1,                                            // sys_flag: −1
        1,                                            // order
        1,                                            // attributes: one
        12, b'm', b'e', b's', b's', b'a', b'g', b'e', b'.', b't', b'y', b'p', b'e',
        4, b'F', b'I', b'F', b'O',
    ];
    assert_eq!(record.encode(), bytes);
    assert_eq!(Change::decode(kinds::TOPIC_PUT, &bytes), Ok(Change::TopicPut(record)));
}

#[test]
fn a_topic_deletion_has_these_bytes() {
    let record = TopicDeleted { topic: "T".to_owned() };
    assert_eq!(record.encode(), [1, 1, b'T']);
    assert_eq!(Change::decode(kinds::TOPIC_DELETED, &[1, 1, b'T']), Ok(Change::TopicDeleted(record)));
}

#[test]
fn what_is_not_understood_is_named() {
    let decode = |kind, payload: &[u8]| Change::decode(kind, payload).unwrap_err();
    let error = decode(kinds::TOPIC_DELETED, &[2, 1, b'T']);
    assert_eq!(error, PayloadError::UnknownVersion { kind: 18, version: 2, known: 1 });
    assert_eq!(error.to_string(), "records of kind 18 are known in version 1, not in version 2");
    assert_eq!(decode(Kind::new(200), &[1]), PayloadError::UnknownKind { kind: 200 });
    assert_eq!(decode(kinds::MESSAGE, &[1]), PayloadError::UnknownKind { kind: 16 });
    assert_eq!(decode(kinds::TOPIC_DELETED, &[]), PayloadError::Empty { kind: 18 });
    let error = decode(kinds::TOPIC_DELETED, &[1, 1, b'T', 0]);
    assert_eq!(error, PayloadError::TooLong { kind: 18, version: 1, left_bytes: 1 });
    for malformed in [&[1][..], &[1, 2, b'T'], &[1, 1, 0xff], &[1, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let error = decode(kinds::TOPIC_DELETED, malformed);
        assert!(
            matches!(error, PayloadError::Malformed { kind: 18, version: 1, .. }),
            "{malformed:?}: {error}"
        );
    }
}

#[test]
fn the_version_counts_changes() {
    let mut topics = Topics::default();
    assert_eq!(topics.version(), DataVersion::default());
    let version = |counter, timestamp| DataVersion { state_version: 0, counter, timestamp };
    for (stored_at, change, expected) in [
        (10, put("a", 4), version(1, 10)),
        (20, put("b", 4), version(2, 20)),
        (30, put("b", 4), version(2, 20)), // The same again.
        (40, put("b", 8), version(3, 40)),
        (50, Change::TopicDeleted(TopicDeleted { topic: "c".to_owned() }), version(3, 40)),
        (60, Change::TopicDeleted(TopicDeleted { topic: "b".to_owned() }), version(4, 60)),
    ] {
        apply(&mut topics, stored_at, change);
        assert_eq!(topics.version(), expected);
    }
    assert_eq!(
        topics.iter().map(|(topic, config)| (topic, config.read_queues)).collect::<Vec<_>>(),
        [("a", 4)]
    );
    assert_eq!(topics.get("b"), None);
}

#[test]
fn permissions_are_bits() {
    let open = Perm::READ_WRITE.with(Perm::INHERIT);
    assert_eq!((open, open.without(Perm::INHERIT)), (Perm(7), Perm::READ_WRITE));
    assert!(open.allows(Perm::READ) && !Perm::READ.allows(Perm::READ_WRITE));
}

#[test]
fn a_topic_keeps_its_queues_until_it_is_deleted() {
    let mut topics = Topics::default();
    let put = |queues| {
        Change::TopicPut(TopicPut { topic: "t".to_owned(), config: TopicConfig::with_queues(queues) })
    };
    let mut apply = |change| {
        topics.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
        topics = Topics::restore(&topics.snapshot()).unwrap();
        topics.queues("t")
    };
    assert_eq!([apply(put(8)), apply(put(4)), apply(put(6))], [8; 3]);
    assert_eq!(apply(Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() })), 0);
    assert_eq!(apply(put(3)), 3);
}
