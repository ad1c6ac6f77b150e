//! POP of a real broker, by the machine's clock, over kills.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode as Code;

use super::consumer::{TOPIC, messages};
use super::frames::pop;
use crate::support::raw::{Raw, send_fields};
use crate::support::server::Server;

const MESSAGES: usize = 400;
const INVISIBLE: Duration = Duration::from_secs(2);

/// A third is acknowledged, a third popped and forgotten, the rest popped by a connection that breaks off; then the
/// broker is killed. What was acknowledged does not come again, everything else does.
#[test]
fn what_was_not_acknowledged_comes_again_over_a_kill() {
    let mut server = Server::start();
    let mut connection = Raw::connect(server.broker()).unwrap();
    for number in 0..MESSAGES {
        let queue = u32::try_from(number % 4).unwrap();
        let sent = connection.call(
            Code::SEND_MESSAGE_V2,
            &send_fields(TOPIC, queue, ""),
            number.to_string().as_bytes(),
        );
        assert_eq!(sent.unwrap().code, 0);
    }
    let invisible_ms = i64::try_from(INVISIBLE.as_millis()).unwrap();
    let mut deliveries: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let mut acked = Vec::new();
    while deliveries.len() < MESSAGES {
        let answer = connection.call(Code::POP_MESSAGE, &pop(0, invisible_ms), &[]).unwrap();
        for message in messages(&answer) {
            let number: usize = message.body.parse().unwrap();
            deliveries.entry(message.body.clone()).or_default().push(message.reconsume_times);
            if number.is_multiple_of(3) {
                let answer = connection.call(Code::ACK_MESSAGE, &message.ack_fields(), &[]).unwrap();
                assert_eq!(answer.code, 0, "{answer:?}");
                acked.push(message.body);
            }
        }
    }
    assert!(deliveries.values().all(|times| times == &[0]), "each once: {deliveries:?}");
    server.kill();
    server.restart();
    let mut connection = Raw::connect(server.broker()).unwrap();
    let killed = Instant::now();
    let mut again: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    while again.len() < MESSAGES - acked.len() {
        assert!(killed.elapsed() < Duration::from_secs(60), "{} came again", again.len());
        let answer = connection.call(Code::POP_MESSAGE, &pop(1000, 60_000), &[]).unwrap();
        if answer.code == 210 {
            continue;
        }
        for message in messages(&answer) {
            again.entry(message.body.clone()).or_default().push(message.reconsume_times);
            assert_eq!(connection.call(Code::ACK_MESSAGE, &message.ack_fields(), &[]).unwrap().code, 0);
        }
    }
    assert!(acked.iter().all(|body| !again.contains_key(body)), "what was acknowledged does not come again");
    assert!(again.values().all(|times| times == &[1]), "each once: {again:?}");
    let answer = connection.call(Code::POP_MESSAGE, &pop(0, 60_000), &[]).unwrap();
    assert_eq!(answer.code, 210, "{answer:?}");
    assert!(server.terminate().success());
}
