//! Clocks that are set, in either direction: nothing comes early by the clock, and what is due by it comes, once.

use std::io;
use std::sync::{Arc, Mutex};

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::folds::timers::TURNS_MAX;
use skylark_broker::timers::Carried;
use skylark_storage::PhysicalOffset;

use super::times::bodies;
use super::world::{START_MS, World, timer};

const SEGMENT_BYTES: u64 = 65_536;
const HOUR_MS: u64 = 3_600_000;

/// What happens between a step of a test and the next.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Restart,
    PowerCut,
    /// Everything that waits is appended again.
    Trim,
}

const BETWEEN: [Between; 4] = [Between::Nothing, Between::Restart, Between::PowerCut, Between::Trim];

impl Between {
    fn happens(self, world: &mut World) {
        world.settle();
        match self {
            Between::Nothing => {}
            Between::Restart => world.crash(false),
            Between::PowerCut => world.crash(true),
            Between::Trim => {
                let broker = Arc::clone(&world.running.broker);
                let below = broker.applied.get();
                while let Carried::Some { .. } = broker.timers.carry_forward(&broker, below).unwrap() {
                    world.settle();
                }
            }
        }
    }
}

fn send(world: &mut World, delay_ms: u64, body: &str) {
    assert_eq!(world.send("t", &timer("TIMER_DELAY_MS", delay_ms), body.as_bytes()).code, 0);
}

fn set(world: &mut World, wall_ms: u64) -> Next {
    world.clock.set_wall_ms(wall_ms);
    world.fire()
}

#[test]
fn a_clock_that_jumps_ahead_delivers_what_is_due_by_it_once() {
    for between in BETWEEN {
        let mut world = World::new(1, Settings::default());
        for (delay_ms, body) in [(HOUR_MS, "hour"), (3 * HOUR_MS, "later"), (1000, "second")] {
            send(&mut world, delay_ms, body);
            between.happens(&mut world);
        }
        set(&mut world, START_MS + 2 * HOUR_MS);
        between.happens(&mut world);
        assert_eq!(bodies(&mut world, "t"), ["second", "hour"], "{between:?}");
        assert_eq!(world.fire(), Next::Due(START_MS + 3 * HOUR_MS + 1));
        set(&mut world, START_MS + 4 * HOUR_MS);
        between.happens(&mut world);
        world.advance(HOUR_MS);
        assert_eq!(bodies(&mut world, "t"), ["second", "hour", "later"], "{between:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_delays_by_as_much_and_holds_up_nothing_that_is_due() {
    for between in BETWEEN {
        let mut world = World::new(2, Settings::default());
        send(&mut world, 1000, "first");
        world.advance(1001);
        send(&mut world, 1000, "before");
        between.happens(&mut world);
        set(&mut world, START_MS - HOUR_MS);
        // Behind what has fired, and waits for long.
        send(&mut world, HOUR_MS / 2, "long");
        between.happens(&mut world);
        send(&mut world, 5, "short");
        between.happens(&mut world);
        assert_eq!(bodies(&mut world, "t"), ["first"], "{between:?}");
        world.advance(6);
        between.happens(&mut world);
        assert_eq!(bodies(&mut world, "t"), ["first", "short"], "{between:?}");
        world.advance(HOUR_MS / 2);
        between.happens(&mut world);
        assert_eq!(bodies(&mut world, "t"), ["first", "short", "long"], "{between:?}");
        world.advance(HOUR_MS);
        between.happens(&mut world);
        world.advance(HOUR_MS);
        assert_eq!(bodies(&mut world, "t"), ["first", "short", "long", "before"], "{between:?}");
    }
}

#[test]
fn after_a_clock_was_ahead_and_is_set_back_a_long_delay_holds_up_no_other() {
    for between in BETWEEN {
        for look_max in [1, 1024] {
            let mut world = World::new(3, Settings::default());
            world.look_at_most(look_max);
            send(&mut world, 24 * HOUR_MS, "day");
            set(&mut world, START_MS + 24 * HOUR_MS + 1);
            assert_eq!(bodies(&mut world, "t"), ["day"], "by the clock it was due");
            between.happens(&mut world);
            set(&mut world, START_MS);
            send(&mut world, 12 * HOUR_MS, "long");
            send(&mut world, 1000, "one");
            between.happens(&mut world);
            send(&mut world, 2000, "two");
            assert_eq!(world.fire(), Next::Due(START_MS + 1001), "{between:?}");
            assert_eq!(bodies(&mut world, "t"), ["day"]);
            world.advance(1001);
            between.happens(&mut world);
            assert_eq!(bodies(&mut world, "t"), ["day", "one"], "{between:?}");
            world.advance(1000);
            between.happens(&mut world);
            send(&mut world, 25 * HOUR_MS, "behind the jump");
            assert_eq!(bodies(&mut world, "t"), ["day", "one", "two"], "{between:?}");
            world.advance(12 * HOUR_MS);
            between.happens(&mut world);
            assert_eq!(bodies(&mut world, "t"), ["day", "one", "two", "long"], "{between:?}");
            world.advance(26 * HOUR_MS);
            between.happens(&mut world);
            assert_eq!(world.fire(), Next::Arrival);
            assert_eq!(bodies(&mut world, "t"), ["day", "one", "two", "long", "behind the jump"]);
            assert_eq!(world.broker().timers.folded.lock().pending().messages, 0);
        }
    }
}

#[test]
fn a_clock_that_goes_back_again_and_again_holds_up_nothing() {
    for between in BETWEEN {
        let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
        let mut world = World::new(4, settings);
        world.look_at_most(3);
        let mut expected = Vec::new();
        let mut waiting = Vec::new();
        // Each time it is ahead for less, so that none of the turns is over when the next one begins.
        for round in (1..20_u64).rev() {
            let now_ms = START_MS - (20 - round) * 1000;
            world.clock.set_wall_ms(now_ms);
            let first = format!("ahead {round}");
            send(&mut world, round * HOUR_MS, &first);
            expected.push(first);
            set(&mut world, now_ms + round * HOUR_MS + 1);
            between.happens(&mut world);
            set(&mut world, now_ms);
            for number in 0..4 {
                let body = format!("long {round} {number} {}", "x".repeat(1000));
                send(&mut world, round * HOUR_MS - (10 + number) * 60_000, &body);
                waiting.push(body);
            }
            send(&mut world, 500, &format!("short {round}"));
            between.happens(&mut world);
            world.advance(501);
            expected.push(format!("short {round}"));
            assert_eq!(bodies(&mut world, "t"), expected, "{between:?}, {round}");
        }
        assert!(world.end() > PhysicalOffset::new(2 * SEGMENT_BYTES), "some of them are sealed");
        set(&mut world, START_MS + 20 * HOUR_MS);
        between.happens(&mut world);
        assert_eq!(world.fire(), Next::Arrival);
        let mut all = bodies(&mut world, "t");
        let mut longs = all.split_off(expected.len());
        assert_eq!(all, expected, "{between:?}");
        longs.sort();
        waiting.sort();
        assert_eq!(longs, waiting, "{between:?}");
    }
}

#[test]
fn what_waits_among_many_that_have_fired_comes_at_its_time() {
    for between in BETWEEN {
        let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
        let mut world = World::new(5, settings);
        world.look_at_most(3);
        let minute_ms = 60_000;
        for minute in 0..120 {
            send(&mut world, HOUR_MS + minute * minute_ms, &format!("fired {}", "x".repeat(1000)));
        }
        set(&mut world, START_MS + 4 * HOUR_MS);
        assert_eq!(bodies(&mut world, "t").len(), 120);
        assert!(world.end() > PhysicalOffset::new(2 * SEGMENT_BYTES), "some of them are sealed");
        between.happens(&mut world);
        world.clock.set_wall_ms(START_MS);
        let waits: Vec<u64> = (0..10).map(|number| HOUR_MS + number * 13 * minute_ms + 30_000).collect();
        for delay_ms in &waits {
            send(&mut world, *delay_ms, "waits");
        }
        between.happens(&mut world);
        // The engine alone says when to look again.
        let (mut looks, mut came) = (0, 0);
        while let Next::Due(due_ms) = world.fire() {
            assert!(due_ms > world.now_ms());
            world.clock.set_wall_ms(due_ms);
            world.fire();
            let due = waits.iter().filter(|delay_ms| START_MS + **delay_ms < due_ms).count();
            came = bodies(&mut world, "t").len() - 120;
            assert_eq!(came, due, "{between:?}, {due_ms}");
            looks += 1;
        }
        assert_eq!((world.fire(), came), (Next::Arrival, waits.len()));
        assert!(looks <= 120 / 3 + 2 * waits.len(), "{looks}: what has fired is passed a few at a time");
    }
}

/// What was logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// How often the engine reported this at that level.
    fn count(&self, level: &str, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(level) && line.contains(words)).count()
    }
}

