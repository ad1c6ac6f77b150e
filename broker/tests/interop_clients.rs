//! The other official clients, unmodified, against the real binary: older Java, Go and Node. Each is a program in
//! `interop/` that sends, consumes, fails, keeps order and delays as an application would and prints a line per
//! check.
//!
//! Without a client's tool chain its test says so and skips; `SKYLARK_INTEROP=required` makes that a failure, and
//! `SKYLARK_INTEROP=full` also runs with all messages and retries instead of a sample. With
//! `SKYLARK_INTEROP_AGAINST=apache` the programs run against Apache's own broker: what they expect is what it does.

mod support;

#[path = "interop/apache.rs"]
mod apache;
#[path = "interop/clients.rs"]
mod clients;
#[path = "interop/mixed.rs"]
mod mixed;
#[path = "interop/target.rs"]
mod target;
#[path = "interop/toolchain.rs"]
mod toolchain;

use std::time::Duration;

use clients::{Client, Scenario};
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::outgoing::Value;
use support::process::Process;
use support::raw::Raw;
use target::Target;

/// A hang, not a slow machine, is what this bounds.
const LIMIT: Duration = Duration::from_secs(420);

/// What every client shows.
const PUSH: &[&str] = &["push.each-once", "push.as-sent", "push.goes-on-behind-commit"];
const RETRY: &[&str] = &["retry.deliveries", "retry.delays", "retry.properties", "retry.dead-letters"];
const ORDERLY: &[&str] = &["orderly.complete", "orderly.in-order", "orderly.one-at-a-time"];
const DELAY: &[&str] = &["delay.each-once", "delay.as-sent", "delay.in-time"];

/// What the Go client shows of timers and transactions.
const TIMERS: &[&str] =
    &["timer.too-long", "timer.each-once", "timer.as-sent", "timer.never-early", "timer.in-time"];
const TRANSACTIONS: &[&str] =
    &["transaction.commit", "transaction.rollback", "transaction.asked-once", "transaction.other-producer"];

/// What clients with queue locks show beyond that.
const LOCKED: [&str; 3] = ["orderly.alone", "orderly.suspended-comes-again", "orderly.dead-letter"];
/// A second member gets queues of the first while both run.
const HANDED_OVER: &str = "orderly.second-takes-over";

/// How much the scenarios do: a sample, or everything.
struct Amount {
    pushed: u32,
    ordered: u32,
    retries: u32,
}

impl Amount {
    fn wanted() -> Self {
        if toolchain::is_full() {
            Self { pushed: 20_000, ordered: 3_000, retries: 3 }
        } else {
            Self { pushed: 400, ordered: 300, retries: 1 }
        }
    }
}

/// Every scenario, with the checks that only some clients make.
fn run(client: Option<Client>, also_push: &[&'static str], also_orderly: &[&'static str]) {
    let Some(client) = client else { return };
    let Some(target) = Target::start() else { return };
    let amount = Amount::wanted();
    // This one is busy and comes first; the others mostly wait, so they do it together.
    client.check(&target, &[scenario("send-push", Some(("messages", amount.pushed)), &[PUSH, also_push])]);
    client.check(
        &target,
        &[
            scenario("retry", Some(("retries", amount.retries)), &[RETRY]),
            scenario("orderly", Some(("messages", amount.ordered)), &[ORDERLY, also_orderly]),
            scenario("delay", None, &[DELAY]),
        ],
    );
    target.stop();
}

