//! Who takes part.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::client::Client;
use super::delays::Delayer;
use super::filters::{BY_SQL, BY_TAG, Selector};
use super::logs::Logs;
use super::pops::Popper;
use super::resets::Moved;
use super::retries::Returner;
use super::sends::Sender;
use super::transactions::Transactor;

/// One client of each kind, and two of the kinds that come in two.
pub fn cast() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(Sender::new(0)),
        Box::new(Sender::new(1)),
        Box::new(Delayer::default()),
        Box::new(Transactor::default()),
        Box::new(Returner::default()),
        Box::new(Popper::default()),
        Box::new(Moved::default()),
        Box::new(Selector::new(BY_TAG)),
        Box::new(Selector::new(BY_SQL)),
    ]
}

/// Holds each against what was found.
pub fn check(clients: &mut [Box<dyn Client>], logs: &Logs) {
    clients.iter_mut().for_each(|client| client.check(logs));
}

/// What somebody still waits for.
pub fn missing(clients: &[Box<dyn Client>], logs: &Logs) -> Option<String> {
    clients.iter().find_map(|client| client.missing(logs))
}

/// How many promises each was given.
pub fn promises(clients: &[Box<dyn Client>]) -> Vec<usize> {
    clients.iter().map(|client| client.promises()).collect()
}

/// The seed that the environment names, or one that is made up; it is printed, so that a run can be repeated.
pub fn seeded() -> Pcg64 {
    let given = std::env::var("SKYLARK_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |text| text.parse().expect("SKYLARK_SEED is a number"));
    println!("SKYLARK_SEED={seed}");
    Pcg64::seed_from_u64(seed)
}

/// A source of its own for each client.
pub fn fork(random: &mut Pcg64) -> Pcg64 {
    Pcg64::seed_from_u64(random.random())
}
