//! Every request of POP against the real binary: what is refused, and with which code.

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::assignment::{Assignments, QueryAssignment, RequestMode, SetRequestMode};
use skylark_protocol::outgoing::Value;

use super::consumer::{Fields, GROUP, TOPIC, messages, with};
use crate::support::raw::{Answer, Raw, send_fields};
use crate::support::server::Server;

/// A pop that does not say when it was made, so that no pause of the test can make it too late.
pub fn pop(poll_ms: i64, invisible_ms: i64) -> Fields<'static> {
    let fields = super::consumer::pop_fields(-1, 32, 0, poll_ms);
    with(fields, "invisibleTime", Value::Number(invisible_ms))
}

fn check(connection: &mut Raw, code: Code, fields: Fields<'_>, cases: Vec<(&'static str, Value<'_>, i32)>) {
    for (name, value, expected) in cases {
        let answer = connection.call(code, &with(fields.clone(), name, value), &[]).unwrap();
        assert_eq!(answer.code, expected, "{code} with {name} = {value:?}: {answer:?}");
    }
}

#[test]
fn what_may_not_be_is_refused_as_rocketmq_does() {
    let mut server = Server::start();
    let mut connection = Raw::connect(server.broker()).unwrap();
    let call = |connection: &mut Raw, code, fields: &Fields<'_>| -> Answer {
        connection.call(code, fields, &[]).unwrap()
    };
    for body in ["a", "b", "c"] {
        let sent =
            connection.call(Code::SEND_MESSAGE_V2, &send_fields(TOPIC, 0, ""), body.as_bytes()).unwrap();
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let mut long = "x".repeat(119);
    long.push('y');
    check(
        &mut connection,
        Code::POP_MESSAGE,
        pop(0, 60_000),
        vec![
            ("bornTime", Value::Number(1), 210),
            ("maxMsgNums", Value::Number(33), 29),
            ("maxMsgNums", Value::Text("many"), 29),
            ("topic", Value::Text("nowhere"), 17),
            ("queueId", Value::Number(64), 29),
            ("invisibleTime", Value::Number(-1), 29),
            ("consumerGroup", Value::Text("bad group"), 26),
            ("exp", Value::Text("||"), 23),
        ],
    );
    let refused =
        call(&mut connection, Code::POP_MESSAGE, &with(pop(0, 60_000), "consumerGroup", Value::Text(&long)));
    assert_eq!(refused.code, 29, "{refused:?}");
    assert!(refused.remark.contains("too long for POP"), "{refused:?}");
    let refused = call(
        &mut connection,
        Code::POP_MESSAGE,
        &with(with(pop(0, 9), "exp", Value::Text("a >")), "expType", Value::Text("SQL92")),
    );
    assert_eq!(refused.code, 23);

    // Without a wait, and what was not acknowledged before it is applied.
    let answer = call(&mut connection, Code::POP_MESSAGE, &pop(0, 60_000));
    let popped = messages(&answer);
    assert_eq!(popped.len(), 3);
    assert_eq!(answer.number("invisibleTime"), 60_000);
    let nothing = call(&mut connection, Code::POP_MESSAGE, &pop(0, 60_000));
    assert_eq!((nothing.code, &*nothing.fields["restNum"]), (210, "0"), "{nothing:?}");

    let ack = popped[1].ack_fields();
    for code in [Code::ACK_MESSAGE, Code::CHANGE_MESSAGE_INVISIBLETIME] {
        let fields = if code == Code::ACK_MESSAGE { ack.clone() } else { popped[1].prolong_fields(60_000) };
        check(
            &mut connection,
            code,
            fields,
            vec![
                ("topic", Value::Text("nowhere"), 17),
                ("queueId", Value::Number(99), 13),
                ("queueId", Value::Number(-1), 13),
                ("offset", Value::Number(-1), 208),
                ("offset", Value::Number(4), 208),
                ("extraInfo", Value::Text("1 2 3"), 29),
            ],
        );
    }
    // Forged: another batch, another group, another message of the queue. None of them touches what is in flight.
    let forged = popped[1].receipt.replacen('0', "1", 1);
    for (name, value) in [
        ("extraInfo", Value::Text(&forged)),
        ("consumerGroup", Value::Text("other")),
        ("offset", Value::Number(3)),
    ] {
        assert_eq!(call(&mut connection, Code::ACK_MESSAGE, &with(ack.clone(), name, value)).code, 0);
        if name != "offset" {
            let prolong = with(popped[1].prolong_fields(1), name, value);
            assert_eq!(call(&mut connection, Code::CHANGE_MESSAGE_INVISIBLETIME, &prolong).code, 208);
        }
    }
    let answer = call(&mut connection, Code::CHANGE_MESSAGE_INVISIBLETIME, &popped[1].prolong_fields(70_000));
    assert_eq!((answer.code, answer.number("invisibleTime"), answer.number("reviveQid")), (0, 70_000, 0));
    let prolonged = popped[1].prolonged(&answer);
    assert_eq!(call(&mut connection, Code::ACK_MESSAGE, &prolonged.ack_fields()).code, 0);

    let peek = vec![
        ("consumerGroup", Value::Text(GROUP)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(-1)),
        ("maxMsgNums", Value::Number(9)),
    ];
    check(
        &mut connection,
        Code::PEEK_MESSAGE,
        peek.clone(),
        vec![
            ("maxMsgNums", Value::Number(9), 19),
            ("topic", Value::Text("nowhere"), 17),
            ("consumerGroup", Value::Text("nobody"), 26),
            ("queueId", Value::Number(99), 29),
        ],
    );
    check(
        &mut connection,
        Code::POLLING_INFO,
        peek.clone(),
        vec![("queueId", Value::Number(0), 0), ("topic", Value::Text("nowhere"), 17)],
    );
    let bad = connection.call(Code::BATCH_ACK_MESSAGE, &[], b"{").unwrap();
    assert_eq!(bad.code, 29);
    let empty = connection.call(Code::BATCH_ACK_MESSAGE, &[], b"{\"acks\":[]}").unwrap();
    assert_eq!(empty.code, 208);
    let strange = br#"{"acks":[{"c":"g","t":"t","r":"7","so":-5,"q":-9,"pt":-1,"b":"////"},{},{"c":"g","t":"nowhere","r":"1","b":"A"}]}"#;
    assert_eq!(connection.call(Code::BATCH_ACK_MESSAGE, &[], strange).unwrap().code, 0);
    assert!(server.terminate().success());
}

