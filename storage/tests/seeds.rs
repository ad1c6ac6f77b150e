//! Many small lives of a log, each drawn from one seed.
//!
//! ```text
//! cargo test -p skylark-storage --test seeds                    # a sample
//! SKYLARK_SEEDS=1000000 cargo test --release -p skylark-storage --test seeds -- --nocapture
//! SKYLARK_SEED=n cargo test -p skylark-storage --test seeds -- --nocapture      # one, with all that happens
//! ```

mod support;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::Violation;
use support::life::{Conduct, live};
use support::tally::Tally;

/// How many seeds a plain test run takes.
const SAMPLE: u64 = 1500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// A panic is a violation like any other: it names its seed.
fn life(seed: u64, conduct: &Conduct) -> Result<Tally, Violation> {
    catch_unwind(AssertUnwindSafe(|| live(seed, conduct))).unwrap_or_else(|panic| Err(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    format!("a panic: {}", text.unwrap_or_default())
}

fn replay(seed: u64) -> String {
    format!("SKYLARK_SEED={seed} cargo test -p skylark-storage --test seeds -- --nocapture")
}

/// Lives the lives of so many seeds on all cores; the sum of what happened, and every seed that breaks a promise.
fn live_all(from: u64, seeds: u64) -> (Tally, Vec<(u64, Violation)>) {
    let next = AtomicU64::new(from);
    let outcome = Mutex::new((Tally::default(), Vec::new()));
    let begun = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (next, outcome) = (&next, &outcome);
            scope.spawn(move || {
                let mut tally = Tally::default();
                let mut said = Instant::now();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    match life(seed, &Conduct::SOUND) {
                        Ok(lived) => tally += lived,
                        Err(violation) => {
                            println!("seed {seed}: {violation}\n  {}", replay(seed));
                            outcome.lock().expect("nobody panics here").1.push((seed, violation));
                        }
                    }
                    if thread == 0 && said.elapsed() > Duration::from_secs(10) {
                        said = Instant::now();
                        let (done, seconds) = (seed - from, begun.elapsed().as_secs_f64());
                        println!("{done} seeds, {:.0} a second", done as f64 / seconds);
                    }
                }
                outcome.lock().expect("nobody panics here").0 += tally;
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{seeds} seeds in {seconds:.0} s, {:.0} a second on {threads} cores", seeds as f64 / seconds);
    outcome.into_inner().expect("nobody panics here")
}

#[test]
fn no_life_of_a_log_breaks_a_promise() {
    if let Some(seed) = number("SKYLARK_SEED") {
        let outcome = life(seed, &Conduct { tells: true, ..Conduct::SOUND });
        println!("{outcome:?}");
        return outcome.map(drop).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    let from = number("SKYLARK_SEEDS_FROM").unwrap_or(0);
    let seeds = number("SKYLARK_SEEDS").unwrap_or(SAMPLE);
    let (tally, broken) = live_all(from, seeds);
    println!("{tally}");
    assert!(broken.is_empty(), "{} of {seeds} seeds, the first: {:?}", broken.len(), broken.first());
    if seeds >= SAMPLE {
        let rare: Vec<_> = tally.counts().into_iter().filter(|(_, count)| *count < seeds / 30).collect();
        assert!(rare.is_empty(), "lives are too quiet: {rare:?}");
    }
}

#[test]
fn a_seed_lives_the_same_life_every_time() {
    for seed in 0..20 {
        let lives: Vec<_> = (0..2).map(|_| format!("{:?}", life(seed, &Conduct::SOUND))).collect();
        assert_eq!(lives[0], lives[1], "seed {seed}");
    }
}
