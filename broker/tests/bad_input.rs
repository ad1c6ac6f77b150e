//! What a broker answers to what it should never be sent, and that nobody else notices.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;
use support::raw::{Raw, pull_fields, request, send_fields};
use support::server::Server;

/// How the broker takes a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Answered with this code; anything but success says why.
    Code(i32),
    /// The connection is closed.
    Closed,
}

/// Replaces, adds or (without a value) removes fields of a request.
fn with<'a>(
    mut fields: Vec<(&'static str, Value<'a>)>,
    changes: &[(&'static str, Option<Value<'a>>)],
) -> Vec<(&'static str, Value<'a>)> {
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.extend(value.map(|value| (*name, value)));
    }
    fields
}

/// Sends good messages, one by one, until told to stop; every one has to be taken.
struct Innocent {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Innocent {
    fn start(server: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let mut connection = Raw::connect(server).expect("the broker listens");
            while !stopped.load(Ordering::Relaxed) {
                let answer = connection.call(Code::SEND_MESSAGE_V2, &send_fields("innocent", 0, ""), b"good");
                let answer = answer.expect("an innocent connection stays open");
                assert_eq!(answer.code, 0, "an innocent send was refused: {}", answer.remark);
                assert_eq!(answer.number("queueOffset"), count.fetch_add(1, Ordering::Relaxed));
            }
        });
        Self { stop, sent, thread }
    }

    fn finish(self) {
        // It went on after the last case, too.
        let seen = self.sent.load(Ordering::Relaxed);
        while self.sent.load(Ordering::Relaxed) <= seen && !self.thread.is_finished() {
            thread::yield_now();
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the innocent connection was harmed");
    }
}

