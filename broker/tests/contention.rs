//! Clients that get in each other's way: everybody is answered, and nobody's acknowledged change is lost.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;
use support::raw::{Raw, pull_fields, send_fields};
use support::server::Server;

fn heartbeat(client: &str, group: &str) -> Vec<u8> {
    format!(
        r#"{{"clientID":"{client}","consumerDataSet":[{{"groupName":"{group}","subscriptionDataSet":[{{"topic":"topic","subString":"*","subVersion":1}}]}}]}}"#
    )
    .into_bytes()
}

/// Repeats a request pattern on a connection of its own until told to stop. A request that is not answered within the
/// connection's time-out fails the test.
fn repeat(
    server: SocketAddr,
    stop: &Arc<AtomicBool>,
    mut round: impl FnMut(&mut Raw, u64) + Send + 'static,
) -> thread::JoinHandle<u64> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut connection = Raw::connect(server).expect("the broker listens");
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            round(&mut connection, rounds);
            rounds += 1;
        }
        rounds
    })
}

#[test]
fn members_that_come_and_go_stop_nobody() {
    let server = Server::start();
    let address = server.broker();
    let mut connection = Raw::connect(address).unwrap();
    assert_eq!(connection.call(Code::SEND_MESSAGE_V2, &send_fields("topic", 0, ""), b"x").unwrap().code, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for client in 0..2 {
        threads.push(repeat(address, &stop, move |connection, _| {
            let client = format!("puller-{client}");
            connection
                .call(Code::HEART_BEAT, &[], &heartbeat(&client, "busy"))
                .expect("a heartbeat is answered");
            let mut fields = pull_fields("busy", "topic", 0, 0);
            fields.retain(|(name, _)| *name != "sysFlag" && *name != "subscription");
            fields.push(("sysFlag", Value::Number(0)));
            connection.call(Code::PULL_MESSAGE, &fields, &[]).expect("a pull is answered");
        }));
        threads.push(repeat(address, &stop, move |connection, _| {
            let client = format!("guest-{client}");
            connection
                .call(Code::HEART_BEAT, &[], &heartbeat(&client, "busy"))
                .expect("a heartbeat is answered");
            let fields = [("clientID", Value::Text(&client)), ("consumerGroup", Value::Text("busy"))];
            connection.call(Code::UNREGISTER_CLIENT, &fields, &[]).expect("leaving is answered");
        }));
    }
    threads.push(repeat(address, &stop, |connection, round| {
        let group = format!("group-{round}");
        connection.call(Code::HEART_BEAT, &[], &heartbeat("maker", &group)).expect("a new group is answered");
    }));
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end && threads.iter().all(|thread| !thread.is_finished()) {
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().expect("everybody was answered") > 0);
    }
}

#[test]
fn what_was_acknowledged_is_found_at_once() {
    let server = Server::start();
    let mut producer = Raw::connect(server.broker()).unwrap();
    let mut consumer = Raw::connect(server.broker()).unwrap();
    assert_eq!(consumer.call(Code::PULL_MESSAGE, &pull_fields("g", "TBW102", 0, 0), &[]).unwrap().code, 19);
    for round in 0..500 {
        let topic = format!("topic-{}", round / 100);
        let sent = producer.call(Code::SEND_MESSAGE_V2, &send_fields(&topic, 0, ""), b"x").unwrap();
        let offset = sent.number("queueOffset");
        let found = consumer.call(Code::PULL_MESSAGE, &pull_fields("g", &topic, 0, offset), &[]).unwrap();
        assert_eq!((found.code, found.number("nextBeginOffset")), (0, offset + 1), "{topic}");
        let behind =
            consumer.call(Code::PULL_MESSAGE, &pull_fields("g", &topic, 0, offset + 1), &[]).unwrap();
        assert_eq!(behind.code, 19, "{topic} behind {offset}: {}", behind.remark);
    }
}

#[test]
fn automatic_creation_undoes_no_acknowledged_change() {
    let server = Server::start();
    let mut admin = Raw::connect(server.broker()).unwrap();
    let mut producer = Raw::connect(server.broker()).unwrap();
    for round in 0..100 {
        let topic = format!("topic-{round}");
        let put = [
            ("topic", Value::Text(&topic)),
            ("readQueueNums", Value::Number(16)),
            ("writeQueueNums", Value::Number(16)),
            ("perm", Value::Number(6)),
        ];
        producer.send(Code::SEND_MESSAGE_V2, &send_fields(&topic, 0, ""), b"x").unwrap();
        assert_eq!(admin.call(Code::UPDATE_AND_CREATE_TOPIC, &put, &[]).unwrap().code, 0);
        assert_eq!(producer.receive().unwrap().unwrap().code, 0);
        let config = admin.call(Code::GET_TOPIC_CONFIG, &[("topic", Value::Text(&topic))], &[]).unwrap();
        let config = String::from_utf8(config.body).unwrap();
        assert!(config.contains("\"writeQueueNums\":16"), "{config}");
    }
}
