//! What the operator's tools send and read.

use std::collections::BTreeMap;

use super::super::configuration;
use super::super::connections::{
    Connection, ConsumerConnection, ProducerConnection, ProducerGroup, ProducerInfo, ProducerTable,
};
use super::super::diagnosis::{ConsumeDirectly, ConsumeOutcome, ConsumeResult, RunningInfoRequest};
use super::super::groups::{AllGroupsRequest, GroupConfigList, GroupConfigTable, SubscriptionGroupConfig};
use super::super::heartbeat::{ConsumeFrom, ConsumeType, MessageModel, Subscription};
use super::super::locks::MessageQueue;
use super::super::offset_tables::{ConsumerOffsets, DelayOffsets};
use super::super::query::{
    ConsumeQueueEntries, ConsumeQueueEntry, ConsumeQueueRequest, QueryMessage, QueryResponse, ViewMessage,
};
use super::super::reply::PushReply;
use super::super::reset::{
    CloneOffsets, ConsumerStatus, ConsumerStatusRequest, ResetOffset, ResetOffsets, ResetTarget,
};
use super::super::send_back::SendBack;
use super::super::stats::{
    BrokerConsumeStats, BrokerConsumeStatsRequest, BrokerStatsData, BrokerStatsItem, BrokerStatsRequest,
    ConsumeOffset, ConsumeStats, ConsumeStatsRequest, TopicOffset, TopicStatsTable,
};
use super::super::subscribers::{
    ConsumeTimeSpans, GroupList, QueueTimeSpan, SubscriptionOfGroup, SubscriptionRequest,
};
use super::super::topics::{AllTopicsRequest, TopicConfigList};
use super::{VERSION, check, received, sent, text, topic};
use crate::code::RequestCode;
use crate::header::{FieldError, Language};

fn queue(topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: "broker-a".to_owned(), queue_id, topic: topic.to_owned() }
}

fn names<const N: usize>(names: [&str; N]) -> impl Iterator<Item = String> {
    names.into_iter().map(str::to_owned)
}

/// Declares that headers with these values are read back in either encoding.
macro_rules! read_back {
    ($($code:ident: $value:expr => $kind:ident;)*) => {
        $({
            let value = $value;
            sent(RequestCode::$code, &value.fields(), |header| assert_eq!($kind::decode(header), Ok(value)));
        })*
    };
}

#[test]
fn headers_of_tools_and_clients_read_back() {
    let reset = ResetOffset {
        group: "G",
        topic: "T",
        queue_id: Some(3),
        offset: Some(7),
        timestamp: -1,
        force: true,
    };
    let reply = PushReply {
        producer_group: "PG",
        topic: "DefaultCluster_REPLY_TOPIC",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some("CORRELATION_ID\u{1}c\u{2}"),
        reconsume_times: Some(0),
        unit_mode: false,
        born_host: "127.0.0.1:40000",
        store_host: "127.0.0.1:10911",
        store_timestamp: 1_700_000_000_001,
    };
    let directly = ConsumeDirectly {
        consumer_group: "G",
        client_id: Some("c"),
        message_id: None,
        broker_name: Some("broker-a"),
        topic: Some("T"),
        topic_sys_flag: Some(0),
        group_sys_flag: Some(0),
    };
    read_back! {
        QUERY_MESSAGE: QueryMessage {
            topic: "T", key: "k", max_messages: 64, begin_timestamp: 0, end_timestamp: i64::MAX, unique: true,
        } => QueryMessage;
        QUERY_MESSAGE: QueryResponse { index_last_timestamp: 1, index_last_physical_offset: 2 } => QueryResponse;
        VIEW_MESSAGE_BY_ID: ViewMessage { topic: None, physical_offset: 4096 } => ViewMessage;
        QUERY_CONSUME_QUEUE: ConsumeQueueRequest {
            topic: "T", queue_id: 0, index: 5, count: 10, consumer_group: None,
        } => ConsumeQueueRequest;
        CONSUMER_SEND_MSG_BACK: SendBack {
            physical_offset: 4096,
            group: "G",
            delay_level: -1,
            origin_message_id: Some("7F00000100002A9F0000000000001000"),
            origin_topic: Some("T"),
            unit_mode: false,
            max_reconsume_times: Some(16),
        } => SendBack;
        PUSH_REPLY_MESSAGE_TO_CLIENT: reply => PushReply;
        GET_CONSUME_STATS: ConsumeStatsRequest {
            consumer_group: "G", topic: Some("T"), topic_list: None,
        } => ConsumeStatsRequest;
        GET_BROKER_CONSUME_STATS: BrokerConsumeStatsRequest { is_order: true } => BrokerConsumeStatsRequest;
        VIEW_BROKER_STATS_DATA: BrokerStatsRequest { name: "GROUP_GET_NUMS", key: "T@G" } => BrokerStatsRequest;
        QUERY_CONSUME_TIME_SPAN: SubscriptionRequest { group: "G", topic: Some("T") } => SubscriptionRequest;
        GET_PRODUCER_CONNECTION_LIST: ProducerGroup { producer_group: "PG" } => ProducerGroup;
        INVOKE_BROKER_TO_RESET_OFFSET: reset => ResetOffset;
        INVOKE_BROKER_TO_GET_CONSUMER_STATUS: ConsumerStatusRequest {
            topic: "T", group: "G", client: Some("c"),
        } => ConsumerStatusRequest;
        CLONE_GROUP_OFFSET: CloneOffsets {
            source_group: "A", target_group: "B", topic: None, offline: true,
        } => CloneOffsets;
        GET_CONSUMER_RUNNING_INFO: RunningInfoRequest {
            consumer_group: "G", client_id: "c", stacks: true,
        } => RunningInfoRequest;
        CONSUME_MESSAGE_DIRECTLY: directly => ConsumeDirectly;
        GET_ALL_TOPIC_CONFIG: AllTopicsRequest {
            from: Some(0), data_version: Some("{}"), limit: Some(2000),
        } => AllTopicsRequest;
        GET_ALL_SUBSCRIPTIONGROUP_CONFIG: AllGroupsRequest {
            from: None, data_version: None, limit: None,
        } => AllGroupsRequest;
    }
}