/// The clock is ahead and set back more often than turns are kept, each time for less, so that none is over; after each
/// time `between` happens. Returns what is due by the clock at the end, but for what waits in front of it.
fn turns(world: &mut World, between: impl Fn(&mut World)) -> Vec<String> {
    for round in (2..4 + TURNS_MAX as u64).rev() {
        let now_ms = START_MS - (4 + TURNS_MAX as u64 - round) * 60_000;
        world.clock.set_wall_ms(now_ms);
        send(world, round * HOUR_MS, "ahead");
        set(world, now_ms + round * HOUR_MS + 1);
        set(world, now_ms);
        send(world, 500, "short");
        world.fire();
        world.advance(501);
        between(world);
    }
    world.send("t", "", b"behind here");
    send(world, HOUR_MS, "long");
    send(world, 500, "short");
    world.fire();
    world.advance(501);
    let behind = bodies(world, "t").into_iter().skip_while(|body| body != "behind here");
    behind.skip(1).collect()
}

#[test]
fn turns_behind_a_trim_are_forgotten() {
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_bytes: Some(4 * SEGMENT_BYTES),
        ..Settings::default()
    };
    let mut world = World::new(6, settings);
    world.send("t", "", b"makes the topic");
    let came = turns(&mut world, |world| {
        for _ in 0..SEGMENT_BYTES / 4000 {
            world.send("other", "", &[b'x'; 4000]);
        }
        world.advance(10_001);
    });
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(trimmed > PhysicalOffset::new(10 * SEGMENT_BYTES), "{trimmed}");
    assert_eq!(came, ["short"], "one that waits in front of it holds it up");
    world.crash(true);
    world.advance(HOUR_MS);
    assert_eq!(bodies(&mut world, "t").last().unwrap(), "long");
}

#[test]
fn the_operator_hears_of_each_turn_and_once_that_there_are_too_many() {
    let logged = Logged::default();
    let writer = logged.clone();
    // Where there is one alone, what tests on other threads report first is taken to interest nobody.
    let _another = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let came = tracing::subscriber::with_default(subscriber, || {
        let mut world = World::new(7, Settings::default());
        turns(&mut world, |_| {})
    });
    assert_eq!(came, [""; 0], "it waits for the one in front of it");
    assert_eq!(logged.count("INFO", "the clock was set back behind what it let fire"), TURNS_MAX);
    assert_eq!(logged.count("WARN", "the clock was set back 64 times"), 1);
}
