use std::sync::Arc;

use bytes::BytesMut;
use skylark_protocol::command::kv::KvTable;
use skylark_protocol::command::route::{ClusterInfo, TopicList};
use skylark_protocol::command::topics::TopicConfig;
use skylark_protocol::frame::{self, FRAME_BYTES_MAX};
use skylark_protocol::transport::Mailbox;
use skylark_protocol::{Encoding, Outgoing, Value};
use skylark_storage::device::simulated::Disk;

use super::*;
use crate::{FileJournal, KvJournal, KvTables};

/// A nameserver that is asked by one connection at a time of the test's choosing.
struct Asked {
    server: NameServer,
    connection: Connection,
    now: Duration,
}

impl Asked {
    fn new() -> Self {
        Self { server: NameServer::new([]), connection: Arc::new(Mailbox::new(1)), now: Duration::ZERO }
    }

    fn ask(&self, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let fields: Vec<_> = fields.iter().map(|&(name, value)| (name, Value::from(value))).collect();
        let mut wire = BytesMut::new();
        let encoding = Encoding::Json;
        Outgoing { encoding, code: code.0, opaque: 1, flag: 0, remark: None, fields: &fields }
            .write(0, &mut wire);
        let (frame, _) = frame::decode(&wire, FRAME_BYTES_MAX).unwrap().unwrap();
        match self.server.answer(&frame.parse().unwrap(), body, &self.connection, self.now) {
            Outcome::Answered(answer) => answer,
            Outcome::Later(_) => panic!("nothing is recorded later here"),
        }
    }

    fn register(&self, broker: &Broker<'_>) -> Answer {
        self.ask(RequestCode::REGISTER_BROKER, &broker.fields(), &broker.body().encode())
    }

    fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let answer = self.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)], b"");
        match answer.code {
            ResponseCode::SUCCESS => Some(TopicRouteData::decode(&answer.body).unwrap()),
            code => {
                assert_eq!(code, ResponseCode::TOPIC_NOT_EXIST);
                None
            }
        }
    }

    /// Queues and permission of a topic on broker-a.
    fn queues(&self, topic: &str) -> Option<(i32, i32)> {
        self.route(topic).map(|route| (route.queue_datas[0].write_queue_nums, route.queue_datas[0].perm))
    }

    fn topics(&self, code: RequestCode, fields: &[(&str, &str)]) -> Vec<String> {
        TopicList::decode(&self.ask(code, fields, b"").body).unwrap().topic_list
    }

    fn addresses(&self) -> Vec<(i64, String)> {
        let body = self.ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[], b"").body;
        let info = ClusterInfo::decode(&body).unwrap();
        info.broker_addr_table.into_values().flat_map(|data| data.broker_addrs).collect()
    }
}

/// A broker called broker-a.
#[derive(Clone)]
struct Broker<'a> {
    id: &'a str,
    address: &'a str,
    acting: Option<&'a str>,
    timeout_ms: Option<&'a str>,
    version: (i64, i64),
    topics: &'a [(&'a str, i32)],
}

const LEADER: Broker<'static> = Broker {
    id: "0",
    address: "10.0.0.1:10911",
    acting: Some("false"),
    timeout_ms: None,
    version: (0, 1),
    topics: &[("TBW102", 8), ("TopicTest", 4)],
};

const FOLLOWER: Broker<'static> = Broker { id: "1", address: "10.0.0.2:10911", ..LEADER };

impl<'a> Broker<'a> {
    fn fields(&self) -> Vec<(&'a str, &'a str)> {
        let mut fields = vec![
            ("brokerName", "broker-a"),
            ("clusterName", "DefaultCluster"),
            ("brokerId", self.id),
            ("brokerAddr", self.address),
            ("haServerAddr", if self.id == "0" { "10.0.0.1:10912" } else { "10.0.0.2:10912" }),
        ];
        fields.extend(self.acting.map(|acting| ("enableActingMaster", acting)));
        fields.extend(self.timeout_ms.map(|timeout| ("heartbeatTimeoutMillis", timeout)));
        fields
    }

