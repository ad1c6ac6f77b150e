//! The requests of the operator's tools, answered by a whole broker in one thread on a simulated disk.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod admin {
    pub(super) mod bench;
}
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use admin::bench::{Bench, NOW_MS};
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::connections::{ConsumerConnection, ProducerConnection, ProducerTable};
use skylark_protocol::command::groups::SubscriptionGroupConfig;
use skylark_protocol::command::locks::MessageQueue;
use skylark_protocol::command::offset_tables::ConsumerOffsets;
use skylark_protocol::command::query::ConsumeQueueEntries;
use skylark_protocol::command::reset::ResetOffsets;
use skylark_protocol::command::route::TopicList;
use skylark_protocol::command::stats::{
    BrokerConsumeStats, BrokerStatsData, ConsumeOffset, ConsumeStats, TopicOffset, TopicStatsTable,
};
use skylark_protocol::command::subscribers::{ConsumeTimeSpans, GroupList, SubscriptionOfGroup};
use skylark_protocol::command::topics::TopicConfig;
use skylark_protocol::command::{configuration, kv::KvTable};
use skylark_protocol::header::Language;
use skylark_protocol::outgoing::Value;
use support::raw::{pull_fields, send_fields};

const HEARTBEAT: &[u8] = br#"{"clientID":"c@1","producerDataSet":[{"groupName":"P"}],"consumerDataSet":[{
    "groupName":"G","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",
    "consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[
        {"topic":"T","subString":"TagA || TagB","subVersion":7,"expressionType":"TAG"},
        {"topic":"%RETRY%G","subString":"*","subVersion":7}]}]}"#;

fn queue(topic: &str, number: i32) -> MessageQueue {
    MessageQueue { broker_name: "broker-a".to_owned(), queue_id: number, topic: topic.to_owned() }
}

fn topic(name: &str) -> [(&'static str, Value<'_>); 1] {
    [("topic", Value::Text(name))]
}

fn group(name: &str) -> [(&'static str, Value<'_>); 1] {
    [("group", Value::Text(name))]
}

fn consumer_group(name: &str) -> [(&'static str, Value<'_>); 1] {
    [("consumerGroup", Value::Text(name))]
}

/// Three messages, a second apart, of which the group has pulled all and consumed two.
fn with_messages() -> Bench {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.send("T", 0);
        bench.advance(Duration::from_secs(1));
    }
    bench.ok(Code::HEART_BEAT, &[], HEARTBEAT);
    bench.pull("G", "T", 0, 0);
    bench.commit("G", "T", 0, 2);
    bench
}

#[test]
fn a_topic_says_where_its_queues_begin_and_end_and_when_they_changed() {
    let mut bench = with_messages();
    let table =
        TopicStatsTable::decode(&bench.ok(Code::GET_TOPIC_STATS_INFO, &topic("T"), b"").body).unwrap();
    let full = TopicOffset { last_update_timestamp: NOW_MS + 2000, max_offset: 3, min_offset: 0 };
    let expected =
        (0..4).map(|number| (queue("T", number), if number == 0 { full } else { TopicOffset::default() }));
    assert_eq!(table.offset_table, expected.collect());
    assert!(table.topic_put_tps > 0.0);
    assert_eq!(bench.call(Code::GET_TOPIC_STATS_INFO, &topic("nowhere"), b"").code, 17);
}

