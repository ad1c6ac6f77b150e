//! Pulls that select by tag and by SQL92, frame by frame: what a client would hide shows here.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::ops::Range;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;
use support::raw::{Answer, Raw, pull_fields, send_fields};
use support::server::Server;

const TOPIC: &str = "filtered";
const GROUP: &str = "readers";
const PARSE_FAILED: i32 = 23;
const FILTER_DATA_NOT_EXIST: i32 = 27;

fn properties(number: usize, tag: &str) -> String {
    format!("number\u{1}{number}\u{2}TAGS\u{1}{tag}\u{2}")
}

/// Sends messages without waiting for each: `tag` says which tag a number has.
fn send(connection: &mut Raw, topic: &str, numbers: Range<usize>, tag: impl Fn(usize) -> &'static str) {
    send_large(connection, topic, numbers, tag, |_| 0);
}

/// As [`send`], with bodies of at least so many bytes.
fn send_large(
    connection: &mut Raw,
    topic: &str,
    numbers: Range<usize>,
    tag: impl Fn(usize) -> &'static str,
    body_bytes: impl Fn(usize) -> usize,
) {
    const AT_ONCE: usize = 50;
    let numbers: Vec<usize> = numbers.collect();
    for chunk in numbers.chunks(AT_ONCE) {
        for &number in chunk {
            let properties = properties(number, tag(number));
            let body = number.to_string() + &" ".repeat(body_bytes(number));
            connection
                .send(Code::SEND_MESSAGE_V2, &send_fields(topic, 0, &properties), body.as_bytes())
                .unwrap();
        }
        for _ in chunk {
            assert_eq!(connection.receive().unwrap().unwrap().code, 0);
        }
    }
}

/// The fields of a pull with its own expression; with `wait_ms` it is held while there is nothing.
fn pull<'a>(
    expression_type: &'a str,
    expression: &'a str,
    offset: u64,
    wait_ms: i64,
) -> Vec<(&'static str, Value<'a>)> {
    let mut fields = pull_fields(GROUP, TOPIC, 0, offset);
    fields.retain(|(name, _)| !["subscription", "sysFlag", "suspendTimeoutMillis"].contains(name));
    fields.push(("subscription", Value::Text(expression)));
    fields.push(("expressionType", Value::Text(expression_type)));
    fields.push(("sysFlag", Value::Number(if wait_ms > 0 { 4 + 2 } else { 4 })));
    fields.push(("suspendTimeoutMillis", Value::Number(wait_ms)));
    fields
}

fn bodies(answer: &Answer) -> Vec<usize> {
    StoredMessage::parse_all(&answer.body)
        .map(|message| std::str::from_utf8(message.unwrap().body).unwrap().trim().parse().unwrap())
        .collect()
}

/// Reads a queue to its end, and gives what was found and how many pulls that took.
fn read_all(connection: &mut Raw, expression_type: &str, expression: &str) -> (Vec<usize>, usize) {
    let (mut found, mut pulls, mut next) = (Vec::new(), 0, 0);
    loop {
        let answer =
            connection.call(Code::PULL_MESSAGE, &pull(expression_type, expression, next, 0), &[]).unwrap();
        assert!([0, 19, 20].contains(&answer.code), "{answer:?}");
        if answer.code == 19 {
            return (found, pulls);
        }
        pulls += 1;
        found.extend(bodies(&answer));
        assert!(answer.number("nextBeginOffset") > next, "{answer:?}");
        next = answer.number("nextBeginOffset");
    }
}

#[test]
fn long_stretches_of_what_is_not_wanted_are_skipped() {
    const MESSAGES: usize = 50_000;
    let wanted = [17, MESSAGES / 2, MESSAGES - 2];
    // Small segments, so that most of the queue lies in sealed index files and on disk.
    let mut server = Server::start_with(&["--segment-bytes", "4194304"]);
    let mut connection = Raw::connect(server.broker()).unwrap();
    send(
        &mut connection,
        TOPIC,
        0..MESSAGES,
        |number| if wanted.contains(&number) { "Rare" } else { "Common" },
    );
    let sql = format!("number IN ('{}', '{}', '{}')", wanted[0], wanted[1], wanted[2]);
    // Too long for a worker, so that readers do all of it.
    let long = vec!["TAGS = 'Rare' AND number > 5"; 50].join(" AND ");
    for (expression_type, expression) in
        [("TAG", "Rare"), ("SQL92", "TAGS = 'Rare' AND number > 5"), ("SQL92", &*sql), ("SQL92", &*long)]
    {
        let began = Instant::now();
        let (found, pulls) = read_all(&mut connection, expression_type, expression);
        println!("{expression_type} {expression:.40}: {pulls} pulls in {:?}", began.elapsed());
        assert_eq!(found, wanted, "{expression}");
        // A step ends with what it found; an empty-handed answer only tells of a second without anything.
        let slow = usize::try_from(began.elapsed().as_secs()).unwrap();
        assert!(pulls <= wanted.len() + 2 + slow, "{expression} took {pulls} pulls");
    }
    let (found, _) = read_all(&mut connection, "SQL92", "number >= 100");
    assert_eq!(found, (100..MESSAGES).collect::<Vec<_>>());
    assert!(server.terminate().success());
}