    fn body(&self) -> RegisterBrokerBody {
        let mut body = RegisterBrokerBody::default();
        let (state_version, counter) = self.version;
        body.topics.data_version = DataVersion { counter, state_version, timestamp: 0 };
        for &(name, queues) in self.topics {
            let config = TopicConfig {
                topic_name: name.to_owned(),
                read_queue_nums: queues,
                write_queue_nums: queues,
                ..TopicConfig::default()
            };
            body.topics.topic_config_table.insert(name.to_owned(), config);
        }
        body
    }
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[test]
fn a_registered_broker_has_routes_in_rocketmq_s_text() {
    let asked = Asked::new();
    assert_eq!(asked.route("TopicTest"), None);
    assert_eq!(asked.register(&LEADER), Answer::success());
    let route = asked.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "TopicTest")], b"");
    assert_eq!(
        text(&route),
        concat!(
            r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"broker-a","#,
            r#""cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"#,
            r#""queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"#,
            r#""writeQueueNums":4}]}"#
        )
    );
    let cluster = asked.ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[], b"");
    assert_eq!(
        text(&cluster),
        concat!(
            r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{"0":"10.0.0.1:10911"},"#,
            r#""brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},"#,
            r#""clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#
        )
    );
    let topics = asked.ask(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[], b"");
    assert_eq!(text(&topics), r#"{"topicList":["TBW102","TopicTest"]}"#);
    let system = asked.ask(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[], b"");
    assert_eq!(text(&system), r#"{"brokerAddr":"10.0.0.1:10911","topicList":["DefaultCluster","broker-a"]}"#);
    let group = [("clusterName", "DefaultCluster"), ("brokerName", "broker-a")];
    assert_eq!(
        text(&asked.ask(RequestCode::GET_BROKER_MEMBER_GROUP, &group, b"")),
        concat!(
            r#"{"brokerMemberGroup":{"brokerAddrs":{"0":"10.0.0.1:10911"},"#,
            r#""brokerName":"broker-a","cluster":"DefaultCluster"}}"#
        )
    );
}

#[test]
fn topics_are_taken_over_when_their_version_changes() {
    let asked = Asked::new();
    asked.register(&LEADER);
    asked.register(&Broker { topics: &[("TopicTest", 9), ("New", 1)], ..LEADER });
    assert_eq!((asked.queues("TopicTest"), asked.queues("New")), (Some((4, 6)), Some((1, 6))));
    asked.register(&Broker { topics: &[("TopicTest", 9)], version: (0, 2), ..LEADER });
    assert_eq!(asked.queues("TopicTest"), Some((9, 6)));
    // What a later registration leaves out stays.
    assert_eq!((asked.queues("TBW102"), asked.queues("New")), (Some((8, 6)), Some((1, 6))));
}

#[test]
fn one_topic_of_an_unknown_broker_comes_too_early() {
    let asked = Asked::new();
    let refused = asked.register(&Broker { topics: &[("TopicTest", 4)], ..LEADER });
    assert_eq!(refused, Answer::refusal(ResponseCode::SYSTEM_ERROR, "register broker failed"));
    assert_eq!(asked.addresses(), []);
}

#[test]
fn a_follower_hears_of_its_leader() {
    let asked = Asked::new();
    assert_eq!(asked.register(&FOLLOWER).fields, []);
    asked.register(&LEADER);
    let leader = [("masterAddr", "10.0.0.1:10911"), ("haServerAddr", "10.0.0.1:10912")];
    assert_eq!(asked.register(&FOLLOWER).fields, leader.map(|(name, value)| (name, value.to_owned())));
    let addresses = [(0, "10.0.0.1:10911".to_owned()), (1, "10.0.0.2:10911".to_owned())];
    assert_eq!(asked.addresses(), addresses);
    // Its topics do not count while there is a leader.
    asked.register(&Broker { topics: &[("A", 1), ("B", 1)], version: (0, 9), ..FOLLOWER });
    assert_eq!(asked.queues("A"), None);
}

#[test]
fn an_acting_leader_is_read_only() {
    let asked = Asked::new();
    let (leader, follower) =
        (Broker { acting: Some("true"), ..LEADER }, Broker { acting: Some("true"), ..FOLLOWER });
    asked.register(&leader);
    asked.register(&follower);
    asked.ask(RequestCode::UNREGISTER_BROKER, &leader.fields(), b"");
    assert_eq!(asked.queues("TopicTest"), Some((4, 4)));
    asked.register(&Broker { version: (0, 2), topics: &[("TopicTest", 5)], ..follower });
    assert_eq!(asked.queues("TopicTest"), Some((5, 4)));
    // Brokers before 5.0 do not stand in.
    let old = Asked::new();
    old.register(&Broker { acting: None, ..FOLLOWER });
    assert_eq!((old.addresses().len(), old.queues("TopicTest")), (1, None));
}

#[test]
fn an_address_that_changes_roles_keeps_one_id() {
    let asked = Asked::new();
    asked.register(&FOLLOWER);
    asked.register(&Broker { id: "0", ..FOLLOWER });
    assert_eq!(asked.addresses(), [(0, "10.0.0.2:10911".to_owned())]);
}

#[test]
fn the_later_state_holds_the_place() {
    let asked = Asked::new();
    asked.register(&Broker { version: (2, 1), ..LEADER });
    let late = Broker { address: "10.0.0.9:10911", ..LEADER };
    assert_eq!(asked.register(&Broker { version: (1, 5), ..late.clone() }), Answer::success());
    assert_eq!(asked.addresses(), [(0, "10.0.0.1:10911".to_owned())]);
    asked.register(&Broker { version: (2, 0), ..late });
    assert_eq!(asked.addresses(), [(0, "10.0.0.9:10911".to_owned())]);
}

#[test]
fn a_broker_that_goes_takes_its_topics_along() {
    let asked = Asked::new();
    asked.register(&LEADER);
    asked.register(&FOLLOWER);
    asked.ask(RequestCode::UNREGISTER_BROKER, &LEADER.fields(), b"");
    assert_eq!(asked.queues("TopicTest"), Some((4, 6)));
    asked.ask(RequestCode::UNREGISTER_BROKER, &FOLLOWER.fields(), b"");
    assert_eq!((asked.queues("TopicTest"), asked.addresses().len()), (None, 0));
    assert_eq!(
        text(&asked.ask(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[], b"")),
        r#"{"topicList":[]}"#
    );
    let cluster = asked.ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[], b"");
    assert_eq!(text(&cluster), r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#);
}

#[test]
fn silence_ends_a_registration() {
    let mut asked = Asked::new();
    let second = Duration::from_secs(1);
    asked.register(&Broker { timeout_ms: Some("10000"), ..LEADER });
    asked.register(&FOLLOWER);
    assert_eq!(asked.server.tick(10 * second), []);
    asked.now = 9 * second;
    asked.ask(RequestCode::BROKER_HEARTBEAT, &LEADER.fields(), b"");
    assert_eq!(asked.server.tick(19 * second), []);
    asked.now = 19 * second;
    asked.ask(RequestCode::QUERY_DATA_VERSION, &LEADER.fields(), &DataVersion::default().encode());
    assert_eq!(asked.server.tick(29 * second), []);
    assert_eq!(asked.server.tick(30 * second).len(), 1);
    assert_eq!(asked.addresses(), [(1, "10.0.0.2:10911".to_owned())]);
    // The default is two minutes.
    assert_eq!(asked.server.tick(120 * second), []);
    assert_eq!(asked.server.tick(121 * second).len(), 1);
    assert_eq!(asked.addresses(), []);
}

#[test]
fn versions_of_topics_are_compared() {
    let asked = Asked::new();
    let ask = |version: DataVersion| {
        asked.ask(RequestCode::QUERY_DATA_VERSION, &LEADER.fields(), &version.encode())
    };
    let version = LEADER.body().topics.data_version;
    assert_eq!(ask(version), Answer::field("changed", true));
    asked.register(&LEADER);
    let known = version.encode();
    assert_eq!(ask(version), Answer { body: known.clone().into(), ..Answer::field("changed", false) });
    let changed = Answer { body: known.into(), ..Answer::field("changed", true) };
    assert_eq!(ask(DataVersion { timestamp: 1, ..version }), changed);
    assert_eq!(asked.ask(RequestCode::QUERY_DATA_VERSION, &LEADER.fields(), b""), changed);
}

#[test]
fn compressed_registrations_are_taken_and_wrong_checksums_refused() {
    let asked = Asked::new();
    let body = LEADER.body().encode_compressed();
    let crc = body_crc(&body).to_string();
    let ask = |crc: &str| {
        let fields = [LEADER.fields(), vec![("compressed", "true"), ("bodyCrc32", crc)]].concat();
        asked.ask(RequestCode::REGISTER_BROKER, &fields, &body)
    };
    assert_eq!(ask("1"), Answer::refusal(ResponseCode::SYSTEM_ERROR, "crc32 not match"));
    assert_eq!(asked.addresses(), []);
    assert_eq!(ask(&crc), Answer::success());
    assert_eq!(asked.queues("TopicTest"), Some((4, 6)));
}

#[test]
fn routes_of_static_topics_tell_where_their_queues_are() {
    let asked = Asked::new();
    let mut body = LEADER.body();
    let mapping = serde_json::json!({"bname": "broker-a", "currIdMap": {"0": 1}, "topic": "TopicTest"});
    body.topics.topic_queue_mapping_info_map.insert("TopicTest".to_owned(), mapping.clone());
    let fields = [LEADER.fields(), vec![("compressed", "true")]].concat();
    asked.ask(RequestCode::REGISTER_BROKER, &fields, &body.encode_compressed());
    let told = asked.route("TopicTest").unwrap().topic_queue_mapping_by_broker;
    assert_eq!(told, Some([("broker-a".to_owned(), mapping)].into()));
    assert_eq!(asked.route("TBW102").unwrap().topic_queue_mapping_by_broker, None);
    asked.ask(RequestCode::UNREGISTER_BROKER, &LEADER.fields(), b"");
    asked.register(&LEADER);
    assert_eq!(asked.route("TopicTest").unwrap().topic_queue_mapping_by_broker, None);
}

#[test]
fn a_broker_s_topics_can_be_closed_to_producers() {
    let asked = Asked::new();
    asked.register(&LEADER);
    let name = [("brokerName", "broker-a")];
    let wiped = asked.ask(RequestCode::WIPE_WRITE_PERM_OF_BROKER, &name, b"");
    assert_eq!(wiped, Answer::field("wipeTopicCount", 2));
    assert_eq!(asked.queues("TopicTest"), Some((4, 4)));
    let added = asked.ask(RequestCode::ADD_WRITE_PERM_OF_BROKER, &name, b"");
    assert_eq!(added, Answer::field("addTopicCount", 2));
    assert_eq!(asked.queues("TopicTest"), Some((4, 6)));
    let nobody = asked.ask(RequestCode::ADD_WRITE_PERM_OF_BROKER, &[("brokerName", "x")], b"");
    assert_eq!(nobody, Answer::field("addTopicCount", 0));
}

#[test]
fn topics_can_be_added_and_deleted() {
    let asked = Asked::new();
    asked.register(&LEADER);
    let route =
        br#"{"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":2,"writeQueueNums":2}]}"#;
    asked.ask(RequestCode::REGISTER_TOPIC_IN_NAMESRV, &[("topic", "Added")], route);
    assert_eq!(asked.queues("Added"), Some((2, 6)));
    let route = br#"{"queueDatas":[{"brokerName":"broker-x"}]}"#;
    asked.ask(RequestCode::REGISTER_TOPIC_IN_NAMESRV, &[("topic", "Stray")], route);
    assert_eq!(
        asked.topics(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]),
        ["Added", "TBW102", "TopicTest"]
    );
    asked.ask(RequestCode::DELETE_TOPIC_IN_NAMESRV, &[("topic", "Added"), ("clusterName", "other")], b"");
    assert_eq!(asked.queues("Added"), Some((2, 6)));
    asked.ask(
        RequestCode::DELETE_TOPIC_IN_NAMESRV,
        &[("topic", "Added"), ("clusterName", "DefaultCluster")],
        b"",
    );
    asked.ask(RequestCode::DELETE_TOPIC_IN_NAMESRV, &[("topic", "TBW102"), ("clusterName", "")], b"");
    let cluster = [("cluster", "DefaultCluster")];
    assert_eq!(asked.topics(RequestCode::GET_TOPICS_BY_CLUSTER, &cluster), ["TopicTest"]);
    assert!(asked.topics(RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "other")]).is_empty());
}

