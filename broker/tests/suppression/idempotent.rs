//! The example of a consumer whose effects do not repeat, against a real broker.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use skylark_protocol::code::RequestCode as Code;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::idempotent_consumer::{Booked, Ledger, consume};
use crate::support::raw::{Raw, send_fields};
use crate::support::server::Server;

const TOPIC: &str = "payments";
const PAYMENTS: usize = 200;

/// Consumes as this group until it has seen so many messages; how many of them were booked.
fn consume_some(server: &Server, group: &str, file: &Path, messages: usize) -> usize {
    let ledger = Arc::new(Mutex::new(Ledger::open(file).unwrap()));
    let (seen, booked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let enough = Arc::new(Notify::new());
    let (all, new, signal) = (Arc::clone(&seen), Arc::clone(&booked), Arc::clone(&enough));
    let count = move |what| {
        new.fetch_add(usize::from(what == Booked::Now), Ordering::SeqCst);
        if all.fetch_add(1, Ordering::SeqCst) + 1 == messages {
            signal.notify_one();
        }
    };
    let namesrv = server.nameserver().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = async move { enough.notified().await };
    runtime.block_on(consume(&namesrv, (TOPIC, group), ledger, count, done)).unwrap();
    booked.load(Ordering::SeqCst)
}

#[test]
fn a_payment_that_comes_twice_is_booked_once() {
    let mut server = Server::start();
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("ledger.txt");
    let mut raw = Raw::connect(server.broker()).unwrap();
    // An application that sends each order's payment twice, with another key of the client's each time.
    for number in 0..2 * PAYMENTS {
        let order = number % PAYMENTS;
        let properties = format!("KEYS\u{1}order-{order}\u{2}UNIQ_KEY\u{1}{number}\u{2}");
        let queue = u32::try_from(number % 4).unwrap();
        let fields = send_fields(TOPIC, queue, &properties);
        let sent = raw.call(Code::SEND_MESSAGE_V2, &fields, order.to_string().as_bytes()).unwrap();
        assert_eq!(sent.code, 0, "{}", sent.remark);
    }
    let mut booked = consume_some(&server, "one", &file, PAYMENTS / 2);
    // A crash in the middle of a line.
    let half = "order-150\t15";
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + half).unwrap();
    server.kill();
    server.restart();
    // Another group gets every message again, and another one once more.
    for group in ["two", "three"] {
        booked += consume_some(&server, group, &file, 2 * PAYMENTS);
        let ledger = Ledger::open(&file).unwrap();
        let sum = i64::try_from(PAYMENTS * (PAYMENTS - 1) / 2).unwrap();
        assert_eq!((ledger.payments(), ledger.balance(), booked), (PAYMENTS, sum, PAYMENTS));
    }
    assert!(server.terminate().success());
}
