//! Retry policies: how long a message waits that a group could not consume, on a simulated disk and clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use skylark_broker::config::Settings;
use skylark_broker::timers::Carried;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;
use support::raw::Answer;
use world::{Pulled, World};

const GROUP: &str = "CG";

fn put(world: &mut World, policy: &Json, times_max: i32) -> Answer {
    let config = json!({"groupName": GROUP, "retryMaxTimes": times_max, "groupRetryPolicy": policy});
    world.call(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config.to_string().as_bytes())
}

fn send_back(world: &mut World, message: &Pulled, level: i64) {
    let fields = [
        ("offset", message.physical_offset.into()),
        ("group", Value::Text(GROUP)),
        ("delayLevel", Value::Number(level)),
    ];
    let answer = world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// A world with a message in it, and a group with this policy.
fn with_policy(policy: &Json, times_max: i32) -> (World, Pulled) {
    with_policy_in(Settings::default(), policy, times_max)
}

fn with_policy_in(settings: Settings, policy: &Json, times_max: i32) -> (World, Pulled) {
    let mut world = World::new(1, settings);
    let answer = put(&mut world, policy, times_max);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(world.send("orders", "UNIQ_KEY\u{1}U\u{2}", b"x").code, 0);
    let message = world.pulled("orders", 0).pop().unwrap();
    (world, message)
}

fn retried(world: &mut World) -> Vec<Pulled> {
    world.pulled("%RETRY%CG", 0)
}

/// The message fails again and again: each time it comes back after exactly so many milliseconds.
fn check_delays(policy: &Json, delays_ms: &[u64]) {
    let (mut world, mut message) = with_policy(policy, i32::try_from(delays_ms.len()).unwrap());
    for (times, delay_ms) in delays_ms.iter().enumerate() {
        send_back(&mut world, &message, 0);
        if *delay_ms > 0 {
            world.advance(*delay_ms);
            assert_eq!(retried(&mut world).len(), times, "not before {delay_ms} ms are over: {policy}");
            world.advance(1);
        }
        let returned = retried(&mut world);
        assert_eq!(returned.len(), times + 1, "after {delay_ms} ms: {policy}");
        message = returned[times].clone();
        assert_eq!(message.reconsume_times, i32::try_from(times).unwrap() + 1);
        assert_eq!(message.properties["RETRY_TOPIC"], "orders");
    }
    send_back(&mut world, &message, 0);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 1, "then it is dead");
}

#[test]
fn delays_grow_by_a_factor_up_to_the_highest() {
    let policy = |policy: Json| json!({"type": "EXPONENTIAL", "exponentialRetryPolicy": policy});
    check_delays(
        &policy(json!({"initial": 1500, "max": 10_000, "multiplier": 2})),
        &[1500, 3000, 6000, 10_000, 10_000],
    );
    check_delays(&policy(json!({"initial": 7, "max": 5000, "multiplier": 10})), &[7, 70, 700, 5000]);
    check_delays(&policy(json!({"initial": 250, "max": 5000, "multiplier": 1})), &[250, 250, 250]);
    // What is left out is as in Java.
    check_delays(&policy(json!({})), &[5000, 10_000, 20_000, 40_000]);
}

#[test]
fn delays_are_those_of_a_list_from_its_third_on() {
    let policy = |next: Json| json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": next}});
    check_delays(&policy(json!([1, 2, 700, 900, 333])), &[700, 900, 333, 333]);
    check_delays(&policy(json!([40])), &[40, 40]);
    check_delays(&policy(json!([0, 0, 0, 5])), &[0, 5]);
}

#[test]
fn a_policy_without_its_table_is_rocketmqs_default() {
    for policy in [
        json!({"type": "EXPONENTIAL"}),
        json!({"type": "CUSTOMIZED"}),
        json!({}),
        json!(null),
        // The other kind's table does not count.
        json!({"type": "EXPONENTIAL", "customizedRetryPolicy": {"next": [1]}}),
        json!({"type": "CUSTOMIZED", "exponentialRetryPolicy": {"initial": 1}}),
    ] {
        check_delays(&policy, &[10_000, 30_000, 60_000]);
    }
}

#[test]
fn a_level_that_the_consumer_names_goes_before() {
    let policy = json!({"type": "EXPONENTIAL", "exponentialRetryPolicy": {"initial": 60_000}});
    let (mut world, message) = with_policy(&policy, 16);
    send_back(&mut world, &message, 1);
    world.advance(1001);
    assert_eq!(retried(&mut world).len(), 1);
    send_back(&mut world, &message, -1);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 1);
}