#[test]
fn a_group_says_how_far_it_has_pulled_and_consumed() {
    let mut bench = with_messages();
    let stats = |bench: &mut Bench, more: &[(&'static str, Value<'_>)]| {
        let fields = [&consumer_group("G")[..], more].concat();
        ConsumeStats::decode(&bench.ok(Code::GET_CONSUME_STATS, &fields, b"").body).unwrap()
    };
    let all = stats(&mut bench, &[]);
    let row = ConsumeOffset {
        broker_offset: 3,
        consumer_offset: 2,
        last_timestamp: i64::try_from(NOW_MS).unwrap() + 1000,
        pull_offset: 3,
    };
    assert_eq!(all.offset_table[&queue("T", 0)], row);
    assert_eq!(all.offset_table[&queue("T", 3)], ConsumeOffset::default());
    assert_eq!(all.offset_table.len(), 4);
    assert!(all.consume_tps > 0.0);
    assert_eq!(stats(&mut bench, &[("topic", Value::Text("T"))]), all);
    // A topic that the members do not subscribe to tells nothing of them, unless it is asked for by list.
    bench.send("other", 0);
    assert_eq!(stats(&mut bench, &[("topic", Value::Text("other"))]), ConsumeStats::default());
    let listed = stats(&mut bench, &[("topicList", Value::Text("other;nowhere;"))]);
    assert_eq!(listed.offset_table.keys().next(), Some(&queue("other", 0)));
    let unknown = bench.ok(Code::GET_CONSUME_STATS, &consumer_group("nobody"), b"");
    assert_eq!(ConsumeStats::decode(&unknown.body).unwrap(), ConsumeStats::default());

    let whole = bench.ok(Code::GET_BROKER_CONSUME_STATS, &[("isOrder", Value::Flag(false))], b"");
    let whole = BrokerConsumeStats::decode(&whole.body).unwrap();
    assert_eq!(
        (whole.broker_addr.as_str(), whole.total_diff, whole.total_inflight_diff),
        ("127.0.0.1:10911", 1, 1)
    );
    let of_group = whole.consume_stats_list.iter().find_map(|groups| groups.get("G")).unwrap();
    assert_eq!(of_group, &[all]);
    assert!(whole.consume_stats_list.iter().any(|groups| groups.contains_key("TOOLS_CONSUMER")));
    let ordered = bench.ok(Code::GET_BROKER_CONSUME_STATS, &[("isOrder", Value::Flag(true))], b"");
    assert_eq!(BrokerConsumeStats::decode(&ordered.body).unwrap().total_diff, 0);
}

#[test]
fn time_spans_tell_how_long_the_next_message_has_been_waiting() {
    let mut bench = with_messages();
    let fields = [&topic("T")[..], &group("G")].concat();
    let spans =
        ConsumeTimeSpans::decode(&bench.ok(Code::QUERY_CONSUME_TIME_SPAN, &fields, b"").body).unwrap();
    let now = i64::try_from(NOW_MS).unwrap();
    let span = &spans.spans[0];
    assert_eq!(
        (span.min_timestamp, span.consume_timestamp, span.max_timestamp, span.delay_ms),
        (now, now + 1000, now + 2000, 1000)
    );
    let empty = &spans.spans[1];
    assert_eq!((empty.min_timestamp, empty.max_timestamp, empty.delay_ms), (-1, -1, 0));
    let nowhere = [&topic("nowhere")[..], &group("G")].concat();
    assert_eq!(bench.call(Code::QUERY_CONSUME_TIME_SPAN, &nowhere, b"").code, 17);
}