#[test]
fn topics_of_units_are_listed_by_their_flags() {
    let asked = Asked::new();
    let mut body = LEADER.body();
    for (name, topic_sys_flag) in [("unit", 1), ("subscribed", 2), ("both", 3)] {
        let config = TopicConfig { topic_name: name.to_owned(), topic_sys_flag, ..TopicConfig::default() };
        body.topics.topic_config_table.insert(name.to_owned(), config);
    }
    asked.ask(RequestCode::REGISTER_BROKER, &LEADER.fields(), &body.encode());
    assert_eq!(asked.topics(RequestCode::GET_UNIT_TOPIC_LIST, &[]), ["both", "unit"]);
    assert_eq!(asked.topics(RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST, &[]), ["both", "subscribed"]);
    assert_eq!(asked.topics(RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, &[]), ["subscribed"]);
}

#[test]
fn key_value_configuration_is_kept() {
    let asked = Asked::new();
    let key = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "TopicTest")];
    let missing = asked.ask(RequestCode::GET_KV_CONFIG, &key, b"");
    assert_eq!(missing.code, ResponseCode::QUERY_NOT_FOUND);
    let namespace = [("namespace", "ORDER_TOPIC_CONFIG")];
    let none = asked.ask(RequestCode::GET_KVLIST_BY_NAMESPACE, &namespace, b"");
    assert_eq!(none.code, ResponseCode::QUERY_NOT_FOUND);
    let put = [key[0], key[1], ("value", "broker-a:4")];
    assert_eq!(asked.ask(RequestCode::PUT_KV_CONFIG, &put, b""), Answer::success());
    assert_eq!(asked.ask(RequestCode::GET_KV_CONFIG, &key, b""), Answer::field("value", "broker-a:4"));
    let table = r#"{"table":{"TopicTest":"broker-a:4"}}"#;
    assert_eq!(text(&asked.ask(RequestCode::GET_KVLIST_BY_NAMESPACE, &namespace, b"")), table);
    // Brokers are told of ordered topics when they register.
    assert_eq!(text(&asked.register(&LEADER)), table);
    asked.ask(RequestCode::DELETE_KV_CONFIG, &key, b"");
    assert_eq!(asked.ask(RequestCode::DELETE_KV_CONFIG, &key, b""), Answer::success());
    let empty = asked.ask(RequestCode::GET_KVLIST_BY_NAMESPACE, &namespace, b"");
    assert_eq!(KvTable::decode(&empty.body), Ok(KvTable::default()));
}