#[test]
fn a_policy_is_told_as_it_was_stated() {
    for policy in [
        json!({"type": "CUSTOMIZED"}),
        json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [1000, 2000]}}),
        json!({"type": "EXPONENTIAL", "exponentialRetryPolicy": {"initial": 1, "max": 2, "multiplier": 3}}),
    ] {
        let (mut world, _) = with_policy(&policy, 4);
        world.crash(true);
        let answer = world.call(RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", GROUP.into())], &[]);
        let config: Json = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&config["groupRetryPolicy"], &config["retryMaxTimes"]), (&policy, &json!(4)));
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_by_name() {
    let mut world = World::new(1, Settings::default());
    let year_ms = 366_i64 * 24 * 3600 * 1000;
    let exponential =
        |field: &str, value: Json| json!({"type": "EXPONENTIAL", "exponentialRetryPolicy": {field: value}});
    let customized = |next: Json| json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": next}});
    for (policy, named) in [
        (json!({"type": "LINEAR"}), "groupRetryPolicy.type"),
        (exponential("initial", json!(-1)), "initial"),
        (exponential("initial", json!("soon")), "initial"),
        (exponential("max", json!(year_ms + 1)), "max"),
        (exponential("max", json!(1.5)), "max"),
        (exponential("multiplier", json!(0)), "multiplier"),
        (customized(json!([])), "next"),
        (customized(json!([1, "2"])), "next"),
        (customized(json!([1, -2])), "next"),
        (customized(json!(7)), "next"),
        (customized(json!(vec![1; 1025])), "next"),
        (customized(json!([1, u64::MAX])), "next"),
    ] {
        let answer = put(&mut world, &policy, 16);
        assert_eq!(answer.code, 29, "{policy}: {answer:?}");
        assert!(answer.remark.contains(named), "{policy}: {answer:?}");
    }
    let answer = world.call(RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", GROUP.into())], &[]);
    assert_eq!(answer.code, 26, "nothing was made of any of them");
}

#[test]
fn what_waits_keeps_its_time_over_crashes_and_changes_of_the_policy() {
    let policy = |ms: i64| json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [ms]}});
    let (mut world, message) = with_policy(&policy(7777), 16);
    send_back(&mut world, &message, 0);
    assert_eq!(put(&mut world, &policy(10), 16).code, 0);
    world.crash(true);
    world.advance(7777);
    assert_eq!(retried(&mut world).len(), 0);
    world.crash(false);
    world.advance(1);
    world.crash(true);
    world.fire();
    let returned = retried(&mut world);
    assert_eq!(returned.len(), 1, "once");
    send_back(&mut world, &returned[0], 0);
    world.advance(11);
    assert_eq!(retried(&mut world).len(), 2, "the next retry waits as the group is told meanwhile");
}

/// Exact delays wait in one queue, where a later one may lie in front of an earlier one.
#[test]
fn delays_of_all_lengths_come_in_their_order_and_survive_a_trim() {
    const SEGMENT_BYTES: u64 = 65_536;
    let policy = |ms: u64| json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [ms]}});
    let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
    let (mut world, message) = with_policy_in(settings, &policy(1), 16);
    let delays: Vec<u64> = (0..40).map(|number| 3_000 + number * 7_919 % 2_000).collect();
    for delay in &delays {
        assert_eq!(put(&mut world, &policy(*delay), 16).code, 0);
        send_back(&mut world, &message, 0);
    }
    while world.end().get() < 2 * SEGMENT_BYTES {
        assert_eq!(world.send("orders", "", &[0; 4096]).code, 0);
    }
    let broker = Arc::clone(&world.running.broker);
    while let Carried::Some { .. } =
        broker.timers.carry_forward(&broker, PhysicalOffset::new(SEGMENT_BYTES)).unwrap()
    {
        world.settle();
    }
    world.crash(true);
    let began = world.now_ms();
    let mut sorted = delays.clone();
    sorted.sort_unstable();
    for elapsed in (0..5_002).step_by(100) {
        world.advance(100);
        let due = sorted.iter().filter(|delay| **delay < elapsed + 100).count();
        assert_eq!(retried(&mut world).len(), due, "after {} ms", world.now_ms() - began);
    }
    assert_eq!(retried(&mut world).len(), delays.len());
}