#[test]
fn a_reset_says_where_it_leads() {
    let check = |fields: &str, queue: Option<u32>, target: ResetTarget| {
        let json = format!(r#"{{"code":222,"extFields":{{"group":"G","topic":"T",{fields}}}}}"#);
        received(&json, |header| {
            let reset = ResetOffset::decode(header).unwrap();
            assert_eq!((reset.queue(), reset.target()), (queue, target), "{fields}");
        });
    };
    check(r#""timestamp":"-1","isForce":"true","queueId":"-1""#, None, ResetTarget::End);
    check(r#""timestamp":"5""#, None, ResetTarget::Time(5));
    check(r#""timestamp":"5","offset":"0","queueId":"2""#, Some(2), ResetTarget::Offset(0));
    check(r#""timestamp":"5","offset":"-1""#, None, ResetTarget::Time(5));
}

#[test]
fn topics_of_a_list_are_told_apart() {
    let request = |topic_list| ConsumeStatsRequest { consumer_group: "G", topic: None, topic_list };
    assert_eq!(request(Some("A;;B;")).topics().collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(request(None).topics().count(), 0);
}

#[test]
fn tables_by_queue_have_rocketmq_s_text() {
    let offsets = TopicOffset { last_update_timestamp: 1_700_000_000_000, max_offset: 10, min_offset: 0 };
    check(
        r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:{"lastUpdateTimestamp":1700000000000,"maxOffset":10,"minOffset":0}},"topicPutTps":0.0}"#,
        TopicStatsTable { offset_table: [(queue("T", 0), offsets)].into(), topic_put_tps: 0.0 },
        TopicStatsTable::decode,
        TopicStatsTable::encode,
    );
    let offsets = ConsumeOffset { broker_offset: 5, ..ConsumeOffset::default() };
    let stats = ConsumeStats { consume_tps: 0.0, offset_table: [(queue("T", 1), offsets)].into() };
    check(
        r#"{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:{"brokerOffset":5,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}"#,
        stats.clone(),
        ConsumeStats::decode,
        ConsumeStats::encode,
    );
    check(
        r#"{"brokerAddr":"127.0.0.1:10911","consumeStatsList":[{"G":[{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:{"brokerOffset":5,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}},{"consumeTps":0.0,"offsetTable":{}}]},{"H":[]}],"totalDiff":5,"totalInflightDiff":0}"#,
        BrokerConsumeStats {
            broker_addr: "127.0.0.1:10911".to_owned(),
            consume_stats_list: vec![
                [("G".to_owned(), vec![stats, ConsumeStats::default()])].into(),
                [("H".to_owned(), vec![])].into(),
            ],
            total_diff: 5,
            total_inflight_diff: 0,
        },
        BrokerConsumeStats::decode,
        BrokerConsumeStats::encode,
    );
    check(
        r#"{"consumerTable":{"cid":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:7}},"messageQueueTable":{}}"#,
        ConsumerStatus {
            consumer_table: [("cid".to_owned(), [(queue("T", 0), 7)].into())].into(),
            message_queue_table: BTreeMap::new(),
        },
        ConsumerStatus::decode,
        ConsumerStatus::encode,
    );
    check(
        r#"{"consumerTable":{},"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:7}}"#,
        ConsumerStatus { consumer_table: BTreeMap::new(), message_queue_table: [(queue("T", 0), 7)].into() },
        ConsumerStatus::decode,
        ConsumerStatus::encode,
    );
    // Newer readers write the same; a key may also be a string that holds the object.
    let quoted = br#"{"offsetTable":{"{\"brokerName\":\"broker-a\",\"queueId\":0,\"topic\":\"T\"}":{"maxOffset":"3"}},"topicPutTps":null}"#;
    assert_eq!(TopicStatsTable::decode(quoted).unwrap().offset_table[&queue("T", 0)].max_offset, 3);
    assert_eq!(TopicStatsTable::decode(br#"{"offsetTable":null}"#), Ok(TopicStatsTable::default()));
    assert!(TopicStatsTable::decode(br#"{"offsetTable":{"T":{}}}"#).is_err());
}

#[test]
fn offsets_of_a_reset_have_a_form_for_java_and_one_for_cpp() {
    let offsets =
        ResetOffsets { offset_table: [(queue("TopicTest", 0), 12), (queue("TopicTest", 1), 13)].into() };
    check(
        r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:12,{"brokerName":"broker-a","queueId":1,"topic":"TopicTest"}:13}}"#,
        offsets.clone(),
        ResetOffsets::decode,
        ResetOffsets::encode,
    );
    check(
        r#"{"offsetTable":[{"brokerName":"broker-a","offset":12,"queueId":0,"topic":"TopicTest"},{"brokerName":"broker-a","offset":13,"queueId":1,"topic":"TopicTest"}]}"#,
        offsets,
        ResetOffsets::decode,
        ResetOffsets::encode_for_cpp,
    );
    for empty in [r#"{"offsetTable":{}}"#, r#"{"offsetTable":[]}"#, r#"{"offsetTable":null}"#, "{}"] {
        assert_eq!(ResetOffsets::decode(empty.as_bytes()), Ok(ResetOffsets::default()), "{empty}");
    }
    assert!(ResetOffsets::decode(br#"{"offsetTable":3}"#).is_err());
}

#[test]
fn tables_by_number_have_rocketmq_s_text() {
    check(
        r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"offsetTable":{"T@G":{0:3,1:4},"T@H":{}}}"#,
        ConsumerOffsets {
            data_version: VERSION,
            offset_table: [("T@G".to_owned(), [(0, 3), (1, 4)].into()), ("T@H".to_owned(), [].into())].into(),
        },
        ConsumerOffsets::decode,
        ConsumerOffsets::encode,
    );
    check(
        r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"offsetTable":{1:12,2:0}}"#,
        DelayOffsets { data_version: VERSION, offset_table: [(1, 12), (2, 0)].into() },
        DelayOffsets::decode,
        DelayOffsets::encode,
    );
}

#[test]
fn connections_have_rocketmq_s_text() {
    let connection = Connection {
        client_addr: "1.2.3.4:5".to_owned(),
        client_id: "id".to_owned(),
        language: Language::Java,
        version: 473,
    };
    let subscription = Subscription {
        expression_type: "TAG".to_owned(),
        expression: "*".to_owned(),
        version: 1_700_000_000_000,
        topic: "T".to_owned(),
        ..Subscription::default()
    };
    check(
        r#"{"connectionSet":[{"clientAddr":"1.2.3.4:5","clientId":"id","language":"JAVA","version":473}],"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{"T":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*","subVersion":1700000000000,"tagsSet":[],"topic":"T"}}}"#,
        ConsumerConnection {
            connection_set: vec![connection.clone()],
            consume_from_where: ConsumeFrom::LastOffset,
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            subscription_table: [("T".to_owned(), subscription.clone())].into(),
        },
        ConsumerConnection::decode,
        ConsumerConnection::encode,
    );
    check(
        r#"{"connectionSet":[{"clientAddr":"1.2.3.4:5","clientId":"id","language":"JAVA","version":473}]}"#,
        ProducerConnection { connection_set: vec![connection] },
        ProducerConnection::decode,
        ProducerConnection::encode,
    );
    let producer = ProducerInfo {
        client_id: "c".to_owned(),
        language: Language::Go,
        last_update_timestamp: 123,
        remote_address: "1.2.3.4:5".to_owned(),
        version: 400,
    };
    check(
        r#"{"data":{"PG":[{"clientId":"c","language":"GO","lastUpdateTimestamp":123,"remoteIP":"1.2.3.4:5","version":400}]}}"#,
        ProducerTable { data: [("PG".to_owned(), vec![producer])].into() },
        ProducerTable::decode,
        ProducerTable::encode,
    );
    let odd = ProducerConnection::decode(br#"{"connectionSet":[{"language":null},{"language":"KLINGON"}]}"#);
    assert!(odd.unwrap().connection_set.iter().all(|connection| connection.language == Language::Other));
    check(
        r#"{"group":"G","subscriptionData":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*","subVersion":1700000000000,"tagsSet":[],"topic":"T"},"topic":"T"}"#,
        SubscriptionOfGroup {
            group: "G".to_owned(),
            subscription_data: Some(subscription),
            topic: Some("T".to_owned()),
        },
        SubscriptionOfGroup::decode,
        SubscriptionOfGroup::encode,
    );
}

#[test]
fn other_bodies_of_tools_have_rocketmq_s_text() {
    check(
        r#"{"groupList":["G","H"]}"#,
        GroupList { group_list: names(["G", "H"]).collect() },
        GroupList::decode,
        GroupList::encode,
    );
    let span = QueueTimeSpan {
        consume_timestamp: 2,
        delay_ms: 4,
        max_timestamp: 3,
        queue: queue("T", 0),
        min_timestamp: 1,
    };
    check(
        r#"{"consumeTimeSpanSet":[{"consumeTimeStamp":2,"delayTime":4,"maxTimeStamp":3,"messageQueue":{"brokerName":"broker-a","queueId":0,"topic":"T"},"minTimeStamp":1}]}"#,
        ConsumeTimeSpans { spans: vec![span] },
        ConsumeTimeSpans::decode,
        ConsumeTimeSpans::encode,
    );
    let minute = BrokerStatsItem { avgpt: 1.5, sum: 3, tps: 0.05 };
    check(
        r#"{"statsDay":{"avgpt":0.0,"sum":0,"tps":0.0},"statsHour":{"avgpt":0.0,"sum":0,"tps":0.0},"statsMinute":{"avgpt":1.5,"sum":3,"tps":0.05}}"#,
        BrokerStatsData { stats_minute: minute, ..BrokerStatsData::default() },
        BrokerStatsData::decode,
        BrokerStatsData::encode,
    );
    let entry = ConsumeQueueEntry {
        eval: true,
        physic_offset: 4096,
        physic_size: 200,
        tags_code: -5,
        ..ConsumeQueueEntry::default()
    };
    check(
        r#"{"maxQueueIndex":9,"minQueueIndex":0,"queueData":[{"eval":true,"physicOffset":4096,"physicSize":200,"tagsCode":-5}]}"#,
        ConsumeQueueEntries { max_queue_index: 9, queue_data: vec![entry], ..ConsumeQueueEntries::default() },
        ConsumeQueueEntries::decode,
        ConsumeQueueEntries::encode,
    );
    check(
        r#"{"autoCommit":true,"consumeResult":"CR_SUCCESS","order":false,"spentTimeMills":0}"#,
        ConsumeResult::default(),
        ConsumeResult::decode,
        ConsumeResult::encode,
    );
    let go = ConsumeResult::decode(
        br#"{"order":false,"autoCommit":true,"consumeResult":4,"remark":"r","spentTimeMills":3}"#,
    );
    assert_eq!(go.map(|result| result.outcome), Ok(ConsumeOutcome::Failed));
}

#[test]
fn lists_of_configurations_name_each_of_their_parts() {
    check(
        r#"{"topicConfigList":[{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":4}]}"#,
        TopicConfigList { topic_config_list: vec![topic("TopicTest", 4, 6)] },
        TopicConfigList::decode,
        TopicConfigList::encode,
    );
    let missing = |field| FieldError::Missing { field };
    assert_eq!(TopicConfigList::decode(br#"{"topicConfigList":[{"perm":6}]}"#), Err(missing("topicName")));
    let group = SubscriptionGroupConfig { group_name: "G".to_owned(), ..SubscriptionGroupConfig::default() };
    let list = GroupConfigList { group_config_list: vec![group.clone()] };
    assert_eq!(GroupConfigList::decode(&list.encode()), Ok(list));
    assert_eq!(GroupConfigList::decode(br#"{"groupConfigList":[{}]}"#), Err(missing("groupName")));
    let table = GroupConfigTable {
        data_version: VERSION,
        forbidden_table: [("G".to_owned(), [("T".to_owned(), 4)].into())].into(),
        subscription_group_table: [("G".to_owned(), group)].into(),
    };
    let body = text(table.encode());
    assert!(
        body.starts_with(r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"forbiddenTable":{"G":{"T":4}},"subscriptionGroupTable":{"G":{"attributes":"#),
        "{body}"
    );
    assert_eq!(GroupConfigTable::decode(body.as_bytes()), Ok(table));
}

fn check_text(text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(configuration::read(text.as_bytes()), Ok(expected), "{text:?}");
}

#[test]
fn configurations_are_read_as_java_reads_properties() {
    check_text("", &[]);
    check_text("a=1\nb = 2 \r\nc:3\nd 4", &[("a", "1"), ("b", "2 "), ("c", "3"), ("d", "4")]);
    check_text("# no=1\n  ! no=1\n\n \t\n  a=#1", &[("a", "#1")]);
    check_text("a=1\\\n   2\\\\\nb=3", &[("a", "12\\"), ("b", "3")]);
    check_text("a=1\\\r\n  2\r\nb=3", &[("a", "12"), ("b", "3")]);
    check_text("a\\=b\\ c=\\t\\u4F60\\uD83D\\uDE00\\x", &[("a=b c", "\t你😀x")]);
    check_text("a\n=1\nb==\nc=\\", &[("a", ""), ("", "1"), ("b", "="), ("c", "")]);
    check_text("path=C:\\\\store\ndir=/a:b", &[("path", "C:\\store"), ("dir", "/a:b")]);
    for broken in ["a=\\u12", "a=\\uD83D", "a=\\u+123", "a=\\u123é"] {
        assert!(configuration::read(broken.as_bytes()).is_err(), "{broken}");
    }
    assert!(configuration::read(b"a=\xFF").is_err());
}

#[test]
fn configurations_are_written_so_that_java_reads_them() {
    let settings = [("brokerName", "broker-a"), ("path", r"C:\store"), ("a b", " x y"), ("k", "ä=:#\n")];
    let written = text(configuration::write(settings));
    assert_eq!(written, "brokerName=broker-a\npath=C:\\\\store\na\\ b=\\ x y\nk=\\u00E4=:#\\n\n");
    check_text(&written, &settings);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn configurations_read_back(settings in proptest::collection::vec((".{1,6}", ".{0,6}"), 0..5)) {
            let borrowed = settings.iter().map(|(name, value)| (&**name, &**value));
            prop_assert_eq!(configuration::read(&configuration::write(borrowed)), Ok(settings));
        }

        #[test]
        fn no_body_of_a_tool_panics(body: Vec<u8>, text in r#"[{}\[\]":,\\a-u0-1 =\n]{0,60}"#) {
            for bytes in [&body[..], text.as_bytes()] {
                let _read = configuration::read(bytes);
                let _read = TopicStatsTable::decode(bytes);
                let _read = BrokerConsumeStats::decode(bytes);
                let _read = ResetOffsets::decode(bytes);
                let _read = ConsumerStatus::decode(bytes);
                let _read = ConsumerConnection::decode(bytes);
            }
        }
    }
}
