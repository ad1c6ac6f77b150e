use skylark_storage::PhysicalOffset;

use super::*;

#[test]
fn a_group_put_has_these_bytes() {
    let default = GroupPut { group: "CG".to_owned(), config: GroupConfig::default() };
    #[rustfmt::skip]
    let bytes = [
        1,                  // version
        2, b'C', b'G',      // group
        1, 1, 1, 0,         // consume, consume_from_min, broadcast, orderly
        1,                  // retry_queues
        32,                 // retry_times_max: 16
        1, 0, 0,            // retry_policy: customized, no tables
        0, 1,               // broker_id, broker_id_when_slow
        1,                  // notify_members
        0,                  // sys_flag
        30,                 // consume_timeout_minutes: 15
        0,                  // subscriptions: none
        0,                  // attributes
    ];
    assert_eq!(default.encode(), bytes);
    assert_eq!(Change::decode(kinds::GROUP_PUT, &bytes), Ok(Change::GroupPut(default)));

    let (topic, expression_type, expression) = ("T".to_owned(), "TAG".to_owned(), "*".to_owned());
    let config = GroupConfig {
        orderly: true,
        retry_times_max: -1,
        retry_policy: RetryPolicy {
            kind: RetryPolicyKind::Exponential,
            exponential: Some(ExponentialRetry { initial: 5000, max: 7_200_000, multiplier: 2 }),
            customized: Some(vec![1000]),
        },
        subscriptions: Some(vec![Subscription { topic, expression_type, expression, version: -2 }]),
        attributes: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        ..GroupConfig::default()
    };
    let full = GroupPut { group: "G".to_owned(), config };
    #[rustfmt::skip]
    let bytes = [
        1,                                  // version
        1, b'G',                            // group
        1, 1, 1, 1,                         // consume, consume_from_min, broadcast, orderly
        1,                                  // retry_queues
        1,                                  // retry_times_max: −1
        0,                                  // retry_policy: exponential
        1, 0x90, 0x4e,                      // initial: 5,000
        0x80, 0xf4, 0xee, 0x06,             // max: 7,200,000
        4,                                  // multiplier: 2
        1, 1, 0xd0, 0x0f,                   // customized: 1,000
        0, 1,                               // broker_id, broker_id_when_slow
        1,                                  // notify_members
        0,                                  // sys_flag
        30,                                 // consume_timeout_minutes: 15
        1, 1,                               // subscriptions: one
        1, b'T', 3, b'T', b'A', b'G', 1, b'*', 3,
        1, 1, b'k', 1, b'v',                // attributes
    ];
    assert_eq!(full.encode(), bytes);
    assert_eq!(Change::decode(kinds::GROUP_PUT, &bytes), Ok(Change::GroupPut(full)));
}

#[test]
fn a_group_deletion_has_these_bytes() {
    let record = GroupDeleted { group: "CG".to_owned(), with_offsets: true };
    assert_eq!(record.encode(), [1, 2, b'C', b'G', 1]);
    assert_eq!(Change::decode(kinds::GROUP_DELETED, &record.encode()), Ok(Change::GroupDeleted(record)));
}

#[test]
fn the_version_counts_changes() {
    let mut groups = Groups::default();
    let put = || Change::GroupPut(GroupPut { group: "g".to_owned(), config: GroupConfig::default() });
    let deleted = || Change::GroupDeleted(GroupDeleted { group: "g".to_owned(), with_offsets: false });
    for (stored_at, change, counter) in
        [(10, put(), 1), (20, put(), 1), (30, deleted(), 2), (40, deleted(), 2)]
    {
        groups.apply(&Event { at: PhysicalOffset::ZERO, stored_at, change }).unwrap();
        assert_eq!((groups.version().counter, groups.get("g").is_some()), (counter, counter == 1));
    }
    assert_eq!(groups.version().timestamp, 30);
    assert_eq!(groups.iter().len(), 0);
}