/// From memory, and from files after a restart: an answer ends where it is full, and the next one goes on right there.
#[test]
fn answers_are_bounded_and_go_on_where_they_ended() {
    const ANSWER_BYTES: usize = 256 << 10;
    const LARGEST: usize = 300 << 10;
    let is_wanted = |number: usize| number.is_multiple_of(3) || (100..140).contains(&number);
    let mut server = Server::start_with(&["--segment-bytes", "4194304"]);
    let mut connection = Raw::connect(server.broker()).unwrap();
    let body_bytes = |number: usize| if number.is_multiple_of(50) { LARGEST } else { number * 7919 % 40_000 };
    send_large(
        &mut connection,
        TOPIC,
        0..300,
        |number| if is_wanted(number) { "A" } else { "B" },
        body_bytes,
    );
    let expected: Vec<usize> = (0..300).filter(|number| is_wanted(*number)).collect();
    for round in 0..2 {
        for (expression_type, expression) in [("TAG", "A"), ("SQL92", "TAGS = 'A'")] {
            let (mut found, mut next) = (Vec::new(), 0);
            loop {
                let mut fields = pull(expression_type, expression, next, 0);
                fields.retain(|(name, _)| *name != "maxMsgNums");
                fields.push(("maxMsgNums", Value::Number(7)));
                let answer = connection.call(Code::PULL_MESSAGE, &fields, &[]).unwrap();
                if answer.code == 19 {
                    break;
                }
                let numbers = bodies(&answer);
                assert!(numbers.len() <= 7, "{numbers:?}");
                assert!(answer.body.len() <= ANSWER_BYTES || numbers.len() == 1, "{numbers:?}");
                found.extend(numbers);
                next = answer.number("nextBeginOffset");
            }
            assert_eq!(found, expected, "{expression} in round {round}");
        }
        assert!(server.terminate().success());
        server.restart();
        connection = Raw::connect(server.broker()).unwrap();
    }
}

#[test]
fn a_parked_pull_sleeps_through_what_it_does_not_want() {
    let server = Server::start();
    let mut producer = Raw::connect(server.broker()).unwrap();
    let mut consumer = Raw::connect(server.broker()).unwrap();
    send(&mut producer, TOPIC, 0..1, |_| "A");
    for expression_type in ["TAG", "SQL92"] {
        let expression = if expression_type == "TAG" { "B" } else { "TAGS = 'B'" };
        let begin = read_end(&mut producer);
        let begin_number = usize::try_from(begin).unwrap();
        consumer.send(Code::PULL_MESSAGE, &pull(expression_type, expression, begin, 15_000), &[]).unwrap();
        // Answered behind the pull, which is parked by then.
        assert_eq!(read_end(&mut consumer), begin);
        // One at a time, each of which wakes whoever might want it.
        for number in begin_number..begin_number + 20 {
            send(&mut producer, TOPIC, number..number + 1, |_| "A");
        }
        send(&mut producer, TOPIC, begin_number + 20..begin_number + 21, |_| "B");
        let answer = consumer.receive().unwrap().unwrap();
        assert_eq!((answer.code, bodies(&answer)), (0, vec![begin_number + 20]), "{answer:?}");
        assert_eq!(answer.number("nextBeginOffset"), begin + 21);
    }

    // When its time is over it tells how far it came, so that what is not wanted is no lag.
    let begin = read_end(&mut producer);
    let began = Instant::now();
    consumer.send(Code::PULL_MESSAGE, &pull("SQL92", "TAGS = 'B'", begin, 1_500), &[]).unwrap();
    assert_eq!(read_end(&mut consumer), begin);
    let number = usize::try_from(begin).unwrap();
    send(&mut producer, TOPIC, number..number + 10, |_| "A");
    let answer = consumer.receive().unwrap().unwrap();
    assert!([19, 20].contains(&answer.code) && answer.number("nextBeginOffset") == begin + 10, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(1_400), "answered after {:?}", began.elapsed());
}