#[test]
fn request_modes_decide_assignments_and_survive() {
    let mut server = Server::start();
    let mut connection = Raw::connect(server.broker()).unwrap();
    connection.call(Code::SEND_MESSAGE_V2, &send_fields(TOPIC, 0, ""), b"a").unwrap();
    let heartbeat = format!(
        r#"{{"clientID":"me","producerDataSet":[],"consumerDataSet":[{{"groupName":"{GROUP}","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[]}}]}}"#
    );
    assert_eq!(connection.call(Code::HEART_BEAT, &[], heartbeat.as_bytes()).unwrap().code, 0);
    let query = |connection: &mut Raw, strategy: &str| {
        let body = QueryAssignment {
            client_id: "me".to_owned(),
            consumer_group: GROUP.to_owned(),
            strategy_name: strategy.to_owned(),
            topic: TOPIC.to_owned(),
            ..QueryAssignment::default()
        };
        let answer = connection.call(Code::QUERY_ASSIGNMENT, &[], &body.encode()).unwrap();
        assert_eq!(answer.code, 0, "{answer:?}");
        let assignments = Assignments::decode(&answer.body).unwrap().message_queue_assignments;
        assignments
            .map(|list| list.iter().map(|own| (own.message_queue.queue_id, own.mode)).collect::<Vec<_>>())
    };
    let pulled = [0, 1, 2, 3].map(|queue| (queue, RequestMode::Pull)).to_vec();
    assert_eq!(query(&mut connection, "AVG"), Some(pulled));
    assert_eq!(query(&mut connection, "MINE"), None);
    let set = |connection: &mut Raw, topic: &str, group: &str| {
        let body = SetRequestMode {
            consumer_group: group.to_owned(),
            mode: RequestMode::Pop,
            pop_share_queue_num: -1,
            topic: topic.to_owned(),
        };
        connection.call(Code::SET_MESSAGE_REQUEST_MODE, &[], &body.encode()).unwrap().code
    };
    assert_eq!(set(&mut connection, "%RETRY%g", GROUP), 16);
    assert_eq!(set(&mut connection, "nowhere", GROUP), 17);
    assert_eq!(set(&mut connection, TOPIC, "nobody"), 26);
    assert_eq!(set(&mut connection, TOPIC, GROUP), 0);
    assert_eq!(query(&mut connection, "AVG"), Some(vec![(-1, RequestMode::Pop)]));
    server.kill();
    server.restart();
    let mut connection = Raw::connect(server.broker()).unwrap();
    let all = connection.call(Code::GET_ALL_MESSAGE_REQUEST_MODE, &[], &[]).unwrap();
    assert_eq!(
        String::from_utf8(all.body).unwrap(),
        r#"{"messageRequestModeMap":{"t":{"g":{"consumerGroup":"g","mode":"POP","popShareQueueNum":-1,"topic":"t"}}}}"#
    );
    assert!(server.terminate().success());
}
