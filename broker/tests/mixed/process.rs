//! The traffic over sockets, to a process that is killed in the middle of it again and again.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::RngExt;
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::cast::{cast, check, fork, missing, promises, seeded};
use super::client::{Client, Look, Scene, Wire};
use super::delays::LEVELS;
use super::logs::{Logs, make_groups, make_topics};
use super::transactions::{INTERVAL_MS, TIMEOUT_MS};
use crate::support::raw::{Answer, Raw};
use crate::support::server::Server;

const ROUNDS: u32 = 10;
/// When a round's kill comes.
const KILLED_AFTER_MS: std::ops::Range<u64> = 200..800;
/// A client acts so often, and then rests: what is to be tested is what is under way, not how much.
const ACTS_AT_ONCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);
/// A hang, not a slow machine, is what this bounds.
const RESTS_WITHIN: Duration = Duration::from_secs(60);

impl Look for Raw {
    fn look(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer {
        self.call(code, fields, body).expect("the broker answers")
    }
}

struct RawWire {
    raw: Raw,
    open: usize,
    is_broken: bool,
}

impl Wire for RawWire {
    fn ask(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> i32 {
        self.open += 1;
        let asked = self.raw.send(code, fields, body);
        self.is_broken |= asked.is_err();
        // Nobody answers that number.
        asked.unwrap_or(-1)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
    }
}

/// How long a client works.
#[derive(Clone)]
struct Shift {
    address: SocketAddr,
    is_resting: bool,
    is_over: Arc<AtomicBool>,
}

/// Lets a client work until its connection breaks, or until nothing is under way after its shift. Says how many of its
/// requests were.
fn work(shift: &Shift, client: &mut dyn Client, random: &mut Pcg64) -> usize {
    let Ok(raw) = Raw::connect(shift.address) else { return 0 };
    raw.stream().and_then(|stream| stream.set_read_timeout(Some(PAUSE / 2))).expect("a socket has a timeout");
    let mut wire = RawWire { raw, open: 0, is_broken: false };
    client.connected(&mut Scene { wire: &mut wire, random, is_resting: shift.is_resting });
    let mut acts_at = Instant::now();
    while !wire.is_broken {
        let is_over = shift.is_over.load(Ordering::Relaxed);
        if is_over && wire.open == 0 {
            break;
        }
        let now = Instant::now();
        if !is_over && now >= acts_at {
            acts_at = now + PAUSE;
            for _ in 0..ACTS_AT_ONCE {
                client.act(&mut Scene { wire: &mut wire, random, is_resting: shift.is_resting });
            }
        }
        match wire.raw.receive() {
            Ok(Some(answer)) => {
                wire.open -= usize::from(answer.is_response);
                client.hear(&answer, &mut Scene { wire: &mut wire, random, is_resting: shift.is_resting });
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(None) | Err(_) => wire.is_broken = true,
        }
    }
    client.lost();
    wire.open
}

struct Traffic {
    server: Server,
    clients: Vec<Box<dyn Client>>,
    random: Pcg64,
    logs: Logs,
    in_flight: usize,
}

impl Traffic {
    /// Lets everybody work until `until` has returned.
    fn shift(&mut self, is_resting: bool, until: impl FnOnce(&mut Server)) {
        let shift = Shift { address: self.server.broker(), is_resting, is_over: Arc::default() };
        let workers: Vec<_> = std::mem::take(&mut self.clients)
            .into_iter()
            .map(|mut client| {
                let (shift, mut random) = (shift.clone(), fork(&mut self.random));
                thread::spawn(move || {
                    let in_flight = work(&shift, client.as_mut(), &mut random);
                    (client, in_flight)
                })
            })
            .collect();
        until(&mut self.server);
        shift.is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            let (client, in_flight) = worker.join().expect("a client saw what may not be");
            self.clients.push(client);
            self.in_flight += in_flight;
        }
    }

    fn look(&mut self) -> Raw {
        let mut connection = Raw::connect(self.server.broker()).expect("the broker listens");
        self.logs.look(&mut connection);
        check(&mut self.clients, &self.logs);
        connection
    }

    fn round(&mut self) {
        let killed_after = Duration::from_millis(self.random.random_range(KILLED_AFTER_MS));
        self.shift(false, |server| {
            thread::sleep(killed_after);
            server.kill();
        });
        self.server.restart();
        self.look();
    }

    /// Waits until everybody has got what was promised, but not for ever.
    fn rest(&mut self) {
        let deadline = Instant::now() + RESTS_WITHIN;
        while let Some(missing) = missing(&self.clients, &self.logs) {
            assert!(Instant::now() < deadline, "nobody got {missing}\n{}", self.server.transcript());
            self.shift(true, |_| thread::sleep(Duration::from_millis(300)));
            self.look();
        }
    }
}

fn options() -> Vec<String> {
    let (timeout_ms, interval_ms) = (TIMEOUT_MS.to_string(), INTERVAL_MS.to_string());
    let options = [
        ("--segment-bytes", "1048576"),
        ("--delay-levels", LEVELS),
        ("--transaction-timeout-ms", &timeout_ms),
        ("--transaction-check-interval-ms", &interval_ms),
        ("--transaction-checks-max", "1000"),
    ];
    options.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

#[test]
fn no_promise_of_any_kind_is_broken_by_kills() {
    let given = std::env::var("SKYLARK_CRASH_ROUNDS").ok();
    let rounds = given.map_or(ROUNDS, |text| text.parse().expect("SKYLARK_CRASH_ROUNDS is a number"));
    let server = Server::start_with(&options());
    let mut traffic =
        Traffic { server, clients: cast(), random: seeded(), logs: Logs::default(), in_flight: 0 };
    let mut connection = Raw::connect(traffic.server.broker()).expect("the broker listens");
    make_topics(&mut connection);
    make_groups(&mut connection);
    let begun = Instant::now();
    for round in 0..rounds {
        traffic.round();
        if round % 20 == 19 {
            println!("round {}: {} messages after {:?}", round + 1, traffic.logs.len(), begun.elapsed());
        }
    }
    traffic.rest();
    let mut connection = traffic.look();
    traffic.logs.look_again(&mut connection);
    let promises = promises(&traffic.clients);
    println!(
        "{rounds} kills in {:?}, {} messages, {} requests cut off, promises: {promises:?}",
        begun.elapsed(),
        traffic.logs.len(),
        traffic.in_flight
    );
    assert!(promises.iter().all(|count| *count > 0), "not everything was put to the test: {promises:?}");
    assert!(traffic.in_flight >= rounds as usize, "hardly anything was under way: {}", traffic.in_flight);
}
