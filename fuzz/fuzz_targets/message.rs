//! Stored messages, batches, properties and ids: no bytes panic, and what was read is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skylark_protocol::message::batch::inner_messages;
use skylark_protocol::message::{
    MessageRefused, NewMessage, OffsetMessageId, Properties, StoredMessage, TagFilter, body_crc, sys_flag,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((message, consumed)) = StoredMessage::parse(bytes) {
        assert!(consumed <= bytes.len());
        rewritten(&message, &bytes[..consumed]);
        assert_eq!(message.offset_message_id().to_string().parse(), Ok(message.offset_message_id()));
        let _properties = (message.tag_hash(), message.properties().iter().count());
    }
    assert!(StoredMessage::parse_all(bytes).count() <= bytes.len());

    let mut batch = Vec::new();
    for message in inner_messages(bytes).map_while(Result::ok) {
        message.write(&mut batch).expect("it was read");
    }
    // Magic and checksum are not looked at, so only the lengths can be compared.
    assert!(inner_messages(&batch).map_while(Result::ok).eq(inner_messages(bytes).map_while(Result::ok)));

    assert!(Properties::new(bytes).iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<OffsetMessageId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(filter) = TagFilter::parse(Some(text)) {
            let _selected = filter.matches(Some(text));
        }
    }
});

/// The message written again has the bytes it was read from, where there is only one way to write it.
fn rewritten(message: &StoredMessage<'_>, bytes: &[u8]) {
    let new = NewMessage {
        topic: message.topic,
        queue_id: message.queue_id,
        flag: message.flag,
        sys_flag: message.sys_flag,
        born_timestamp: message.born_timestamp,
        born_host: message.born_host,
        store_host: message.store_host,
        reconsume_times: message.reconsume_times,
        prepared_transaction_offset: message.prepared_transaction_offset,
        body: message.body,
        properties: message.properties,
        added_properties: b"",
    };
    let parts = match new.parts(bytes.len()) {
        Ok(parts) => parts,
        Err(MessageRefused::EmptyBody | MessageRefused::TopicTooLong { .. }) => return,
        Err(refused) => panic!("a message that was read is refused: {refused}"),
    };
    let written = parts.to_vec(message.queue_offset, message.physical_offset, message.store_timestamp);
    let (again, _) = StoredMessage::parse(&written).expect("what was written can be read");
    let hosts = sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;
    let one_way = bytes[7] == 0xA7 && message.sys_flag & hosts == again.sys_flag & hosts;
    if one_way && message.body_crc == body_crc(message.body) {
        assert_eq!(written, bytes);
    }
}