/// What comes back for bytes on a connection of their own.
fn bytes_sent(server: SocketAddr, bytes: &[u8]) -> Taken {
    let mut stream = TcpStream::connect(server).expect("the broker listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // The broker may close before it has read everything.
    stream.write_all(bytes).ok();
    let mut first = [0; 1];
    loop {
        match stream.read(&mut first) {
            Ok(0) => return Taken::Closed,
            Ok(_) => return Taken::Code(0),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Taken::Closed,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }
}

#[test]
fn bytes_that_are_no_frames_cost_their_connection_and_no_other() {
    let server = Server::start_with(&["--frame-seconds", "1"]);
    let innocent = Innocent::start(server.broker());
    let good = request(Code::HEART_BEAT, 1, &[], b"{}");
    let mut unknown_encoding = good.clone();
    unknown_encoding[4] = 7;
    let mut long_header = good.clone();
    long_header[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    let not_json = [&12_u32.to_be_bytes()[..], &8_u32.to_be_bytes(), b"{\"code\":"].concat();
    let json_without_end = [&14_u32.to_be_bytes()[..], &10_u32.to_be_bytes(), b"{\"code\":34"].concat();
    let binary_garbage = [&12_u32.to_be_bytes()[..], &[1, 0, 0, 8], &[0xff; 8]].concat();
    let cases: [(&str, &[u8]); 12] = [
        ("a length of 2 GiB", &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ("a negative length", &[0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0]),
        ("a length of 17 MiB", &[0x01, 0x10, 0, 0, 0, 0, 0, 0]),
        ("a length of zero", &[0, 0, 0, 0, 0, 0, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
        ("a TLS hello", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        ("an unknown header encoding", &unknown_encoding),
        ("a header longer than its frame", &long_header),
        ("a header that is no JSON", &not_json),
        ("a header that ends early", &json_without_end),
        ("a binary header of garbage", &binary_garbage),
        ("a frame that is never finished", &good[..good.len() - 1]),
    ];
    for (name, bytes) in cases {
        for address in [server.broker(), server.nameserver()] {
            assert_eq!(bytes_sent(address, bytes), Taken::Closed, "{name}");
        }
    }
    // A peer that goes away in the middle of a frame.
    drop(TcpStream::connect(server.broker()).and_then(|mut stream| stream.write_all(&good[..10])));
    innocent.finish();
}

#[test]
fn requests_that_make_no_sense_are_answered_with_a_code_and_a_reason() {
    let server = Server::start();
    let innocent = Innocent::start(server.broker());
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    let long_name = "n".repeat(128);
    let long_value = "v".repeat(40_000);
    let too_large = vec![b'x'; (4 << 20) + 1];
    let text = |value| Some(Value::Text(value));
    let send =
        |changes: &[(&'static str, Option<Value<'static>>)]| with(send_fields("topic", 0, ""), changes);
    let delayed = "DELAY\u{1}soon\u{2}";
    let timed = "TIMER_DELAY_SEC\u{1}soon\u{2}";
    let half = "TRAN_MSG\u{1}true\u{2}";
    let pull = |changes: &[(&'static str, Option<Value<'static>>)]| {
        with(pull_fields("group", "topic", 0, 0), changes)
    };
    let put = |changes: &[(&'static str, Option<Value<'static>>)]| {
        let fields = vec![
            ("topic", Value::Text("made")),
            ("defaultTopic", Value::Text("TBW102")),
            ("readQueueNums", Value::Number(1)),
            ("writeQueueNums", Value::Number(1)),
            ("perm", Value::Number(6)),
            ("topicFilterType", Value::Text("SINGLE_TAG")),
            ("order", Value::Flag(false)),
        ];
        with(fields, changes)
    };
    let queue = |changes: &[(&'static str, Option<Value<'static>>)]| {
        with(vec![("topic", Value::Text("topic")), ("queueId", Value::Number(0))], changes)
    };
    let commit = |group: &'static str, topic: &'static str, offset: i64| {
        let mut fields = vec![("consumerGroup", Value::Text(group)), ("topic", Value::Text(topic))];
        fields.extend([("queueId", Value::Number(0)), ("commitOffset", Value::Number(offset))]);
        fields
    };
    let recall = |topic, handle| vec![("topic", Value::Text(topic)), ("recallHandle", Value::Text(handle))];
    let send_back = |group, offset| {
        vec![
            ("offset", Value::Number(offset)),
            ("group", Value::Text(group)),
            ("delayLevel", Value::Number(0)),
        ]
    };
    let end = |group, offset| {
        vec![
            ("producerGroup", Value::Text(group)),
            ("tranStateTableOffset", Value::Number(0)),
            ("commitLogOffset", Value::Number(offset)),
            ("commitOrRollback", Value::Number(8)),
        ]
    };
    // The topic and the group that the cases below need.
    assert_eq!(connection.call(Code::SEND_MESSAGE_V2, &send(&[]), b"first").unwrap().code, 0);
    assert_eq!(connection.call(Code::PULL_MESSAGE, &pull(&[]), &[]).unwrap().code, 0);

    type Case<'a> = (&'a str, Code, Vec<(&'static str, Value<'a>)>, &'a [u8], i32);
    let cases: Vec<Case<'_>> = vec![
        ("an unknown code", Code(9999), vec![], b"", 3),
        ("a negative code", Code(-7), vec![], b"", 3),
        ("a roll-back of POP's records, of which there are none", Code(200_056), vec![], b"", 3),
        ("a pop of nothing", Code::POP_MESSAGE, vec![], b"", 29),
        ("an acknowledgement of nothing", Code::ACK_MESSAGE, vec![], b"", 29),
        ("acknowledgements that are none", Code::BATCH_ACK_MESSAGE, vec![], b"{\"acks\":7}", 29),
        ("a request mode that is none", Code::SET_MESSAGE_REQUEST_MODE, vec![], b"{", 29),
        ("a query for an assignment without a body", Code::QUERY_ASSIGNMENT, vec![], b"", 29),
        ("sending back nothing", Code::CONSUMER_SEND_MSG_BACK, vec![], b"", 29),
        ("sending back for nobody", Code::CONSUMER_SEND_MSG_BACK, send_back("nobody", 0), b"", 26),
        ("sending back the middle of a record", Code::CONSUMER_SEND_MSG_BACK, send_back("group", 1), b"", 1),
        (
            "sending back what is not there",
            Code::CONSUMER_SEND_MSG_BACK,
            send_back("group", i64::MAX),
            b"",
            1,
        ),
        ("sending back from before the log", Code::CONSUMER_SEND_MSG_BACK, send_back("group", -1), b"", 29),
        ("a send without a topic", Code::SEND_MESSAGE_V2, send(&[("b", None)]), b"x", 29),
        ("a send with a word for a queue", Code::SEND_MESSAGE_V2, send(&[("e", text("first"))]), b"x", 29),
        (
            "a send with a number too large",
            Code::SEND_MESSAGE_V2,
            send(&[("f", text("99999999999"))]),
            b"x",
            29,
        ),
        ("a send of the first kind without fields", Code::SEND_MESSAGE, vec![], b"x", 29),
        ("a topic with a blank", Code::SEND_MESSAGE_V2, send(&[("b", text("no blanks"))]), b"x", 29),
        ("a topic without a name", Code::SEND_MESSAGE_V2, send(&[("b", text(""))]), b"x", 29),
        ("a topic too long", Code::SEND_MESSAGE_V2, send_fields(&long_name, 0, ""), b"x", 29),
        (
            "a topic that cannot be made",
            Code::SEND_MESSAGE_V2,
            send(&[("b", text("new")), ("c", text("none"))]),
            b"x",
            17,
        ),
        (
            "a topic of the broker's own",
            Code::SEND_MESSAGE_V2,
            send(&[("b", text("SCHEDULE_TOPIC_XXXX"))]),
            b"x",
            16,
        ),
        ("a retry topic of nobody", Code::SEND_MESSAGE_V2, send(&[("b", text("%RETRY%nobody"))]), b"x", 26),
        (
            "a queue that is not there",
            Code::SEND_MESSAGE_V2,
            send(&[("e", Some(Value::Number(4)))]),
            b"x",
            29,
        ),
        ("an empty body", Code::SEND_MESSAGE_V2, send(&[]), b"", 13),
        ("a body too large", Code::SEND_MESSAGE_V2, send(&[]), &too_large, 13),
        ("properties too long", Code::SEND_MESSAGE_V2, send_fields("topic", 0, &long_value), b"x", 13),
        (
            "a batch of garbage",
            Code::SEND_BATCH_MESSAGE,
            send(&[("m", text("true"))]),
            b"garbage garbage garbage",
            13,
        ),
        ("an empty batch", Code::SEND_BATCH_MESSAGE, send(&[("m", text("true"))]), b"", 13),
        (
            "a half message by its flag",
            Code::SEND_MESSAGE_V2,
            send(&[("f", Some(Value::Number(4)))]),
            b"x",
            13,
        ),
        (
            "a half message in a batch",
            Code::SEND_BATCH_MESSAGE,
            send(&[("i", text(half)), ("m", Some(Value::Flag(true)))]),
            b"x",
            13,
        ),
        ("the end of nothing", Code::END_TRANSACTION, end("PG", 0), b"", 1),
        ("the end of a plain message", Code::END_TRANSACTION, end("PG", 4096), b"", 1),
        ("the end of a negative offset", Code::END_TRANSACTION, end("PG", -1), b"", 29),
        ("an end without fields", Code::END_TRANSACTION, vec![], b"", 29),
        ("a check of nothing", Code::RESUME_CHECK_HALF_MESSAGE, vec![("msgId", Value::Text("x"))], b"", 1),
        ("a delay level", Code::SEND_MESSAGE_V2, send(&[("i", text(delayed))]), b"x", 13),
        ("a delay of no length", Code::SEND_MESSAGE_V2, send(&[("i", text(timed))]), b"x", 13),
        (
            "a delay of ages",
            Code::SEND_MESSAGE_V2,
            send(&[("i", text("TIMER_DELAY_SEC\u{1}9223372036854775807\u{2}"))]),
            b"x",
            13,
        ),
        ("a recall of nothing", Code::RECALL_MESSAGE, vec![], b"", 29),
        ("a recall of garbage", Code::RECALL_MESSAGE, recall("topic", "garbage!"), b"", 604),
        ("a recall in no topic", Code::RECALL_MESSAGE, recall("nowhere", "garbage!"), b"", 17),
        (
            "a recall by a message",
            Code::SEND_MESSAGE_V2,
            send(&[("i", text("TIMER_DEL_UNIQKEY\u{1}k\u{2}"))]),
            b"x",
            13,
        ),
        (
            "a queue of the timers",
            Code::SEND_MESSAGE_V2,
            send(&[("b", text("rmq_sys_wheel_timer"))]),
            b"x",
            16,
        ),
        ("a pull below zero", Code::PULL_MESSAGE, pull(&[("queueOffset", Some(Value::Number(-1)))]), b"", 21),
        ("a pull without a group", Code::PULL_MESSAGE, pull(&[("consumerGroup", None)]), b"", 29),
        (
            "a pull with a word for an offset",
            Code::PULL_MESSAGE,
            pull(&[("queueOffset", text("start"))]),
            b"",
            29,
        ),
        ("a pull of no topic", Code::PULL_MESSAGE, pull(&[("topic", text("nowhere"))]), b"", 17),
        ("a pull of no queue", Code::PULL_MESSAGE, pull(&[("queueId", Some(Value::Number(4)))]), b"", 29),
        (
            "a pull of a negative queue",
            Code::PULL_MESSAGE,
            pull(&[("queueId", Some(Value::Number(-1)))]),
            b"",
            29,
        ),
        (
            "a pull beyond the end",
            Code::PULL_MESSAGE,
            pull(&[("queueOffset", Some(Value::Number(99)))]),
            b"",
            21,
        ),
        ("a pull at the end", Code::PULL_MESSAGE, pull(&[("queueOffset", Some(Value::Number(1)))]), b"", 19),
        ("a pull by no SQL", Code::PULL_MESSAGE, pull(&[("expressionType", text("SQL92"))]), b"", 23),
        (
            "a pull by another language",
            Code::PULL_MESSAGE,
            pull(&[("expressionType", text("JAVA"))]),
            b"",
            23,
        ),
        (
            "a check of no SQL",
            Code::CHECK_CLIENT_CONFIG,
            vec![],
            br#"{"subscriptionData":{"expressionType":"SQL92","subString":"a >","topic":"topic"}}"#,
            23,
        ),
        ("a pull by no tags", Code::PULL_MESSAGE, pull(&[("subscription", text("||"))]), b"", 23),
        ("a pull without members", Code::PULL_MESSAGE, pull(&[("sysFlag", Some(Value::Number(0)))]), b"", 24),
        ("a group with a blank", Code::PULL_MESSAGE, pull(&[("consumerGroup", text("no blanks"))]), b"", 26),
        ("a commit of nobody", Code::UPDATE_CONSUMER_OFFSET, commit("nobody", "topic", 1), b"", 26),
        ("a commit for no topic", Code::UPDATE_CONSUMER_OFFSET, commit("group", "nowhere", 1), b"", 17),
        (
            "an offset that is not there",
            Code::QUERY_CONSUMER_OFFSET,
            with(commit("group", "topic", 0), &[("setZeroIfNotFound", text("false"))]),
            b"",
            22,
        ),
        (
            "the end of a negative queue",
            Code::GET_MAX_OFFSET,
            queue(&[("queueId", Some(Value::Number(-1)))]),
            b"",
            29,
        ),
        ("a search without a time", Code::SEARCH_OFFSET_BY_TIMESTAMP, queue(&[]), b"", 29),
        ("a heartbeat of garbage", Code::HEART_BEAT, vec![], b"{\"clientID\":", 29),
        ("a heartbeat of nobody", Code::HEART_BEAT, vec![], b"{}", 29),
        (
            "the members of an empty group",
            Code::GET_CONSUMER_LIST_BY_GROUP,
            vec![("consumerGroup", Value::Text("group"))],
            b"",
            1,
        ),
        ("a lock of garbage", Code::LOCK_BATCH_MQ, vec![], b"[1,2", 29),
        ("a lock of nobody", Code::LOCK_BATCH_MQ, vec![], b"{}", 29),
        ("a topic of the system", Code::UPDATE_AND_CREATE_TOPIC, put(&[("topic", text("TBW102"))]), b"", 29),
        (
            "a topic without queues",
            Code::UPDATE_AND_CREATE_TOPIC,
            put(&[("readQueueNums", Some(Value::Number(0)))]),
            b"",
            29,
        ),
        (
            "a topic with too many",
            Code::UPDATE_AND_CREATE_TOPIC,
            put(&[("writeQueueNums", Some(Value::Number(1 << 30)))]),
            b"",
            29,
        ),
        (
            "a topic with a strange perm",
            Code::UPDATE_AND_CREATE_TOPIC,
            put(&[("perm", Some(Value::Number(99)))]),
            b"",
            29,
        ),
        (
            "a topic with a strange attribute",
            Code::UPDATE_AND_CREATE_TOPIC,
            put(&[("attributes", text("+color=red"))]),
            b"",
            1,
        ),
        (
            "a topic with half an attribute",
            Code::UPDATE_AND_CREATE_TOPIC,
            put(&[("attributes", text("message.type"))]),
            b"",
            1,
        ),
        (
            "a configuration of no topic",
            Code::GET_TOPIC_CONFIG,
            vec![("topic", Value::Text("nowhere"))],
            b"",
            17,
        ),
        ("a group of garbage", Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, vec![], b"group", 29),
        (
            "a configuration of no group",
            Code::GET_SUBSCRIPTIONGROUP_CONFIG,
            vec![("group", Value::Text("none"))],
            b"",
            26,
        ),
    ];
    for (name, code, fields, body, expected) in &cases {
        let answer = connection.call(*code, fields, body);
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}\n{}", server.transcript()));
        assert_eq!(answer.code, *expected, "{name}: {}", answer.remark);
        assert!(!answer.remark.is_empty(), "{name}: no remark");
    }
    let mut nameserver = Raw::connect(server.nameserver()).expect("the nameserver listens");
    let route =
        nameserver.call(Code::GET_ROUTEINFO_BY_TOPIC, &[("topic", Value::Text("nowhere"))], b"").unwrap();
    assert_eq!(route.code, 17, "{}", route.remark);
    for (code, body) in
        [(Code(9999), &b""[..]), (Code::REGISTER_BROKER, b"{"), (Code::GET_ROUTEINFO_BY_TOPIC, b"")]
    {
        let answer = nameserver.call(code, &[], body).unwrap();
        assert!(answer.code != 0 && !answer.remark.is_empty(), "{code}: {answer:?}");
    }
    innocent.finish();
}

#[test]
fn a_group_that_cannot_be_keeps_no_other_out() {
    let server = Server::start();
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    let heartbeat = br#"{"clientID":"c","producerDataSet":[{"groupName":"a.b"}],
        "consumerDataSet":[{"groupName":"no blanks"},{"groupName":""},{"groupName":"good"}]}"#;
    assert_eq!(connection.call(Code::HEART_BEAT, &[], heartbeat).unwrap().code, 0);
    let members = |connection: &mut Raw, group| {
        connection
            .call(Code::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", Value::Text(group))], b"")
            .unwrap()
    };
    assert_eq!(members(&mut connection, "good").body, br#"{"consumerIdList":["c"]}"#);
    assert_eq!(members(&mut connection, "no blanks").code, 1);
}

#[test]
fn a_second_instance_on_the_same_directory_is_refused() {
    let server = Server::start();
    let innocent = Innocent::start(server.broker());
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_skylark"));
    let port = |offset: &[i32]| support::server::free_port(offset);
    second.args(["serve", "--listen", &format!("127.0.0.1:{}", port(&[-2, 0]))]);
    second.args(["--namesrv-listen", &format!("127.0.0.1:{}", port(&[0]))]);
    second.arg("--data").arg(server.data()).stdin(Stdio::null());
    let refused = second.output().expect("it can be started");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("data") && said.contains("use"), "does not say what is wrong: {said}");
    innocent.finish();
}

#[test]
fn settings_that_cannot_be_used_are_all_named() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skylark"));
    command.args(["serve", "--listen", "0.0.0.0:10911", "--workers", "1", "--broker-name", "no blanks"]);
    let refused = command.output().expect("it can be started");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for key in ["listen:", "advertise:", "workers:", "broker-name:"] {
        assert!(said.contains(key), "{key} is not named: {said}");
    }
}
