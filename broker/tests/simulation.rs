//! A broker, its nameserver and its clients in one thread, from one seed: the network is memory, the disk and the
//! clock are simulated, and whatever they may do to a broker they do.
//!
//! A seed that fails prints the command that repeats it. `SKYLARK_SEED=n` runs that one, `SKYLARK_SEEDS=n` so many.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod simulation {
    pub mod cast;
    pub mod clients;
    pub mod digest;
    #[allow(dead_code, reason = "shared with another test, which uses more of it")]
    pub mod disks;
    pub mod eager;
    pub mod line;
    pub mod register;
    pub mod story;
    pub mod truth;
    pub mod world;
}

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::world::{Fault, Report, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 1000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn a_thousand_seeds_break_no_promise() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        let report = World::new(seed, Fault::None).run();
        println!("seed {seed}: {report:?}");
        return;
    }
    let seeds = setting("SKYLARK_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let total = Mutex::new((Report::default(), Vec::new()));
    let work = || loop {
        // Relaxed: only that no two threads get the same seed matters.
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || !total.lock().unwrap().1.is_empty() {
            return;
        }
        match catch_unwind(|| World::new(seed, Fault::None).run()) {
            Ok(report) => total.lock().unwrap().0.add(&report),
            Err(_) => total.lock().unwrap().1.push(seed),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (report, failed) = total.into_inner().unwrap();
    if let Some(seed) = failed.first() {
        panic!(
            "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test simulation a_thousand -- --nocapture"
        );
    }
    println!("{report:?}");
    let Report { acknowledged, delayed, recalled, back, crashes, restored, trimmed, deletions, .. } = report;
    let tested = [acknowledged, delayed, recalled, back, crashes, restored, trimmed, deletions];
    assert!(tested.iter().all(|count| *count > 0), "not everything was put to the test: {report:?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in [1, 2, 3] {
        let runs = [(); 2].map(|()| World::new(seed, Fault::None).run());
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// Whether one of the seeds finds that something is wrong.
fn is_caught(fault: Fault) -> bool {
    (0..200).any(|seed| catch_unwind(|| World::new(seed, fault).run()).is_err())
}

#[test]
fn a_flush_that_does_nothing_is_caught() {
    assert!(is_caught(Fault::FlushesLie));
}

#[test]
fn acknowledging_what_is_only_staged_is_caught() {
    assert!(is_caught(Fault::WritesLater));
}

#[test]
fn a_restart_that_forgets_locks_is_caught() {
    assert!(is_caught(Fault::LocksForgotten));
}

#[test]
fn commits_that_never_reach_the_log_are_caught() {
    assert!(is_caught(Fault::CommitsForgotten));
}

#[test]
fn a_timer_that_fires_early_is_caught() {
    assert!(is_caught(Fault::ClockAhead));
}

#[test]
fn a_recalled_message_that_is_delivered_is_caught() {
    assert!(is_caught(Fault::RecallsLost));
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_a_restart() {
    let mut world = World::new(1, Fault::None);
    assert_eq!(world.send_and_rest(6), (6, vec![]));
    world.fail_next_flush();
    let not_available = 14;
    assert_eq!(world.send_and_rest(3), (6, vec![not_available; 3]), "the flush that failed");
    assert_eq!(world.send_and_rest(3), (6, vec![not_available; 6]), "what comes after it");
    assert_eq!(world.served(), 6, "what was durable is served, and nothing else");
    world.crash(false);
    assert_eq!(world.send_and_rest(3).0, 9);
}
