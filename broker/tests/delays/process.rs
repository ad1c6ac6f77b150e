//! Delays of a real broker, by the machine's clock.

use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::world::level;
use crate::support::raw::{Raw, pull_fields, send_fields};
use crate::support::server::Server;

/// Waits for the message at this offset of the topic, and says when it came.
fn await_message(connection: &mut Raw, offset: u64) -> (Instant, String) {
    let mut fields = pull_fields("CG", "t", 0, offset);
    fields.retain(|(name, _)| !["sysFlag", "suspendTimeoutMillis"].contains(name));
    // It waits, and brings its own subscription.
    fields.extend([("sysFlag", Value::Number(6)), ("suspendTimeoutMillis", Value::Number(15_000))]);
    let answer = connection.call(RequestCode::PULL_MESSAGE, &fields, &[]).unwrap();
    let arrived = Instant::now();
    assert_eq!(answer.code, 0, "{answer:?}");
    let (message, _) = StoredMessage::parse(&answer.body).unwrap();
    (arrived, String::from_utf8(message.body.to_vec()).unwrap())
}

fn send(connection: &mut Raw, asked: i32, body: &str) {
    let properties = level(asked);
    let fields = send_fields("t", 0, &properties);
    let answer = connection.call(RequestCode::SEND_MESSAGE_V2, &fields, body.as_bytes()).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
}

#[test]
fn a_delay_is_kept_to_the_moment_and_over_a_kill() {
    let mut server = Server::start_with(&["--delay-levels", "1s 2s"]);
    let mut connection = Raw::connect(server.broker()).unwrap();
    send(&mut connection, 2, "later");
    let sent = Instant::now();
    send(&mut connection, 1, "sooner");
    // An earlier arrival ends the sleep for a later one. The bound is for a busy machine; a quiet one takes a
    // millisecond.
    let (arrived, body) = await_message(&mut connection, 0);
    let took = arrived - sent;
    assert_eq!(body, "sooner");
    println!("1 s took {took:?}");
    assert!((Duration::from_secs(1)..Duration::from_millis(1900)).contains(&took), "{took:?}");

    send(&mut connection, 2, "over the kill");
    let sent = Instant::now();
    server.kill();
    server.restart();
    let mut connection = Raw::connect(server.broker()).unwrap();
    assert_eq!(await_message(&mut connection, 1).1, "later");
    let (arrived, body) = await_message(&mut connection, 2);
    let took = arrived - sent;
    assert_eq!(body, "over the kill");
    println!("2 s with a kill took {took:?}");
    assert!(took > Duration::from_millis(1900), "{took:?}");
}
