use std::fmt::Debug;

use proptest::prelude::*;

use super::groups::SubscriptionGroupConfig;
use super::heartbeat::{
    CheckClientConfig, ConsumeFrom, ConsumeType, ConsumerData, Heartbeat, MessageModel, ProducerData,
    Subscription,
};
use super::kv::KvTable;
use super::locks::{LockRequest, LockedQueues, MessageQueue};
use super::membership::ConsumerList;
use super::offsets::{Boundary, SearchOffset};
use super::pull::{PullRequest, PullResponse};
use super::register::{DataVersion, RegisterBroker, RegisterBrokerBody};
use super::route::{BrokerData, ClusterInfo, QueueData, TopicList, TopicRouteData};
use super::send::{SendRequest, SendResponse};
use super::topics::{TopicConfig, UpdateTopic};
use super::*;
use crate::code::RequestCode;
use crate::frame::{self, Encoding, FRAME_BYTES_MAX, Frame};
use crate::header::Header;
use crate::message::TagFilter;
use crate::outgoing::Outgoing;

mod tools;

/// A header with these fields, as its receiver sees it in either encoding.
fn sent(code: RequestCode, fields: &[(&str, Value<'_>)], then: impl Fn(&Header<'_>)) {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let mut wire = bytes::BytesMut::new();
        Outgoing { encoding, code: code.0, opaque: 1, flag: 0, remark: None, fields }.write(0, &mut wire);
        let (frame, _) = frame::decode(&wire, FRAME_BYTES_MAX).unwrap().unwrap();
        then(&frame.parse().unwrap());
    }
}

