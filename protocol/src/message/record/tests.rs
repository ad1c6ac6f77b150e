use proptest::prelude::*;

use super::*;

fn example() -> NewMessage<'static> {
    NewMessage {
        topic: "TopicTest",
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: "127.0.0.1:50000".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"hello",
        properties: b"a\x011\x02TAGS\x01TagA",
        added_properties: b"",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn a_message_has_rocketmq_s_bytes() {
    let message = NewMessage { properties: b"a\x011\x02TAGS\x01TagA\x02", ..example() };
    let parts = message.parts(BODY_BYTES_MAX).unwrap();
    let bytes = parts.to_vec(7, 4096, 1_700_000_000_005);
    let expected = concat!(
        "00000077DAA320A73610A6860000000300000000",
        "0000000000000007",
        "0000000000001000",
        "00000000",
        "0000018BCFE56800",
        "7F0000010000C350",
        "0000018BCFE56805",
        "7F00000100002A9F",
        "000000000000000000000000",
        "0000000568656C6C6F",
        "09546F70696354657374",
        "000E6101310254414753015461674102",
    );
    assert_eq!(hex(&bytes), expected);
    assert_eq!((parts.head().len(), parts.len()), (64, 119));

    let (read, consumed) = StoredMessage::parse(&bytes).unwrap();
    assert_eq!(consumed, 119);
    assert_eq!(
        (read.topic, read.queue_id, read.queue_offset, read.physical_offset),
        ("TopicTest", 3, 7, 4096)
    );
    assert_eq!((read.body, read.tags(), read.tag_hash()), (&b"hello"[..], Some("TagA"), 2_598_919));
    assert!(read.body_is_intact());
    assert_eq!(read.offset_message_id().to_string(), "7F00000100002A9F0000000000001000");
}

#[test]
fn an_ipv6_born_host_lengthens_the_head() {
    let message = NewMessage { born_host: "[2001:db8::1]:50000".parse().unwrap(), ..example() };
    let parts = message.parts(BODY_BYTES_MAX).unwrap();
    assert_eq!(parts.head().len(), 76);
    let bytes = parts.to_vec(1, 2, 3);
    assert_eq!(hex(&bytes[36..40]), "00000010");
    assert_eq!(hex(&bytes[48..68]), "20010DB80000000000000000000000010000C350");
    let (read, _) = StoredMessage::parse(&bytes).unwrap();
    assert_eq!((read.born_host, read.store_timestamp), (message.born_host, 3));

    let mapped =
        NewMessage { born_host: "[::ffff:127.0.0.1]:50000".parse().unwrap(), sys_flag: 0x30, ..example() };
    let bytes = mapped.parts(BODY_BYTES_MAX).unwrap().to_vec(1, 2, 3);
    assert_eq!(StoredMessage::parse(&bytes).unwrap().0.born_host, example().born_host);
    assert_eq!(StoredMessage::parse(&bytes).unwrap().0.sys_flag, 0);
}

#[test]
fn added_properties_follow_an_unfinished_one() {
    let message = NewMessage { added_properties: b"CLUSTER\x01c\x02", ..example() };
    let bytes = message.parts(BODY_BYTES_MAX).unwrap().to_vec(0, 0, 0);
    let read = StoredMessage::parse(&bytes).unwrap().0;
    assert_eq!(read.tags(), Some("TagA"));
    assert_eq!(read.properties().get("CLUSTER"), Some("c"));
}

#[test]
fn a_two_byte_topic_length_is_read() {
    let bytes = example().parts(BODY_BYTES_MAX).unwrap().to_vec(0, 0, 0);
    let mut v2 = bytes.clone();
    v2[3] += 1;
    v2[4..8].copy_from_slice(&MAGIC_V2.to_be_bytes());
    v2.insert(93, 0);
    assert_eq!(StoredMessage::parse(&v2).unwrap().0, StoredMessage::parse(&bytes).unwrap().0);
}

#[test]
fn limits_are_kept_to_the_byte() {
    let check = |message: NewMessage<'_>, expected| {
        assert_eq!(message.parts(10).err(), expected);
    };
    check(NewMessage { body: b"", ..example() }, Some(MessageRefused::EmptyBody));
    check(NewMessage { body: &[0; 10], ..example() }, None);
    let too_large = MessageRefused::BodyTooLarge { body_bytes: 11, body_bytes_max: 10 };
    check(NewMessage { body: &[0; 11], ..example() }, Some(too_large));
    let topic = "t".repeat(TOPIC_BYTES_MAX + 1);
    check(NewMessage { topic: &topic[1..], ..example() }, None);
    check(NewMessage { topic: &topic, ..example() }, Some(MessageRefused::TopicTooLong { topic_bytes: 128 }));
    let properties = vec![b'p'; PROPERTIES_BYTES_MAX + 1];
    check(NewMessage { properties: &properties[1..], ..example() }, None);
    let too_long = |properties_bytes| Some(MessageRefused::PropertiesTooLong { properties_bytes });
    check(NewMessage { properties: &properties, ..example() }, too_long(32_768));
    check(NewMessage { properties: &properties[1..], added_properties: b"x", ..example() }, too_long(32_769));
}

