//! A real broker, connections that send the same messages at the same time, and kills.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::message::StoredMessage;

use super::producer::{TOPIC, Told, key, suppressing};
use crate::support::raw::{Raw, pull_fields, send_fields, topic_fields};
use crate::support::server::Server;

const CONNECTIONS: u32 = 4;
const MESSAGES: usize = 2000;
/// Requests that a connection has on their way.
const AHEAD: usize = 64;

/// Sends every message, beginning with another one on each connection; says where each lies.
fn send_all(address: SocketAddr, connection: u32) -> Vec<Told> {
    let mut raw = Raw::connect(address).unwrap();
    let mut told: Vec<Option<Told>> = vec![None; MESSAGES];
    let first = (connection as usize * 7) % MESSAGES;
    let mut open = BTreeMap::new();
    let mut numbers = (0..MESSAGES).map(|step| (first + step) % MESSAGES);
    loop {
        for number in numbers.by_ref().take(AHEAD - open.len()) {
            let properties = key(&format!("K{number}"));
            let fields = send_fields(TOPIC, connection, &properties);
            let body = format!("body of {number}");
            open.insert(raw.send(Code::SEND_MESSAGE_V2, &fields, body.as_bytes()).unwrap(), number);
        }
        if open.is_empty() {
            return told.into_iter().map(Option::unwrap).collect();
        }
        let answer = raw.receive().unwrap().expect("the broker goes on");
        let number = open.remove(&answer.opaque).expect("one answer to each request");
        told[number] = Some(Told::of(&answer));
    }
}

fn at_once(address: SocketAddr) -> Vec<Told> {
    let senders: Vec<_> =
        (0..CONNECTIONS).map(|connection| thread::spawn(move || send_all(address, connection))).collect();
    let mut told = senders.into_iter().map(|sender| sender.join().unwrap());
    let first = told.next().unwrap();
    assert!(told.all(|others| others == first), "all are told the same places");
    first
}

fn stored(address: SocketAddr) -> usize {
    let mut raw = Raw::connect(address).unwrap();
    let mut count = 0;
    for queue in 0..4 {
        let mut offset = 0;
        loop {
            let fields = pull_fields("CG", TOPIC, queue, offset);
            let answer = raw.call(Code::PULL_MESSAGE, &fields, b"").unwrap();
            if answer.code != 0 {
                break;
            }
            let messages: Vec<_> = StoredMessage::parse_all(&answer.body).map(Result::unwrap).collect();
            count += messages.len();
            offset = messages.last().unwrap().queue_offset + 1;
        }
    }
    count
}

#[test]
fn connections_that_send_the_same_at_once_are_told_the_same_also_over_a_kill() {
    let mut server = Server::start();
    let mut raw = Raw::connect(server.broker()).unwrap();
    let attributes = suppressing();
    let made = raw.call(Code::UPDATE_AND_CREATE_TOPIC, &topic_fields(TOPIC, 4, &attributes), b"").unwrap();
    assert_eq!(made.code, 0, "{}", made.remark);
    let first = at_once(server.broker());
    assert_eq!(stored(server.broker()), MESSAGES);
    server.kill();
    server.restart();
    assert_eq!(at_once(server.broker()), first);
    assert_eq!(stored(server.broker()), MESSAGES);
    assert!(server.terminate().success());
}
