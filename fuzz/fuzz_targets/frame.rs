//! What a peer sends: no bytes panic, and a header that was read is read the same after it was written.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use skylark_protocol::command::groups::SubscriptionGroupConfig;
use skylark_protocol::command::heartbeat::{CheckClientConfig, Heartbeat};
use skylark_protocol::command::kv::KvTable;
use skylark_protocol::command::locks::LockRequest;
use skylark_protocol::command::membership::UnregisterClient;
use skylark_protocol::command::offsets::{QueryConsumerOffset, SearchOffset, UpdateConsumerOffset};
use skylark_protocol::command::pull::{PullRequest, PullResponse};
use skylark_protocol::command::register::{DataVersion, RegisterBroker, RegisterBrokerBody};
use skylark_protocol::command::route::{ClusterInfo, TopicRouteData};
use skylark_protocol::command::send::{SendRequest, SendResponse};
use skylark_protocol::command::topics::{TopicConfig, UpdateTopic};
use skylark_protocol::{Header, Outgoing, Value, frame};

const FRAME_BYTES_MAX: usize = 1024 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((frame, consumed))) = frame::decode(bytes, FRAME_BYTES_MAX) else { return };
    assert_eq!(frame.to_vec(), &bytes[..consumed]);
    assert_eq!(frame::need(bytes), Some(consumed));
    let Ok(header) = frame.parse() else { return };

    let fields: Vec<_> = header.fields.iter().map(|(name, value)| (name, Value::Text(value))).collect();
    let names_are_short = fields.iter().all(|(name, _)| name.len() <= 0x7FFF);
    if names_are_short {
        let remark = header.remark.as_deref();
        let Header { code, opaque, flag, .. } = header;
        let mut wire = BytesMut::new();
        Outgoing { encoding: frame.encoding, code, opaque, flag, remark, fields: &fields }
            .write(0, &mut wire);
        let (written, _) =
            frame::decode(&wire, usize::MAX).expect("a frame was written").expect("a whole one");
        let read = written.parse().expect("a header was written");
        assert_eq!((read.code, read.opaque, read.flag), (code, opaque, flag));
        // The binary form has no empty values; JSON stands in for it when the code needs more bits.
        let is_kept = |value: &str| !value.is_empty() || !written_as_binary(&wire);
        let kept: Vec<_> = header.fields.iter().filter(|(_, value)| is_kept(value)).collect();
        assert_eq!(read.fields.iter().collect::<Vec<_>>(), kept);
    }

    let body = frame.body;
    let _fields = SendRequest::decode(&header, body);
    let _fields = SendResponse::decode(&header);
    let _fields = PullRequest::decode(&header).map(|pull| pull.tag_filter());
    let _fields = PullResponse::decode(&header);
    let _fields = QueryConsumerOffset::decode(&header);
    let _fields = UpdateConsumerOffset::decode(&header);
    let _fields = SearchOffset::decode(&header);
    let _fields = UnregisterClient::decode(&header);
    let _fields = UpdateTopic::decode(&header);
    let _fields = RegisterBroker::decode(&header);
    reread(Heartbeat::decode(body), |heartbeat| Heartbeat::decode(&heartbeat.encode()));
    let _body = CheckClientConfig::decode(body);
    reread(LockRequest::decode(body), |request| LockRequest::decode(&request.encode()));
    reread(TopicConfig::decode(body), |config| TopicConfig::decode(&config.encode()));
    reread(SubscriptionGroupConfig::decode(body), |config| SubscriptionGroupConfig::decode(&config.encode()));
    reread(KvTable::decode(body), |table| KvTable::decode(&table.encode()));
    reread(DataVersion::decode(body), |version| DataVersion::decode(&version.encode()));
    reread(TopicRouteData::decode(body), |route| TopicRouteData::decode(&route.encode()));
    reread(ClusterInfo::decode(body), |info| ClusterInfo::decode(&info.encode()));
    let _body = RegisterBrokerBody::decode(body, true, header.version);
    reread(RegisterBrokerBody::decode(body, false, 479), |body| {
        RegisterBrokerBody::decode(&body.encode(), false, 479)
    });
});

fn written_as_binary(wire: &[u8]) -> bool {
    wire[4] == 1
}

/// What was read once is, after it was written, read as something that is written the same.
fn reread<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    read: Result<T, E>,
    write_and_read: impl Fn(&T) -> Result<T, E>,
) {
    let Ok(first) = read else { return };
    let second = write_and_read(&first).expect("what was written can be read");
    let third = write_and_read(&second).expect("what was written can be read");
    assert_eq!(second, third);
}