fn received<T>(json: &str, decode: impl FnOnce(&Header<'_>) -> T) -> T {
    decode(&Frame { encoding: Encoding::Json, header: json.as_bytes(), body: b"" }.parse().unwrap())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const SEND: SendRequest<'static> = SendRequest {
    producer_group: "PG",
    topic: "T",
    default_topic: "TBW102",
    default_topic_queue_nums: 4,
    queue_id: 1,
    sys_flag: 0,
    born_timestamp: 1_700_000_000_000,
    flag: 0,
    properties: "k\u{1}v\u{2}",
    reconsume_times: 0,
    unit_mode: false,
    max_reconsume_times: None,
    batch: false,
    broker_name: None,
    body: b"hi",
};

#[test]
fn a_send_of_java_is_read() {
    let json = r#"{"code":310,"extFields":{"a":"PG","b":"T","c":"TBW102","d":"4","e":"1","f":"0","g":"1700000000000","h":"0","i":"k\u0001v\u0002","j":"0","k":"false","m":"false"},"flag":0,"language":"JAVA","opaque":2,"serializeTypeCurrentRPC":"JSON","version":479}"#;
    received(json, |header| assert_eq!(SendRequest::decode(header, b"hi"), Ok(SEND)));
}

#[test]
fn a_batch_of_cpp_is_read() {
    let json = "{\"code\":310,\"extFields\":{\"a\":\"PG\",\"b\":\"T\",\"c\":\"TBW102\",\"d\":4,\"e\":1,\"f\":0,\"g\":\"1\",\"h\":0,\"l\":16,\"m\":\"true\",\"Signature\":\"\",\"AccessKey\":\"\"},\"flag\":0,\"language\":\"CPP\",\"opaque\":2,\"version\":333}\n";
    received(json, |header| {
        let send = SendRequest::decode(header, b"").unwrap();
        assert_eq!(
            (send.batch, send.max_reconsume_times, send.properties, send.queue_id),
            (true, Some(16), "", 1)
        );
    });
}

#[test]
fn sends_are_read_back_under_both_sets_of_names() {
    let full =
        SendRequest { max_reconsume_times: Some(3), batch: true, broker_name: Some("broker-a"), ..SEND };
    for request in [SEND, full] {
        for code in [RequestCode::SEND_MESSAGE, RequestCode::SEND_MESSAGE_V2, RequestCode::SEND_BATCH_MESSAGE]
        {
            sent(code, &request.fields(code), |header| {
                assert_eq!(SendRequest::decode(header, b"hi").as_ref(), Ok(&request));
            });
        }
    }
}

#[test]
fn wrong_fields_of_a_send_are_named_as_on_the_wire() {
    let remark = |json| received(json, |header| SendRequest::decode(header, b"").unwrap_err().to_string());
    assert_eq!(remark(r#"{"code":310,"extFields":{"a":"PG"}}"#), "field b is missing");
    let json = r#"{"code":10,"extFields":{"producerGroup":"PG","topic":"T","defaultTopic":"D","defaultTopicQueueNums":"x"}}"#;
    assert_eq!(remark(json), "field defaultTopicQueueNums is not a number within range: \"x\"");
}

#[test]
fn headers_of_fields_read_back() {
    let pull = PullRequest {
        consumer_group: "CG",
        topic: "T",
        queue_id: 0,
        queue_offset: 7,
        max_messages: 32,
        sys_flag: 3,
        commit_offset: 5,
        suspend_timeout_ms: 15_000,
        subscription: None,
        subscription_version: 1,
        expression_type: Some("TAG"),
        max_bytes: None,
        broker_name: None,
    };
    sent(RequestCode::PULL_MESSAGE, &pull.fields(), |header| {
        assert_eq!(PullRequest::decode(header), Ok(pull))
    });
    assert_eq!((pull.commit(), pull.suspends(), pull.brings_subscription()), (Some(5), true, false));
    let response = PullResponse {
        suggest_which_broker_id: 0,
        next_begin_offset: 8,
        min_offset: 0,
        max_offset: 8,
        topic_sys_flag: None,
        group_sys_flag: None,
        forbidden_type: None,
    };
    assert_eq!(response.fields().len(), 4);
    sent(RequestCode(0), &response.fields(), |header| assert_eq!(PullResponse::decode(header), Ok(response)));
    let response = SendResponse {
        message_id: "7F00000100002A9F0000000000000000",
        queue_id: 1,
        queue_offset: 0,
        transaction_id: Some("TX"),
        region: Some("DefaultRegion"),
        trace_on: true,
    };
    sent(RequestCode(0), &response.fields(), |header| assert_eq!(SendResponse::decode(header), Ok(response)));
    for boundary in [Boundary::Lower, Boundary::Upper] {
        let search = SearchOffset { topic: "T", queue_id: 1, timestamp: -1, boundary };
        let code = RequestCode::SEARCH_OFFSET_BY_TIMESTAMP;
        sent(code, &search.fields(), |header| assert_eq!(SearchOffset::decode(header), Ok(search)));
    }
    let update = UpdateTopic {
        topic: "T",
        default_topic: Some("TBW102"),
        read_queue_nums: 8,
        write_queue_nums: 8,
        perm: 6,
        topic_filter_type: Some("SINGLE_TAG"),
        topic_sys_flag: Some(0),
        order: false,
        attributes: Some("+a=b"),
        force: false,
    };
    let code = RequestCode::UPDATE_AND_CREATE_TOPIC;
    sent(code, &update.fields(), |header| assert_eq!(UpdateTopic::decode(header), Ok(update)));
    let register = RegisterBroker {
        broker_name: "broker-a",
        broker_addr: "127.0.0.1:10911",
        cluster_name: "DefaultCluster",
        ha_server_addr: "127.0.0.1:10912",
        broker_id: 0,
        heartbeat_timeout_ms: None,
        enable_acting_master: Some(false),
        compressed: false,
        body_crc32: Some(2_117_292_710),
        zone_name: None,
    };
    let code = RequestCode::REGISTER_BROKER;
    sent(code, &register.fields(), |header| assert_eq!(RegisterBroker::decode(header), Ok(register)));
}

#[test]
fn a_heartbeat_of_java_is_read_and_written() {
    let json = r#"{"clientID":"10.0.0.1@1234#5678","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"CG","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB","subVersion":1700000000000,"tagsSet":["TagA","TagB"],"topic":"TopicTest"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"PG"}],"withoutSub":false}"#;
    let heartbeat = Heartbeat {
        client_id: "10.0.0.1@1234#5678".to_owned(),
        consumers: vec![ConsumerData {
            consume_from_where: ConsumeFrom::LastOffset,
            consume_type: ConsumeType::Passively,
            group_name: "CG".to_owned(),
            message_model: MessageModel::Clustering,
            subscriptions: vec![Subscription {
                expression_type: "TAG".to_owned(),
                expression: "TagA || TagB".to_owned(),
                version: 1_700_000_000_000,
                topic: "TopicTest".to_owned(),
                ..Subscription::default()
            }],
            unit_mode: false,
        }],
        heartbeat_fingerprint: 0,
        producers: vec![ProducerData { group_name: "PG".to_owned() }],
        without_sub: false,
    };
    assert_eq!(Heartbeat::decode(json.as_bytes()), Ok(heartbeat.clone()));
    assert_eq!(text(heartbeat.encode()), json);
}

#[test]
fn heartbeats_of_other_clients_are_read() {
    // Go: hashes as strings (of the wrong bytes), nanoseconds, no type of expression.
    let go = r#"{"clientID":"c","producerDataSet":[],"consumerDataSet":[{"groupName":"CG","consumeType":"CONSUME_PASSIVELY","messageModel":"BROADCASTING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[{"ClassFilterMode":false,"topic":"T","subString":"你好","tagsSet":["你好"],"codeSet":["-1882950762"],"subVersion":1700000000000000000,"expressionType":""}],"unitMode":false}]}"#;
    let go = Heartbeat::decode(go.as_bytes()).unwrap();
    let consumer = &go.consumers[0];
    assert_eq!(consumer.message_model, MessageModel::Broadcasting);
    assert_eq!(consumer.consume_from_where, ConsumeFrom::FirstOffset);
    let filter = consumer.subscriptions[0].tag_filter().unwrap();
    assert!(consumer.subscriptions[0].is_by_tags() && filter.matches_hash(652_829));
    assert_eq!(consumer.subscriptions[0].version, 1_700_000_000_000_000_000);

    // C++: ordinals, versions as strings, sets left out.
    let cpp = "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"CG\",\"consumeType\":1,\"messageModel\":0,\"consumeFromWhere\":\"4\",\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"*\",\"subVersion\":\"1700000000000\"}]}]}\n";
    let cpp = Heartbeat::decode(cpp.as_bytes()).unwrap();
    let consumer = &cpp.consumers[0];
    assert_eq!(
        (consumer.consume_type, consumer.message_model),
        (ConsumeType::Passively, MessageModel::Broadcasting)
    );
    assert_eq!(consumer.consume_from_where, ConsumeFrom::FirstOffset);
    assert_eq!(consumer.subscriptions[0].version, 1_700_000_000_000);
    assert_eq!(consumer.subscriptions[0].tag_filter(), Ok(TagFilter::All));

    // Anything may be null, unknown or spelt otherwise.
    let odd = r#"{"clientID":"c","consumerDataSet":[{"consumeType":"consume_actively","messageModel":"NEW","consumeFromWhere":-1,"subscriptionDataSet":null,"unitMode":"TRUE"}],"producerDataSet":null,"heartbeatFingerprint":null,"withoutSub":1}"#;
    let odd = Heartbeat::decode(odd.as_bytes()).unwrap();
    assert_eq!(odd.consumers[0].consume_type, ConsumeType::Actively);
    assert!(odd.consumers[0].unit_mode && odd.without_sub);
}

#[test]
fn broken_bodies_say_what_they_should_be() {
    let remark = Heartbeat::decode(b"{").unwrap_err().to_string();
    assert!(remark.starts_with("the body is not a valid heartbeat: EOF"), "{remark}");
    assert_eq!(Heartbeat::decode(b"{}").unwrap_err().to_string(), "field clientID is missing");
    assert!(Heartbeat::decode(br#"{"clientID":"c","consumerDataSet":3}"#).is_err());
    assert_eq!(LockRequest::decode(b"{}").unwrap_err().to_string(), "field clientId is missing");
    assert!(SubscriptionGroupConfig::decode(b"{}").is_err());
}

/// The body is read as the value and written as the same text.
fn check<T: PartialEq + Debug>(
    body: &str,
    value: T,
    decode: impl Fn(&[u8]) -> Result<T, FieldError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    assert_eq!(decode(body.as_bytes()).as_ref(), Ok(&value));
    assert_eq!(text(encode(&value)), body);
}

#[test]
fn bodies_have_rocketmq_s_text() {
    let queue =
        MessageQueue { broker_name: "broker-a".to_owned(), queue_id: 0, topic: "TopicTest".to_owned() };
    check(
        r#"{"clientId":"c","consumerGroup":"CG","mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}],"onlyThisBroker":false}"#,
        LockRequest {
            client_id: "c".to_owned(),
            consumer_group: "CG".to_owned(),
            queues: vec![queue.clone()],
            only_this_broker: false,
        },
        LockRequest::decode,
        LockRequest::encode,
    );
    check(
        r#"{"lockOKMQSet":[{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}]}"#,
        LockedQueues { queues: vec![queue] },
        LockedQueues::decode,
        LockedQueues::encode,
    );
    check(
        r#"{"consumerIdList":["10.0.0.1@1234#5678"]}"#,
        ConsumerList { consumer_id_list: vec!["10.0.0.1@1234#5678".to_owned()] },
        ConsumerList::decode,
        ConsumerList::encode,
    );
    check(
        r#"{"clientId":"c","group":"CG","subscriptionData":{"classFilterMode":false,"codeSet":[],"expressionType":"SQL92","subString":"a > 5","subVersion":1700000000000,"tagsSet":[],"topic":"TopicTest"}}"#,
        CheckClientConfig {
            client_id: "c".to_owned(),
            group: "CG".to_owned(),
            namespace: None,
            subscription: Subscription {
                class_filter_mode: false,
                expression_type: "SQL92".to_owned(),
                expression: "a > 5".to_owned(),
                version: 1_700_000_000_000,
                topic: "TopicTest".to_owned(),
            },
        },
        CheckClientConfig::decode,
        CheckClientConfig::encode,
    );
    check(
        r#"{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":4}"#,
        topic("TopicTest", 4, 6),
        TopicConfig::decode,
        TopicConfig::encode,
    );
    check(
        r#"{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"CG","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}"#,
        SubscriptionGroupConfig { group_name: "CG".to_owned(), ..SubscriptionGroupConfig::default() },
        SubscriptionGroupConfig::decode,
        SubscriptionGroupConfig::encode,
    );
    check(
        r#"{"counter":3,"stateVersion":0,"timestamp":1700000000000}"#,
        VERSION,
        DataVersion::decode,
        DataVersion::encode,
    );
    check(
        r#"{"table":{"TopicTest":"broker-a:4"}}"#,
        KvTable { table: [("TopicTest".to_owned(), "broker-a:4".to_owned())].into() },
        KvTable::decode,
        KvTable::encode,
    );
    check(
        r#"{"topicList":["TopicTest"]}"#,
        TopicList { broker_addr: None, topic_list: vec!["TopicTest".to_owned()] },
        TopicList::decode,
        TopicList::encode,
    );
}

#[test]
fn routes_are_written_for_go_and_read_from_java() {
    let broker = BrokerData {
        broker_addrs: [(0, "127.0.0.1:10911".to_owned()), (1, "127.0.0.1:10921".to_owned())].into(),
        broker_name: "broker-a".to_owned(),
        cluster: "DefaultCluster".to_owned(),
        enable_acting_master: false,
        zone_name: None,
    };
    let queues = QueueData::new("broker-a", &topic("TopicTest", 4, 6));
    let route = TopicRouteData {
        broker_datas: vec![broker.clone()],
        queue_datas: vec![queues],
        ..TopicRouteData::default()
    };
    let standard = r#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:10911","1":"127.0.0.1:10921"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
    check(standard, route.clone(), TopicRouteData::decode, TopicRouteData::encode);
    let plain = standard.replace(r#""0":"#, "0:").replace(r#""1":"#, "1:");
    assert_eq!(TopicRouteData::decode(plain.as_bytes()), Ok(route));
    check(
        r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{"0":"127.0.0.1:10911","1":"127.0.0.1:10921"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},"clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#,
        ClusterInfo {
            broker_addr_table: [("broker-a".to_owned(), broker)].into(),
            cluster_addr_table: [("DefaultCluster".to_owned(), ["broker-a".to_owned()].into())].into(),
        },
        ClusterInfo::decode,
        ClusterInfo::encode,
    );
}

const VERSION: DataVersion = DataVersion { counter: 3, state_version: 0, timestamp: 1_700_000_000_000 };

fn topic(name: &str, queues: i32, perm: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..TopicConfig::default()
    }
}

fn registration() -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    body.topics.data_version = VERSION;
    for config in [topic("TopicTest", 4, 6), topic("TBW102", 8, 7)] {
        body.topics.topic_config_table.insert(config.topic_name.clone(), config);
    }
    body
}

#[test]
fn registrations_are_read_in_every_form() {
    let mut body = registration();
    body.topics.mapping_data_version = DataVersion { counter: 0, ..VERSION };
    check(
        r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":1700000000000},"topicConfigTable":{"TBW102":{"attributes":{},"order":false,"perm":7,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"TBW102","topicSysFlag":0,"writeQueueNums":8},"TopicTest":{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":4}},"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}}"#,
        body,
        |body| RegisterBrokerBody::decode(body, false, 479),
        RegisterBrokerBody::encode,
    );
    let compressed = registration().encode_compressed();
    for (compressed_says_header, version) in [(true, 401), (true, 479), (false, 479)] {
        let read = RegisterBrokerBody::decode(&compressed, compressed_says_header, version);
        assert_eq!(read, Ok(registration()));
    }
    let topics = crate::json::to_vec(&registration().topics);
    assert_eq!(RegisterBrokerBody::decode(&topics, false, 36), Ok(registration()));
    assert_eq!(RegisterBrokerBody::decode(b"", true, 479), Ok(RegisterBrokerBody::default()));
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_registration_of_java_is_read() {
    let mut plain = Vec::new();
    for part in [
        &b"\0\0\0\x38{\"counter\":3,\"stateVersion\":0,\"timestamp\":1700000000000}"[..],
        b"\0\0\0\x02\0\0\0\x1DTopicTest 4 4 6 SINGLE_TAG {}\0\0\0\x17TBW102 8 8 7 SINGLE_TAG",
        b"\0\0\0\x02[]\0\0\0\0",
    ] {
        plain.extend_from_slice(part);
    }
    assert_eq!(RegisterBrokerBody::decode(&zlib(&plain), true, 479), Ok(registration()));
    for end in 0..plain.len() {
        assert!(RegisterBrokerBody::decode(&zlib(&plain[..end]), true, 479).is_err(), "{end}");
    }
}

#[test]
fn a_bomb_is_not_inflated() {
    let bomb = zlib(&vec![0; usize::try_from(RegisterBrokerBody::INFLATED_BYTES_MAX).unwrap() + 1]);
    let remark = RegisterBrokerBody::decode(&bomb, true, 479).unwrap_err().to_string();
    assert!(remark.ends_with("it inflates to more than 67108864 bytes"), "{remark}");
}

#[test]
fn data_versions_are_ordered_by_state_then_counter_then_time() {
    let version = |state_version, counter, timestamp| DataVersion { counter, state_version, timestamp };
    let ordered = [version(0, 1, 9), version(0, 2, 1), version(0, 2, 2), version(1, 0, 0)];
    assert!(ordered.is_sorted() && ordered[0] < ordered[3]);
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>, compressed: bool, version in 0..500) {
        let _read = Heartbeat::decode(&body);
        let _read = RegisterBrokerBody::decode(&body, compressed, version);
        let _read = RegisterBrokerBody::decode(&zlib(&body), true, version);
    }

    #[test]
    fn no_fields_panic(code: i32, fields in proptest::collection::vec(("[a-n]|queueId|topic", ".{0,9}"), 0..20)) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, Value::from(value))).collect();
        sent(RequestCode(code), &fields, |header| {
            let _read = SendRequest::decode(header, b"");
            let _read = PullRequest::decode(header);
            let _read = SearchOffset::decode(header);
        });
    }
}