fn read_end(connection: &mut Raw) -> u64 {
    let fields = [("topic", Value::Text(TOPIC)), ("queueId", Value::Number(0))];
    connection.call(Code::GET_MAX_OFFSET, &fields, &[]).unwrap().number("offset")
}

fn heartbeat(expression: &str, version: i64) -> Vec<u8> {
    format!(
        r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"{GROUP}","subscriptionDataSet":[{{"topic":"{TOPIC}","expressionType":"SQL92","subString":"{expression}","subVersion":{version}}},{{"topic":"%RETRY%{GROUP}","expressionType":"SQL92","subString":"number = '1'","subVersion":{version}}}]}}]}}"#
    )
    .into_bytes()
}

#[test]
fn a_subscription_is_stated_by_heartbeat_or_brought_by_the_pull() {
    let server = Server::start();
    let mut connection = Raw::connect(server.broker()).unwrap();
    send(&mut connection, TOPIC, 0..10, |_| "A");
    let stated = |version: i64| {
        let mut fields = pull_fields(GROUP, TOPIC, 0, 0);
        fields.retain(|(name, _)| !["subscription", "sysFlag", "subVersion"].contains(name));
        fields.push(("sysFlag", Value::Number(0)));
        fields.push(("subVersion", Value::Number(version)));
        fields
    };
    connection.call(Code::HEART_BEAT, &[], &heartbeat("number > 6", 1)).unwrap();
    let answer = connection.call(Code::PULL_MESSAGE, &stated(1), &[]).unwrap();
    assert_eq!((answer.code, bodies(&answer)), (0, vec![7, 8, 9]), "{answer:?}");
    assert_eq!(answer.number("nextBeginOffset"), 10);
    assert_eq!(connection.call(Code::PULL_MESSAGE, &stated(2), &[]).unwrap().code, 25);

    // A newer version counts, an older one does not.
    connection.call(Code::HEART_BEAT, &[], &heartbeat("number < 2", 2)).unwrap();
    connection.call(Code::HEART_BEAT, &[], &heartbeat("number > 6", 1)).unwrap();
    assert_eq!(bodies(&connection.call(Code::PULL_MESSAGE, &stated(2), &[]).unwrap()), [0, 1]);
    let own = connection.call(Code::PULL_MESSAGE, &pull("SQL92", "number = '4'", 0, 0), &[]).unwrap();
    assert_eq!(bodies(&own), [4]);

    connection.call(Code::HEART_BEAT, &[], &heartbeat("number >", 3)).unwrap();
    let answer = connection.call(Code::PULL_MESSAGE, &stated(3), &[]).unwrap();
    assert_eq!(answer.code, FILTER_DATA_NOT_EXIST, "{answer:?}");
    assert!(answer.remark.contains("character 9"), "{answer:?}");
    let answer = connection.call(Code::PULL_MESSAGE, &pull("SQL92", "number >", 0, 0), &[]).unwrap();
    assert_eq!(answer.code, PARSE_FAILED, "{answer:?}");

    // What comes again comes by another topic, of which all is wanted.
    let retry_topic = format!("%RETRY%{GROUP}");
    send(&mut connection, &retry_topic, 0..3, |_| "A");
    let mut fields = pull_fields(GROUP, &retry_topic, 0, 0);
    fields.retain(|(name, _)| !["subscription", "sysFlag"].contains(name));
    fields.push(("sysFlag", Value::Number(0)));
    // A pull may be faster than dispatch, which is behind what is acknowledged.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut found = Vec::new();
    while found.len() < 3 && Instant::now() < deadline {
        found = bodies(&connection.call(Code::PULL_MESSAGE, &fields, &[]).unwrap());
    }
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn a_subscription_is_checked_before_it_is_used() {
    let server = Server::start();
    let mut connection = Raw::connect(server.broker()).unwrap();
    let mut check = |expression_type: &str, expression: &str| {
        let body = format!(
            r#"{{"clientId":"c","group":"{GROUP}","subscriptionData":{{"expressionType":"{expression_type}","subString":"{expression}","topic":"{TOPIC}"}}}}"#
        );
        let answer = connection.call(Code::CHECK_CLIENT_CONFIG, &[], body.as_bytes()).unwrap();
        (answer.code, answer.remark)
    };
    assert_eq!(check("TAG", "a >").0, 0);
    assert_eq!(check("SQL92", "a > 5").0, 0);
    let remark = "SQL92 expression, character 5: expected a number or a property beside >, found 'x'";
    assert_eq!(check("SQL92", "a > 'x' AND b"), (PARSE_FAILED, remark.to_owned()));
    assert_eq!(check("JAVA", "a > 5").0, PARSE_FAILED);
}