#[test]
fn routes_tell_the_queues_of_ordered_topics_if_asked_to() {
    let asked = Asked::new();
    asked.register(&LEADER);
    let put = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "TopicTest"), ("value", "broker-a:4")];
    asked.ask(RequestCode::PUT_KV_CONFIG, &put, b"");
    let conf = |topic| asked.route(topic).unwrap().order_topic_conf;
    assert_eq!(conf("TopicTest"), None);
    asked.ask(RequestCode::UPDATE_NAMESRV_CONFIG, &[], b"orderMessageEnable=true");
    assert_eq!((conf("TopicTest").as_deref(), conf("TBW102")), (Some("broker-a:4"), None));
    asked.ask(RequestCode::DELETE_KV_CONFIG, &put[..2], b"");
    assert_eq!(conf("TopicTest"), None);
}

#[test]
fn settings_are_changed_and_kept_as_key_value_configuration() {
    let mut asked = Asked::new();
    asked.server = NameServer::new([("listenPort".to_owned(), "9876".to_owned())]);
    let configuration =
        |asked: &Asked| text(&asked.ask(RequestCode::GET_NAMESRV_CONFIG, &[], b"")).to_owned();
    assert!(configuration(&asked).starts_with("clusterTest=false\n"));
    assert!(configuration(&asked).contains("\nlistenPort=9876\n"));
    assert!(configuration(&asked).contains("\nenableAllTopicList=true\n"));
    let update = |asked: &Asked, text: &[u8]| asked.ask(RequestCode::UPDATE_NAMESRV_CONFIG, &[], text);
    let both = b"enableAllTopicList=false\nenableTopicList=false\norderMessageEnable=false";
    assert_eq!(update(&asked, both), Answer::success());
    assert_eq!(update(&asked, b""), Answer::success());
    assert!(configuration(&asked).contains("\nenableAllTopicList=false\n"));
    for (code, fields) in [
        (RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[][..]),
        (RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "DefaultCluster")]),
        (RequestCode::GET_UNIT_TOPIC_LIST, &[]),
    ] {
        assert_eq!(asked.ask(code, fields, b""), Answer::refusal(ResponseCode::SYSTEM_ERROR, "disable"));
    }
    // Only what differs was recorded, and another nameserver goes on with it.
    let kept = asked.server.kv();
    assert_eq!(kept.namespaces["NAMESRV_CONFIG"].len(), 2);
    asked.server = NameServer::new([]);
    asked.server.restore_kv(kept);
    assert!(configuration(&asked).contains("\nenableAllTopicList=false\n"));

    for (text, code, remark) in [
        (&b"kvConfigPath=/x"[..], ResponseCode::NO_PERMISSION, "Can not update config in black list."),
        (b"orderMessageEnable=maybe", ResponseCode::INVALID_PARAMETER, "orderMessageEnable is true or false"),
        (b"orderMessageEnable=true\nlistenPort=1", ResponseCode::INVALID_PARAMETER, "listenPort cannot be"),
        (b"a=\\u0", ResponseCode::SYSTEM_ERROR, "the body is not a valid configuration"),
    ] {
        let refused = update(&asked, text);
        assert!(
            refused.code == code && refused.remark.as_deref().unwrap().starts_with(remark),
            "{refused:?}"
        );
    }
    assert!(configuration(&asked).contains("\norderMessageEnable=false\n"));
}

