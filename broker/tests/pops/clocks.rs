//! Pops while the clock is set, in either direction: what is in flight comes back by the clock, once, and an acknowledgement
//! counts for as long as it has not.

use skylark_broker::engine::Next;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::consumer::*;
use crate::world::{START_MS, World};

const HOUR_MS: u64 = 3_600_000;

/// Nothing, a restart, a power cut.
const CRASHES: [Option<bool>; 3] = [None, Some(false), Some(true)];

fn set(world: &mut World, wall_ms: u64, crash: Option<bool>) -> Next {
    world.settle();
    world.clock.set_wall_ms(wall_ms);
    if let Some(power) = crash {
        world.crash(power);
    }
    revive(world)
}

#[test]
fn a_clock_that_is_set_back_keeps_messages_invisible_for_so_much_longer() {
    for crash in CRASHES {
        let mut world = world(70, 1);
        send(&mut world, &["kept", "acknowledged", "prolonged"]);
        let popped = pop(&mut world, 32);
        let due_ms = START_MS + INVISIBLE_MS;
        assert_eq!(set(&mut world, START_MS - HOUR_MS, crash), Next::Due(due_ms), "{crash:?}");
        advance(&mut world, INVISIBLE_MS);
        assert!(pop(&mut world, 32).is_empty(), "nothing comes early by the clock");
        // Receipts of before the clock was set hold.
        ack(&mut world, &popped[1]);
        let now_ms = world.now_ms();
        let changed =
            world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &popped[2].prolong_fields(INVISIBLE_MS), &[]);
        let prolonged = popped[2].prolonged(&changed);
        // A time that is asked for now is counted from now.
        assert_eq!(revive(&mut world), Next::Due(now_ms + INVISIBLE_MS), "{crash:?}");
        send(&mut world, &["sent then"]);
        let later = pop(&mut world, 32);
        assert_eq!(bodies(&later), ["sent then"]);
        ack(&mut world, &prolonged);
        ack(&mut world, &later[0]);
        assert_eq!(set(&mut world, due_ms - 1, crash), Next::Due(due_ms));
        assert!(pop(&mut world, 32).is_empty());
        set(&mut world, due_ms, crash);
        let again = pop(&mut world, 32);
        assert_eq!(bodies(&again), ["kept"], "{crash:?}");
        ack(&mut world, &again[0]);
        assert_eq!(set(&mut world, due_ms + HOUR_MS, crash), Next::Arrival, "nothing comes twice");
        assert!(pop(&mut world, 32).is_empty());
    }
}

#[test]
fn a_clock_that_is_set_ahead_brings_messages_back_once() {
    for crash in CRASHES {
        let mut world = world(71, 1);
        send(&mut world, &["a", "b"]);
        let popped = pop(&mut world, 32);
        ack(&mut world, &popped[0]);
        set(&mut world, START_MS + HOUR_MS, crash);
        let again = pop(&mut world, 32);
        assert_eq!(bodies(&again), ["b"], "{crash:?}");
        // It has been given to another: the first consumer's acknowledgement comes too late.
        ack(&mut world, &popped[1]);
        set(&mut world, START_MS, crash);
        assert!(pop(&mut world, 32).is_empty(), "{crash:?}");
        set(&mut world, START_MS + HOUR_MS + INVISIBLE_MS, crash);
        let third = pop(&mut world, 32);
        assert_eq!((bodies(&third), third[0].reconsume_times), (vec!["b"], 2), "{crash:?}");
        ack(&mut world, &third[0]);
        assert_eq!(set(&mut world, START_MS + 9 * HOUR_MS, crash), Next::Arrival);
    }
}

#[test]
fn a_queue_that_is_popped_in_order_is_blocked_by_the_clock() {
    for crash in CRASHES {
        let mut world = world(72, 1);
        send(&mut world, &["a", "b"]);
        let pop_in_order = |world: &mut World, attempt: &'static str| {
            let fields = with(pop_fields(-1, 1, world.now_ms(), 0), "order", Value::Flag(true));
            world.call(Code::POP_MESSAGE, &with(fields, "attemptId", Value::Text(attempt)), &[])
        };
        let first = messages(&pop_in_order(&mut world, "1"));
        assert_eq!(bodies(&first), ["a"]);
        set(&mut world, START_MS - HOUR_MS, crash);
        advance(&mut world, INVISIBLE_MS);
        assert_eq!(pop_in_order(&mut world, "2").code, 210, "{crash:?}");
        set(&mut world, START_MS + HOUR_MS, crash);
        let second = messages(&pop_in_order(&mut world, "2"));
        assert_eq!(bodies(&second), ["a"], "{crash:?}: nothing behind it before");
        set(&mut world, START_MS, crash);
        // An acknowledgement frees the queue at once, whatever the clock says.
        ack(&mut world, &second[0]);
        assert_eq!(bodies(&messages(&pop_in_order(&mut world, "3"))), ["b"], "{crash:?}");
    }
}
