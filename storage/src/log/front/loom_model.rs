//! Appends, a gathering and the writer's sleep in every order: whatever is staged is written, by one at a time.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::PhysicalOffset;
use crate::record::Kind;
use crate::staging::{self, NewRecord, Unit};

const LOG: LogId = LogId::from_bytes([7; 16]);

/// What writes: tells loom when, and counts.
struct Counter(UnsafeCell<usize>);

impl Counter {
    fn write(&mut self, group: Closed) {
        // The model is about who writes, not about what.
        group.seal(LOG.seed(), Chain::START, PhysicalOffset::ZERO);
        self.0.with_mut(|count| {
            #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
            // SAFETY: the press is locked, which loom checks by watching this very access.
            unsafe {
                *count += 1;
            }
        });
    }
}

/// A front, and the writer's bell.
struct World {
    front: Front<(), Counter>,
    rung: Mutex<bool>,
    /// Whether the writer asks under one lock what is staged, and under another whether more will be.
    asks_twice: bool,
}

impl World {
    fn asleep() -> Self {
        let front = Front::new((), staging::loom_model::staging(), Counter(UnsafeCell::new(0)));
        assert!(front.may_sleep());
        Self { front, rung: Mutex::new(false), asks_twice: false }
    }

    fn take(&self) -> Taken {
        match self.front.take() {
            Taken::Nothing if self.asks_twice && self.front.is_closing() => Taken::NoMore,
            taken => taken,
        }
    }

    /// Appends as [`crate::CommitLog::append`] does.
    fn append(&self) {
        let records = [NewRecord { kind: Kind::new(16), head: &[], rest: &[] }];
        let unit = Unit::new(LOG.seed(), &records, u64::MAX).expect("it is short");
        let mut locked = self.front.lock();
        locked.staging.append(&unit, 0, |_, _| ());
        let rings = self.front.rings(&mut locked);
        drop(locked);
        self.ring_if(rings);
    }

    fn ring_if(&self, rings: bool) {
        if rings {
            *self.rung.lock() = true;
        }
    }

    fn gather_and_append(&self, end: End) {
        self.front.gather();
        self.append();
        if end == End::Never {
            return;
        }
        self.front.end_gathering();
        if end == End::Looks {
            let rings = self.front.look_after_here(
                |_, _| true,
                |counter, group| {
                    counter.write(group);
                    true
                },
            );
            self.ring_if(rings);
        }
    }

    /// What the writer's thread does if it was rung.
    fn drive(&self, lingers: bool) {
        if std::mem::take(&mut *self.rung.lock()) {
            self.work(lingers);
        }
    }

    /// What it does once it is awake, or has slept for long enough.
    fn work(&self, lingers: bool) {
        loop {
            let wrote = {
                let mut press = self.front.press.lock();
                match self.take() {
                    Taken::Group(group) => {
                        press.as_mut().expect("it stays").write(group);
                        true
                    }
                    Taken::Nothing => false,
                    Taken::NoMore => {
                        assert!(!self.front.lock().staging.has_group(), "what is staged was forgotten");
                        return;
                    }
                }
            };
            if wrote && lingers {
                // Without the time that ends it otherwise.
                self.front.may_linger(|_| Lingering { arrivals: 2, staged_bytes: u64::MAX });
                self.front.end_lingering();
            }
            if !wrote && self.front.may_sleep() {
                return;
            }
        }
    }
}

/// How a gathering ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Looks,
    /// And does not look, as it should.
    Unseen,
    Never,
}

/// How the writer's sleep ends.
#[derive(Clone, Copy, PartialEq)]
enum Sleep {
    Rung,
    /// Or after a while.
    Limited,
}

/// A gathering and an append, while the writer runs if it is rung, or its sleep ends.
fn model(end: End, lingers: bool, sleep: Sleep) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let world = Arc::new(World::asleep());
        let threads = [
            thread::spawn({
                let world = Arc::clone(&world);
                move || world.gather_and_append(end)
            }),
            thread::spawn({
                let world = Arc::clone(&world);
                move || world.append()
            }),
        ];
        let drive = || match sleep {
            Sleep::Rung => world.drive(lingers),
            Sleep::Limited => world.work(lingers),
        };
        drive();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        // Everybody has done what there is to do; the writer still hears its bell, and needs no more than that unless
        // somebody gathers on.
        if end == End::Never {
            drive()
        } else {
            world.drive(lingers)
        }
        assert!(!world.front.lock().staging.has_group(), "what is staged was forgotten");
    });
}

/// A writer that is awake, while somebody appends and closes.
fn close(asks_twice: bool) {
    loom::model(move || {
        let world = Arc::new(World { asks_twice, ..World::asleep() });
        let closes = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.append();
                world.front.close();
                world.ring_if(true);
            }
        });
        world.work(false);
        closes.join().expect("no thread panics");
        world.drive(false);
        assert!(!world.front.lock().staging.has_group(), "what is staged was forgotten");
    });
}

#[test]
fn loom_what_is_appended_before_a_close_is_written_first() {
    close(false);
}

#[test]
#[should_panic(expected = "forgotten")]
fn loom_a_writer_that_asks_twice_is_noticed() {
    close(true);
}

#[test]
fn loom_whatever_is_staged_is_written() {
    model(End::Looks, false, Sleep::Rung);
}

#[test]
fn loom_whatever_is_staged_is_written_though_the_writer_lingers() {
    model(End::Looks, true, Sleep::Rung);
}

#[test]
fn loom_a_writer_that_wakes_by_itself_is_in_nobodys_way() {
    model(End::Looks, false, Sleep::Limited);
}

#[test]
fn loom_a_writer_that_wakes_by_itself_makes_up_for_a_gathering_without_end() {
    model(End::Never, false, Sleep::Limited);
}

#[test]
#[should_panic(expected = "forgotten")]
fn loom_a_gatherer_that_does_not_look_is_noticed() {
    model(End::Unseen, false, Sleep::Rung);
}

#[test]
#[should_panic(expected = "forgotten")]
fn loom_a_gathering_without_end_is_noticed() {
    model(End::Never, false, Sleep::Rung);
}