#[test]
fn connections_are_listed_with_all_that_a_heartbeat_said() {
    let mut bench = with_messages();
    let found = bench.ok(Code::GET_CONSUMER_CONNECTION_LIST, &consumer_group("G"), b"");
    let body = std::str::from_utf8(&found.body).unwrap();
    for part in [
        r#""consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING""#,
        r#""T":{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB","subVersion":7,"tagsSet":["TagA","TagB"],"topic":"T"}"#,
        r#""%RETRY%G":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*""#,
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    let found = ConsumerConnection::decode(&found.body).unwrap();
    let [connection] = &found.connection_set[..] else { panic!("{found:?}") };
    assert_eq!((connection.client_id.as_str(), connection.client_addr.as_str()), ("c@1", "10.0.0.1:5"));
    assert_eq!(connection.language, Language::Java);
    assert_eq!(bench.call(Code::GET_CONSUMER_CONNECTION_LIST, &consumer_group("nobody"), b"").code, 206);

    let of = |name| [("producerGroup", Value::Text(name))];
    let found = bench.ok(Code::GET_PRODUCER_CONNECTION_LIST, &of("P"), b"");
    let producers = ProducerConnection::decode(&found.body).unwrap().connection_set;
    assert_eq!(producers, std::slice::from_ref(connection));
    assert_eq!(bench.call(Code::GET_PRODUCER_CONNECTION_LIST, &of("nobody"), b"").code, 1);
    bench.advance(Duration::from_secs(9));
    let found = bench.ok(Code::GET_ALL_PRODUCER_INFO, &[], b"");
    let found = ProducerTable::decode(&found.body).unwrap();
    let producer = &found.data["P"][0];
    assert_eq!(producer.remote_address, "10.0.0.1:5");
    assert_eq!(producer.last_update_timestamp, i64::try_from(NOW_MS).unwrap() + 3000);
}

#[test]
fn groups_and_topics_find_each_other() {
    let mut bench = with_messages();
    bench.pull("once", "T", 0, 0);
    bench.commit("once", "T", 0, 1);
    let groups =
        GroupList::decode(&bench.ok(Code::QUERY_TOPIC_CONSUME_BY_WHO, &topic("T"), b"").body).unwrap();
    assert_eq!(groups.group_list, BTreeSet::from(["G", "once"].map(str::to_owned)));
    let topics =
        TopicList::decode(&bench.ok(Code::QUERY_TOPICS_BY_CONSUMER, &group("once"), b"").body).unwrap();
    assert_eq!(
        (topics.topic_list, topics.broker_addr.as_deref()),
        (vec!["T".to_owned()], Some("127.0.0.1:10911"))
    );
    let subscription = |bench: &mut Bench, topic_name, group_name| {
        let fields = [&topic(topic_name)[..], &group(group_name)].concat();
        let found = bench.ok(Code::QUERY_SUBSCRIPTION_BY_CONSUMER, &fields, b"");
        SubscriptionOfGroup::decode(&found.body).unwrap().subscription_data
    };
    assert_eq!(subscription(&mut bench, "T", "G").unwrap().expression, "TagA || TagB");
    assert_eq!(subscription(&mut bench, "T", "once"), None);

    let offsets = ConsumerOffsets::decode(&bench.ok(Code::GET_ALL_CONSUMER_OFFSET, &[], b"").body).unwrap();
    let of = |name: &str| offsets.offset_table[name][&0];
    assert_eq!((of("T@G"), of("T@once"), offsets.offset_table.len()), (2, 1, 2));
}

#[test]
fn figures_show_what_came_and_went() {
    let mut bench = with_messages();
    let mut figure = |name, key| {
        let fields = [("statsName", Value::Text(name)), ("statsKey", Value::Text(key))];
        let answer = bench.call(Code::VIEW_BROKER_STATS_DATA, &fields, b"");
        (answer.code == 0).then(|| BrokerStatsData::decode(&answer.body).unwrap())
    };
    for (name, key, sum) in [
        ("TOPIC_PUT_NUMS", "T", 3),
        ("GROUP_GET_NUMS", "T@G", 3),
        ("GROUP_GET_LATENCY", "T@G", 0),
        ("BROKER_PUT_NUMS", "DefaultCluster", 3),
        ("BROKER_GET_NUMS", "DefaultCluster", 3),
    ] {
        let data = figure(name, key).unwrap_or_else(|| panic!("no {name} of {key}"));
        for item in [data.stats_minute, data.stats_hour, data.stats_day] {
            assert_eq!((item.sum, item.tps > 0.0), (sum, sum > 0), "{name}");
        }
    }
    assert!(figure("TOPIC_PUT_SIZE", "T").unwrap().stats_day.avgpt > 90.0);
    assert!(figure("GROUP_GET_SIZE", "T@G").unwrap().stats_day.sum > 270);
    for (name, key) in [
        ("TOPIC_PUT_NUMS", "nowhere"),
        ("GROUP_GET_NUMS", "T@nobody"),
        ("GROUP_GET_NUMS", "T"),
        ("SNDBCK_PUT_NUMS", "T@G"),
        ("BROKER_PUT_NUMS", "other"),
        ("NO_FIGURE", "T"),
    ] {
        assert_eq!(figure(name, key), None, "{name} of {key}");
    }
}

#[test]
fn a_consume_queue_can_be_looked_into() {
    let mut bench = with_messages();
    let fields = |number: i32, index: i64, count: i32| {
        let mut fields = topic("T").to_vec();
        fields.extend([("queueId", number.into()), ("index", index.into()), ("count", count.into())]);
        fields
    };
    let found = bench.ok(Code::QUERY_CONSUME_QUEUE, &fields(0, 1, 10), b"");
    let found = ConsumeQueueEntries::decode(&found.body).unwrap();
    assert_eq!((found.min_queue_index, found.max_queue_index, found.queue_data.len()), (0, 3, 2));
    assert!(found.queue_data[0].physic_offset < found.queue_data[1].physic_offset);
    let mut with_group = fields(0, 0, 1);
    with_group.extend(consumer_group("G"));
    let found = bench.ok(Code::QUERY_CONSUME_QUEUE, &with_group, b"");
    let found = ConsumeQueueEntries::decode(&found.body).unwrap();
    assert_eq!((found.queue_data.len(), found.subscription_data.unwrap().version), (1, 7));
    for index in [-1, 3, 99] {
        let found = bench.ok(Code::QUERY_CONSUME_QUEUE, &fields(0, index, 10), b"");
        assert_eq!(ConsumeQueueEntries::decode(&found.body).unwrap().queue_data, []);
    }
    assert_eq!(bench.call(Code::QUERY_CONSUME_QUEUE, &fields(4, 0, 1), b"").code, 1);
}

#[test]
fn lists_are_put_as_a_whole_or_not_at_all() {
    let mut bench = Bench::new();
    let config = |name: &str| format!(r#"{{"topicName":"{name}","attributes":{{"+message.type":"FIFO"}}}}"#);
    let list = |names: [&str; 3]| format!(r#"{{"topicConfigList":[{}]}}"#, names.map(config).join(","));
    let refused = bench.call(Code::UPDATE_AND_CREATE_TOPIC_LIST, &[], list(["a", "b", "TBW102"]).as_bytes());
    assert_eq!(refused.code, 29);
    assert_eq!(bench.call(Code::GET_TOPIC_CONFIG, &topic("a"), b"").code, 17);
    bench.ok(Code::UPDATE_AND_CREATE_TOPIC_LIST, &[], list(["a", "b", "a"]).as_bytes());
    for name in ["a", "b"] {
        let made = TopicConfig::decode(&bench.ok(Code::GET_TOPIC_CONFIG, &topic(name), b"").body).unwrap();
        assert_eq!((made.write_queue_nums, made.attributes["message.type"].as_str()), (16, "FIFO"));
    }
    bench.ok(Code::UPDATE_AND_CREATE_TOPIC_LIST, &[], br#"{"topicConfigList":[]}"#);

    let refused = br#"{"groupConfigList":[{"groupName":"one"},{"groupName":"no blanks"}]}"#;
    assert_eq!(bench.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, &[], refused).code, 29);
    assert_eq!(bench.call(Code::GET_SUBSCRIPTIONGROUP_CONFIG, &group("one"), b"").code, 26);
    let good = br#"{"groupConfigList":[{"groupName":"one","retryMaxTimes":3},{"groupName":"two"}]}"#;
    bench.ok(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, &[], good);
    for (name, times) in [("one", 3), ("two", 16)] {
        let made = bench.ok(Code::GET_SUBSCRIPTIONGROUP_CONFIG, &group(name), b"");
        assert_eq!(SubscriptionGroupConfig::decode(&made.body).unwrap().retry_max_times, times);
    }
}

#[test]
fn the_configuration_is_shown_and_what_cannot_be_changed_is_refused_by_name() {
    let mut bench = Bench::new();
    let answer = bench.ok(Code::GET_BROKER_CONFIG, &[], b"");
    assert!(answer.fields["version"].contains(r#""counter":0"#), "{answer:?}");
    let settings = configuration::read(&answer.body).unwrap();
    for (key, value) in [
        ("brokerName", "broker-a"),
        ("brokerClusterName", "DefaultCluster"),
        ("brokerRole", "ASYNC_MASTER"),
        ("flushDiskType", "SYNC_FLUSH"),
        ("listenPort", "10911"),
        ("maxMessageSize", "4194304"),
        ("fileReservedTime", "72"),
        ("messageDelayLevel", "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"),
    ] {
        assert!(settings.contains(&(key.to_owned(), value.to_owned())), "{key}: {settings:?}");
    }
    bench.ok(Code::UPDATE_BROKER_CONFIG, &[], b"");
    bench.ok(Code::UPDATE_BROKER_CONFIG, &[], b"flushDiskType=SYNC_FLUSH\n");
    for (body, code, named) in [
        ("maxMessageSize=1", 29, "maxMessageSize"),
        ("brokerNmae=a", 29, "brokerNmae"),
        ("rocketmqHome=/", 16, ""),
    ] {
        let answer = bench.call(Code::UPDATE_BROKER_CONFIG, &[], body.as_bytes());
        assert_eq!(answer.code, code, "{body}");
        assert!(answer.remark.contains(named), "{body}: {}", answer.remark);
    }
}

#[test]
fn the_runtime_table_has_every_key_that_tools_read() {
    let mut bench = with_messages();
    let table = KvTable::decode(&bench.ok(Code::GET_BROKER_RUNTIME_INFO, &[], b"").body).unwrap().table;
    for key in [
        "brokerVersionDesc",
        "brokerActive",
        "bootTimestamp",
        "runtime",
        "pageCacheLockTimeMills",
        "earliestMessageTimeStamp",
        "commitLogDiskRatio",
        "consumeQueueDiskRatio",
        "timerReadBehind",
        "timerOffsetBehind",
        "timerCongestNum",
        "timerEnqueueTps",
        "timerDequeueTps",
        "putMessageAverageSize",
        "commitLogMinOffset",
        "commitLogMaxOffset",
        "putMessageTimesTotal",
        "putMessageSizeTotal",
        "putMessageFailedTimes",
        "dispatchBehindBytes",
        "remainHowManyDataToFlush",
        "remainTransientStoreBufferNumbs",
        "commitLogDirCapacity",
        "dispatchMaxBuffer",
        "putMessageEntireTimeMax",
        "putMessageDistributeTime",
        "getMessageEntireTimeMax",
        "putLatency99",
        "putLatency999",
        "startAcceptSendRequestTimeStamp",
        "EndTransactionQueueSize",
        "EndTransactionThreadPoolQueueCapacity",
        "sendThreadPoolQueueHeadWaitTimeMills",
    ] {
        assert!(table.contains_key(key), "{key} is missing");
    }
    assert!(table["putMessageDistributeTime"].starts_with("[<=0ms]:3 "), "{table:?}");
    for key in ["putTps", "getTotalTps", "getFoundTps", "getMissTps", "getTransferredTps"] {
        let triple: Vec<f64> = table[key].split(' ').map(|rate| rate.parse().unwrap()).collect();
        assert_eq!(triple.len(), 3, "{key}");
    }
    assert_eq!((table["msgPutTotalTodayNow"].as_str(), table["msgGetTotalTodayNow"].as_str()), ("3", "3"));
}

#[test]
fn a_lone_master_says_so() {
    let mut bench = with_messages();
    let body = bench.ok(Code::GET_BROKER_HA_STATUS, &[], b"").body;
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&status["master"], &status["inSyncSlaveNums"]), (&true.into(), &0.into()));
    assert!(status["masterCommitLogMaxOffset"].as_u64().unwrap() > 0);
    assert!(
        status["haConnectionInfo"].as_array().unwrap().is_empty()
            && status["haClientRuntimeInfo"].is_object()
    );
}

#[test]
fn a_full_disk_refuses_sends_with_its_numbers_until_there_is_room() {
    let mut bench = with_messages();
    // A tebibyte, of which a twentieth is left.
    bench.leave_space(Some((1 << 40) / 20));
    let refused = bench.call(Code::SEND_MESSAGE_V2, &send_fields("T", 0, ""), b"body");
    assert_eq!(refused.code, 14);
    assert!(
        refused.remark.contains("95.0 % full") && refused.remark.contains("above 90 %"),
        "{}",
        refused.remark
    );
    bench.commit("G", "T", 0, 3);
    bench.pull("G", "T", 0, 0);
    bench.leave_space(None);
    bench.send("T", 0);
}

#[test]
fn a_reset_stands_until_a_pull_has_been_sent_there() {
    let mut bench = with_messages();
    let reset = [
        ("topic", Value::Text("T")),
        ("group", Value::Text("G")),
        ("timestamp", Value::Number(i64::try_from(NOW_MS).unwrap() + 1000)),
        ("isForce", Value::Flag(true)),
    ];
    let body = bench.ok(Code::INVOKE_BROKER_TO_RESET_OFFSET, &reset, b"").body;
    let table = ResetOffsets::decode(&body).unwrap().offset_table;
    assert_eq!(table[&queue("T", 0)], 1);
    let committed = |bench: &mut Bench| {
        let fields = [consumer_group("G")[0], topic("T")[0], ("queueId", Value::Number(0))];
        bench.ok(Code::QUERY_CONSUMER_OFFSET, &fields, b"").fields["offset"].clone()
    };
    bench.commit("G", "T", 0, 3);
    assert_eq!(committed(&mut bench), "1", "a consumer that does not know of it changes nothing");
    let moved = bench.call(Code::PULL_MESSAGE, &pull_fields("G", "T", 0, 3), b"");
    assert_eq!((moved.code, moved.fields["nextBeginOffset"].as_str()), (21, "1"));
    bench.pull("G", "T", 0, 1);
    bench.commit("G", "T", 0, 2);
    assert_eq!(committed(&mut bench), "2");

    let nobody = [reset[0], ("group", Value::Text("nobody")), reset[2], reset[3]];
    assert_eq!(bench.call(Code::INVOKE_BROKER_TO_RESET_OFFSET, &nobody, b"").code, 26);
    let beyond = [reset[0], reset[1], reset[2], reset[3], ("queueId", 0.into()), ("offset", 9.into())];
    let refused = bench.call(Code::INVOKE_BROKER_TO_RESET_OFFSET, &beyond, b"");
    assert_eq!(
        (refused.code, refused.remark.as_str()),
        (1, "Target offset 9 not in consume queue range [0-3]")
    );
}

#[test]
fn cleaning_finds_nothing_left() {
    let mut bench = Bench::new();
    bench.ok(Code::CLEAN_EXPIRED_CONSUMEQUEUE, &[], b"");
    bench.ok(Code::CLEAN_UNUSED_TOPIC, &[], b"");
}