#[test]
fn what_a_journal_refuses_does_not_come_into_effect() {
    struct Full;

    impl KvJournal for Full {
        fn record(&mut self, _: &KvChange) -> Result<Recorded, JournalError> {
            Err(JournalError::Refused { reason: "no room".to_owned() })
        }
    }

    let asked = Asked::new();
    asked.server.set_journal(Box::new(Full));
    let put = [("namespace", "n"), ("key", "k"), ("value", "v")];
    let refused = Answer::refusal(ResponseCode::SYSTEM_ERROR, "the change is not recorded: no room");
    assert_eq!(asked.ask(RequestCode::PUT_KV_CONFIG, &put, b""), refused);
    assert_eq!(asked.ask(RequestCode::DELETE_KV_CONFIG, &put[..2], b""), refused);
    assert_eq!(asked.server.kv(), KvTables::default());
}

#[test]
fn key_value_configuration_is_there_after_a_restart() {
    let disk = Disk::new(1);
    let start = || {
        let (journal, tables) = FileJournal::open(Arc::new(disk.clone())).unwrap();
        let mut asked = Asked::new();
        asked.server = NameServer::new([]);
        asked.server.restore_kv(tables);
        asked.server.set_journal(Box::new(journal));
        asked
    };
    let asked = start();
    let put = [("namespace", "n"), ("key", "k"), ("value", "v")];
    for key in ["k", "gone"] {
        asked.ask(RequestCode::PUT_KV_CONFIG, &[put[0], ("key", key), put[2]], b"");
    }
    asked.ask(RequestCode::DELETE_KV_CONFIG, &[put[0], ("key", "gone")], b"");
    drop(asked);
    let asked = start();
    let table = asked.ask(RequestCode::GET_KVLIST_BY_NAMESPACE, &put[..1], b"");
    assert_eq!(text(&table), r#"{"table":{"k":"v"}}"#);
    // What is there counts against the limit.
    let large = "v".repeat(2 * 1024 * 1024 - 200);
    let refused = asked.ask(RequestCode::PUT_KV_CONFIG, &[put[0], ("key", "l"), ("value", &large)], b"");
    assert!(refused.remark.unwrap().starts_with("the key-value configuration would have"));
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_reason() {
    let asked = Asked::new();
    let check = |code: RequestCode, fields: &[(&str, &str)], body: &[u8], remark: &str| {
        let answer = asked.ask(code, fields, body);
        assert_eq!(answer.code, ResponseCode::SYSTEM_ERROR, "{code}");
        assert!(answer.remark.as_deref().is_some_and(|found| found.starts_with(remark)), "{answer:?}");
    };
    for code in [
        RequestCode::PUT_KV_CONFIG,
        RequestCode::GET_KV_CONFIG,
        RequestCode::DELETE_KV_CONFIG,
        RequestCode::GET_KVLIST_BY_NAMESPACE,
        RequestCode::REGISTER_BROKER,
        RequestCode::UNREGISTER_BROKER,
        RequestCode::QUERY_DATA_VERSION,
        RequestCode::BROKER_HEARTBEAT,
        RequestCode::GET_BROKER_MEMBER_GROUP,
        RequestCode::GET_ROUTEINFO_BY_TOPIC,
        RequestCode::WIPE_WRITE_PERM_OF_BROKER,
        RequestCode::ADD_WRITE_PERM_OF_BROKER,
        RequestCode::REGISTER_TOPIC_IN_NAMESRV,
        RequestCode::DELETE_TOPIC_IN_NAMESRV,
        RequestCode::GET_TOPICS_BY_CLUSTER,
    ] {
        check(code, &[], b"", "field ");
    }
    let fields = LEADER.fields();
    check(RequestCode::REGISTER_BROKER, &fields, b"{", "the body is not a valid registration: ");
    let compressed = [fields.clone(), vec![("compressed", "true")]].concat();
    check(RequestCode::REGISTER_BROKER, &compressed, b"{}", "the body is not a valid registration: ");
    check(RequestCode::QUERY_DATA_VERSION, &fields, b"x", "the body is not a valid data version: ");
    check(RequestCode::REGISTER_TOPIC_IN_NAMESRV, &[("topic", "T")], b"3", "the body is not a valid route: ");
    let numbered = [&fields[..2], &[("brokerId", "zero")], &fields[3..]].concat();
    check(RequestCode::UNREGISTER_BROKER, &numbered, b"", "field brokerId is not a number");
    for code in [10, 34, 9999] {
        let unknown = asked.ask(RequestCode(code), &[], b"");
        let remark = format!(" request type {code} not supported");
        assert_eq!(unknown, Answer::refusal(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark));
    }
    assert_eq!(asked.addresses(), []);
}