fn scenario(name: &'static str, option: Option<(&'static str, u32)>, checks: &[&[&'static str]]) -> Scenario {
    let option = option.map(|(key, value)| (key, value.to_string()));
    Scenario { name, option, checks: checks.concat(), limit: LIMIT }
}

fn run_java(client: Option<Client>) {
    let [alone, suspended, dead_letter] = LOCKED;
    run(client, &["push.port", "push.commits"], &[alone, suspended, dead_letter, HANDED_OVER]);
}

/// This version sends, commits and locks on the port two below the broker's.
#[test]
fn java_4_4() {
    run_java(Client::java_4_4());
}

#[test]
fn java_4_9() {
    run_java(Client::java_4_9());
}

#[test]
fn go() {
    run(Client::go(), &["push.compressed"], &LOCKED);
}

/// What the Go client has beyond that: it knows nothing of POP, of recalls and of message types.
#[test]
fn go_has_every_feature_of_its_client() {
    let Some(client) = Client::go() else { return };
    let Some(target) = Target::start() else { return };
    // Apache's broker counts timers in seconds.
    let precision = target.is_apache().then(|| ("precision", "2s".to_owned()));
    let mut scenarios = vec![
        scenario("replay", None, &[&["replay.again"]]),
        scenario("filters", None, &[&["filter.tag", "filter.sql", "filter.pull-sql"]]),
        Scenario { option: precision, ..scenario("timers", None, &[TIMERS]) },
        scenario("transactions", None, &[TRANSACTIONS]),
        scenario("broadcast", None, &[&["broadcast.everything-to-everyone", "broadcast.goes-on"]]),
        scenario("polls", None, &[&["poll.goes-on-behind-ack", "poll.seeks"]]),
        scenario("request", None, &[&["request.reply", "request.times-out"]]),
        scenario("trace", None, &[&["trace.complete", "trace.sent", "trace.consumed"]]),
    ];
    // To Apache's broker a policy means nothing.
    if !target.is_apache() {
        set_policy(&target, "interop-go-policy", &[300, 700, 1500]);
        scenarios.push(scenario("policy", None, &[&["policy.delays", "policy.dead-letters"]]));
    }
    client.check_operated(&target, &scenarios, |replay| reset(&target, replay));
    target.stop();
}

/// Gives a group its own list of retry delays, in milliseconds.
fn set_policy(target: &Target, group: &str, delays: &[u32]) {
    // What a consumer waits for begins with the third entry.
    let next = [&[0, 0], delays].concat();
    let policy = format!(r#"{{"type":"CUSTOMIZED","customizedRetryPolicy":{{"next":{next:?}}}}}"#);
    let group = format!(r#"{{"groupName":"{group}","groupRetryPolicy":{policy}}}"#);
    order(target, RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group.as_bytes());
}

/// Sends a group where a scenario asks for.
fn reset(target: &Target, scenario: &mut Process) {
    let line = scenario.line(LIMIT, |line| line.starts_with("reset ") || line.starts_with("end "));
    let words: Vec<&str> = line.split(' ').collect();
    // What has ended too early says itself what it lacks.
    if let ["reset", topic, group, time] = words.as_slice() {
        let fields = [
            ("topic", Value::Text(topic)),
            ("group", Value::Text(group)),
            ("timestamp", Value::Text(time)),
            ("isForce", Value::Text("true")),
        ];
        order(target, RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields, &[]);
    }
}

/// What an operator asks of the broker; it does it.
fn order(target: &Target, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) {
    let mut connection = Raw::connect(target.broker()).expect("the broker has started");
    let answer = connection.call(code, fields, body).expect("the broker answers");
    assert_eq!(answer.code, ResponseCode::SUCCESS.0, "{answer:?}");
}

/// A Go member waits a minute for a queue of another: a member that loses one does not unlock it.
#[test]
fn go_hands_queues_over() {
    if !toolchain::is_full() {
        return;
    }
    let Some(client) = Client::go() else { return };
    let Some(target) = Target::start() else { return };
    client.check(
        &target,
        &[scenario("handover", Some(("messages", 600)), &[ORDERLY, &LOCKED, &[HANDED_OVER]])],
    );
    target.stop();
}

/// This client knows no queue locks; its order is that of one member at a time.
#[test]
fn node() {
    run(Client::node(), &[], &[]);
}

#[test]
fn our_broker_under_apaches_name_server() {
    mixed::our_broker();
}

#[test]
fn apaches_broker_under_our_name_server() {
    mixed::their_broker();
}