#[test]
fn broken_messages_are_refused() {
    let bytes = example().parts(BODY_BYTES_MAX).unwrap().to_vec(7, 8, 9);
    for end in 0..bytes.len() {
        assert!(StoredMessage::parse(&bytes[..end]).is_err());
        let mut cut = bytes[..end].to_vec();
        if end >= 4 {
            cut[3] = u8::try_from(end).unwrap();
            assert!(StoredMessage::parse(&cut).is_err());
        }
    }
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        changed.push(0);
        StoredMessage::parse(&changed).map(|(message, _)| message.queue_id).unwrap_err()
    };
    assert_eq!(with(0, 0xFF), MessageError::OutOfRange { field: "totalSize", found: -16_777_098 });
    assert_eq!(with(3, 119), MessageError::Length { total_bytes: 119, fields_bytes: 118 });
    assert_eq!(with(4, 0xCB), MessageError::Magic(0xCBA3_20A7));
    assert_eq!(with(12, 0x80), MessageError::OutOfRange { field: "queueId", found: -2_147_483_645 });
    assert_eq!(with(84, 0x80), MessageError::OutOfRange { field: "body", found: -2_147_483_643 });
    assert_eq!(with(94, 0xFF), MessageError::Topic);
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, sized: bool) {
        if sized && bytes.len() >= 8 {
            let total = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&total.to_be_bytes());
            bytes[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
        }
        assert!(StoredMessage::parse_all(&bytes).count() <= bytes.len());
    }

    #[test]
    fn messages_read_back(
        topic in "[a-zA-Z%_]{1,127}",
        body in proptest::collection::vec(any::<u8>(), 1..50),
        properties in proptest::collection::vec(any::<u8>(), 0..50),
        queue_id in 0..i32::MAX as u32,
        flag: i32,
        flags in 0..0x10_i32,
        v6: bool,
        offsets in (0..i64::MAX as u64, 0..i64::MAX as u64, 0..i64::MAX as u64),
    ) {
        let born_host = if v6 { "[2001:db8::7]:1" } else { "10.0.0.1:65535" }.parse().unwrap();
        let message = NewMessage {
            topic: &topic, queue_id, flag, sys_flag: flags, born_host, body: &body, properties: &properties,
            ..example()
        };
        let bytes = message.parts(BODY_BYTES_MAX).unwrap().to_vec(offsets.0, offsets.1, offsets.2);
        let (read, consumed) = StoredMessage::parse(&bytes).unwrap();
        prop_assert_eq!(consumed, bytes.len());
        let born = if v6 { sys_flag::BORN_HOST_V6 } else { 0 };
        prop_assert_eq!((read.topic, read.queue_id, read.flag, read.sys_flag), (&*topic, queue_id, flag, flags | born));
        prop_assert_eq!((read.body, read.properties, read.born_host), (&*body, &*properties, born_host));
        prop_assert_eq!((read.queue_offset, read.physical_offset, read.store_timestamp), offsets);
    }
}
