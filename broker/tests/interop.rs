//! The official RocketMQ clients and tools, unmodified, against the real binary.
//!
//! The clients are programs in `interop/java` and `interop/go` that check what an application can observe and
//! print a line per check; here brokers are started, stopped and killed beneath them. Without Java, Maven or Go
//! the tests say so and skip; `SKYLARK_INTEROP=required` makes that a failure. `SKYLARK_INTEROP_PERCENT` runs the
//! two long ones with a share of their messages.
//!
//! What is expected is what Apache's broker does, which can be seen:
//!
//! ```text
//! SKYLARK_INTEROP_AGAINST=apache cargo test -p skylark-broker --test interop java_
//! cargo test -p skylark-broker --test interop -- --ignored mqadmin
//! ```
//!
//! The first runs the scenarios that go through kills against Apache's broker, the second has `mqadmin` compare two
//! of Apache's brokers.

mod support;

#[path = "interop/apache.rs"]
mod apache;
#[path = "interop/lossy.rs"]
mod lossy;
#[path = "interop/mqadmin.rs"]
mod mqadmin;
#[path = "interop/scenario.rs"]
mod scenario;
#[path = "interop/target.rs"]
mod target;
#[path = "interop/toolchain.rs"]
mod toolchain;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lossy::Lossy;
use scenario::{JavaClient, LIMIT, start_go, value, verdict};
use support::server::Server;
use target::Target;

/// One scenario at a time: several JVMs and brokers on few cores would make time-outs of the clients' own.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn share_of(messages: u32) -> u32 {
    let percent = std::env::var("SKYLARK_INTEROP_PERCENT").ok();
    let percent: u32 = percent.map_or(100, |text| text.parse().expect("SKYLARK_INTEROP_PERCENT is a number"));
    messages * percent.clamp(1, 100) / 100
}

fn check_java(scenario: &str, checks: &[&str]) {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    client.check(&server, scenario, &[], checks);
    assert!(server.terminate().success(), "a broker that served clients ends cleanly");
}

#[test]
fn java_sends_in_every_mode() {
    check_java("send", &["send.sync", "send.async", "send.oneway", "send.batch", "send.auto-create"]);
}

#[test]
fn java_consumes_by_tag() {
    check_java("tags", &["tags.exactly-those"]);
}

#[test]
fn java_consumes_by_sql() {
    check_java_over_kills(
        "filters",
        &[],
        &[
            "filters.push",
            "filters.lite-pull",
            "filters.bad-expression",
            "filters.retries",
            "filters.long-stretch",
            "filters.woken",
            "filters.no-lag",
        ],
    );
}

#[test]
fn java_pops() {
    check_java_over_kills(
        "pop",
        &[],
        &[
            "pop.child-joined",
            "pop.shared",
            "pop.complete",
            "pop.bodies",
            "pop.popped",
            "pop.attempts",
            "pop.redelivered",
            "pop.never-early",
            "pop.no-lag",
            "pop.over-a-kill",
        ],
    );
}

#[test]
fn java_broadcasts() {
    check_java("broadcast", &["broadcast.everything-to-everyone"]);
}

#[test]
fn java_consumes_in_order() {
    check_java(
        "orderly",
        &["orderly.complete", "orderly.in-order", "orderly.one-at-a-time", "orderly.suspended-comes-again"],
    );
}

#[test]
fn java_pulls() {
    check_java("pull", &["pull.everything", "pull.edges"]);
}

#[test]
fn java_lite_pulls() {
    check_java(
        "lite-pull",
        &[
            "lite-pull.subscribed",
            "lite-pull.resumes-at-commit",
            "lite-pull.assigned",
            "lite-pull.offset-for-timestamp",
        ],
    );
}

#[test]
fn java_loses_nothing_while_members_join_and_leave() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    client.check_within(
        Duration::from_secs(1000),
        &server,
        "soak",
        &[format!("messages={}", share_of(100_000))],
        &["soak.nothing-lost", "soak.every-body-compared", "soak.volume", "soak.members-shared"],
    );
    assert!(server.terminate().success());
}

#[test]
fn java_offsets_are_exact_after_a_clean_stop() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    let half = client.check(&server, "consume-half", &[], &["offsets.half"]);
    assert!(server.terminate().success());
    server.restart();
    client.check(
        &server,
        "consume-rest",
        &[format!("offsets={}", value(&half, "offsets")), format!("consumed={}", value(&half, "consumed"))],
        &["offsets.exact-after-restart", "offsets.nothing-twice", "offsets.nothing-lost"],
    );
}

/// Offsets may be lost in a crash, but only the last second of them, and none may appear that nobody committed.
#[test]
fn java_offsets_are_at_most_a_second_old_after_a_kill() {
    const OLDEST_MS: u128 = 1000;
    const RUN_MS: u128 = 2500;

    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    let options = ["topic=InteropCommits".to_owned(), "group=interop-commits".to_owned()];
    let mut commits = client.start(&server, "commit-until-killed", &options);
    let committed = |line: &str| -> Option<(u64, u128)> {
        let (offset, at) = line.strip_prefix("committed ")?.split_once(' ')?;
        Some((offset.parse().ok()?, at.parse().ok()?))
    };
    let mut acknowledged = Vec::new();
    loop {
        let line = commits.line(LIMIT, |line| committed(line).is_some());
        acknowledged.extend(committed(&line));
        if acknowledged[acknowledged.len() - 1].1 - acknowledged[0].1 >= RUN_MS {
            break;
        }
    }
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    server.kill();
    let rest = verdict(&server, commits.finish(LIMIT), &["offsets.commits"]);
    acknowledged.extend(rest.lines.iter().filter_map(|line| committed(line)));

    server.restart();
    let read = client.check(&server, "read-offsets", &options, &[]);
    let after: u64 = value(&read, "offsets").strip_prefix("0=").unwrap().parse().unwrap();
    let (last, _) = acknowledged[acknowledged.len() - 1];
    let old_enough = acknowledged.iter().rev().find(|(_, at)| at + OLDEST_MS <= killed);
    let (oldest, _) = *old_enough.expect("commits went on for longer than a second");
    println!("ok offsets.after-kill last={last} oldest-allowed={oldest} after={after}");
    // The last one may have been taken without its answer having left.
    assert!((oldest..=last + 1).contains(&after), "{after} is not between {oldest} and {last}");
}

#[test]
fn java_new_group_after_a_restart_sees_everything() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    client.check(&server, "fill", &[], &["new-group.fill"]);
    assert!(server.terminate().success());
    server.restart();
    client.check(
        &server,
        "new-groups",
        &[],
        &["new-group.young-topic-starts-at-0", "new-group.from-first", "new-group.from-last-of-young-topic"],
    );
}

/// The producer and both kinds of consumer go on while the broker is stopped and started beneath them.
#[test]
fn go_sends_and_consumes_over_restarts() {
    let _turn = turn();
    let Some(program) = toolchain::go_client() else { return };
    let messages = share_of(10_000);
    let mut server = Server::start();
    verdict(&server, start_go(program, &server, "create", messages).finish(LIMIT), &["go.create-topic"]);

    let mut push = start_go(program, &server, "push", messages);
    push.line(LIMIT, |line| line == "subscribed");
    let mut send = start_go(program, &server, "send", messages);
    send.line(LIMIT, |line| line == "halfway");
    assert!(server.terminate().success());
    server.restart();
    verdict(&server, send.finish(LIMIT), &["go.send"]);
    verdict(&server, push.finish(LIMIT), &["go.push"]);

    let mut pull = start_go(program, &server, "pull", messages);
    pull.line(LIMIT, |line| line == "halfway");
    assert!(server.terminate().success());
    server.restart();
    verdict(&server, pull.finish(LIMIT), &["go.pull", "go.pull-from"]);
}

/// Scenarios that go on while the broker is killed beneath them, on a broker of their own.
///
/// With `SKYLARK_INTEROP_AGAINST=apache` they run against Apache's broker, which shows that they expect what it
/// does; `lenient` are the options for the promises that it does not give.
fn check_java_over_kills(scenario: &str, lenient: &[&str], checks: &[&str]) {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let Some(mut target) = Target::start() else { return };
    let lenient: Vec<String> = lenient.iter().map(|&option| option.to_owned()).collect();
    let options = if target.is_apache() { lenient.as_slice() } else { &[] };
    client.check_over_kills(&mut target, scenario, options, checks);
    target.stop();
}

#[test]
fn java_delayed_messages_come_once_and_not_before_their_time() {
    check_java_over_kills(
        "delay",
        &["may-repeat=1"],
        &[
            "delay.visible",
            "delay.over-kill",
            "delay.kill-between",
            "delay.never-early",
            "delay.in-time",
            "delay.once",
        ],
    );
}

/// Apache's broker counts in seconds, and takes no recalls unless it is told to.
#[test]
fn java_messages_come_at_the_time_they_ask_for_unless_they_are_recalled() {
    check_java_over_kills(
        "timers",
        &["may-repeat=1", "precision-ms=2000", "recall=0"],
        &[
            "timers.too-long",
            "timers.complete",
            "timers.properties",
            "timers.recalled-never-come",
            "timers.once",
            "timers.never-early",
            "timers.in-time",
        ],
    );
}

#[test]
fn java_retries_come_after_their_delay_also_over_a_kill() {
    check_java_over_kills(
        "retry",
        &["may-repeat=1"],
        &[
            "retry.sent-back",
            "retry.comes-again",
            "retry.no-oftener",
            "retry.never-early",
            "retry.in-time",
            "retry.properties",
        ],
    );
}

#[test]
fn java_gives_up_into_the_dead_letter_topic() {
    check_java_over_kills(
        "dead-letters",
        &[],
        &[
            "dead-letter.after-retries",
            "dead-letter.permission",
            "dead-letter.at-once",
            "dead-letter.by-group",
            "dead-letter.clients-limit-first",
            "dead-letter.orderly",
            "dead-letter.orderly-goes-on",
        ],
    );
}

/// Runs `skylark` with these arguments as an operator of this broker; what it prints, a line each.
fn operate(server: &Server, arguments: &[&str]) -> Vec<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skylark"));
    let output = command.args(arguments).args(["--broker", &server.broker().to_string()]).output();
    let output = output.expect("the binary was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// Against Skylark only: to Apache's broker a policy means nothing, and there dead letters are not sent again.
#[test]
fn java_retries_as_its_group_says_and_an_operator_sends_dead_letters_again() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    let mut policies = client.start(&server, "policies", &[]);
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line == "dead" || line.starts_with("end ")) {
        lines.push(policies.line(LIMIT, |_line| true));
    }
    let groups = ["interop-exponential", "interop-customized"];
    let listed = operate(&server, &["dlq", "list"]);
    for group in groups {
        assert!(listed.iter().any(|line| line.starts_with(&format!("{group} 6 "))), "{listed:?}");
        let peeked = operate(&server, &["dlq", "peek", group]);
        assert!(
            peeked.len() == 6 && peeked.iter().all(|line| line.contains(" InteropPolicies 4 ")),
            "{peeked:?}"
        );
        let id = |line: &str| line.split(' ').next().expect("a line begins with an id").to_owned();
        let first = operate(&server, &["dlq", "resend", group, "--id", &id(&peeked[0])]);
        let rest = operate(&server, &["dlq", "resend", group, "--all"]);
        let again = operate(&server, &["dlq", "resend", group, "--all"]);
        assert_eq!((first.len(), rest.len(), again.len()), (1, 5, 0), "{first:?} {rest:?} {again:?}");
    }
    let mut finished = policies.finish(LIMIT);
    finished.lines.splice(0..0, lines);
    let finished = verdict(
        &server,
        finished,
        &[
            "policy.exponential",
            "policy.customized",
            "policy.dead",
            "policy.resent",
            "policy.resent-to-others",
            "policy.marked",
            "policy.moved",
        ],
    );
    let end = value(&finished, "end-of-queue");
    server.kill();
    server.restart();
    let trail = operate(&server, &["offsets", "audit", "--group", "interop-moved"]);
    let queue = |line: &&String| line.contains(" InteropPolicies 0 ");
    let told = trail.iter().filter(queue).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[1].to_owned(), words[7].to_owned(), words[8].to_owned())
    });
    let moves = [("15", "-", "2"), ("222", "2", "0"), ("222", "0", &*end)];
    let moves = moves.map(|(code, from, to)| (code.to_owned(), from.to_owned(), to.to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), moves, "{trail:?}");
    let trail = operate(&server, &["offsets", "audit", "--group", groups[0], "--json"]);
    assert!(trail.len() == 2 && trail.iter().all(|line| line.contains("60011")), "{trail:?}");
    println!("ok policy.trail {}", trail.join(" "));
    assert!(server.terminate().success());
}

/// Beside the others, not in turn with them: for more than a minute it only waits.
#[test]
fn java_groups_get_stuck_and_an_operator_sees_why() {
    /// Two rounds of five seconds after the minute, and what a busy machine adds.
    const NOTICED_WITHIN: Duration = Duration::from_secs(180);
    const GROUPS: [&str; 3] = ["interop-blocked", "interop-closed", "interop-suspended"];

    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    let until = server.scratch().join("seen");
    let mut groups = client.start(&server, "stuck", &[format!("until={}", until.display())]);
    let begun = Instant::now();
    let line = groups.line(LIMIT, |line| line.starts_with("clients ") || line.starts_with("end "));
    let clients: Vec<&str> = line.split(' ').skip(1).collect();
    let stopped = Instant::now();
    // Of the one that is blocked in one queue; of the others both queues.
    let stuck = [(GROUPS[0], 0), (GROUPS[1], 0), (GROUPS[1], 1), (GROUPS[2], 0), (GROUPS[2], 1)];
    let told = |what: &str| -> Vec<String> {
        let events = operate(&server, &["lag", "--events"]);
        events.into_iter().filter(|line| line.split(' ').nth(1) == Some(what)).collect()
    };
    let noticed = |what: &str| -> Vec<String> {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            let lines = told(what);
            if lines.len() >= stuck.len() || Instant::now() > deadline {
                return lines;
            }
            // An operator looks now and then.
            thread::sleep(Duration::from_millis(500));
        }
    };
    let mut lines = noticed("stuck");
    // Whoever asked last did so after the start and before the messages came.
    assert!(begun.elapsed() > Duration::from_secs(60), "{lines:?}");
    println!("ok stuck.noticed after={:?} {}", stopped.elapsed(), lines.join("; "));
    lines.sort_by_key(|line| line.split(' ').skip(2).map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(lines.len(), stuck.len(), "{lines:?}");
    let mut rows = Vec::new();
    for group in GROUPS {
        let listed = operate(&server, &["lag", "--stuck", "--group", group, "--json"]);
        rows.extend(
            listed.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("an object")),
        );
    }
    assert_eq!(rows.len(), stuck.len(), "{rows:?}");
    for (((group, queue), line), row) in stuck.iter().zip(&lines).zip(&rows) {
        let (owner, because) = match *group {
            "interop-blocked" => {
                (Some(clients[0]), format!("{} holds 2 fetched messages and commits nothing", clients[0]))
            }
            "interop-suspended" => (Some(clients[1]), format!("{} asked ", clients[1])),
            _ => (None, "no consumer of the group is connected".to_owned()),
        };
        assert!(line.contains(&format!(" stuck {group} InteropStuck {queue} ")), "{line}");
        assert!(line.contains(&because), "{line}");
        assert_eq!((row["group"].as_str(), row["queue"].as_u64()), (Some(*group), Some(*queue)), "{row}");
        assert_eq!(row["owner"].as_str(), owner, "{row}");
        assert!(row["blockedBecause"].as_str().is_some_and(|said| said.contains(&because)), "{row}");
    }
    assert!(server.transcript().contains("a queue holds messages that nobody fetches"));

    std::fs::write(&until, []).expect("the scratch directory is writable");
    groups.line(LIMIT, |line| line == "complete" || line.starts_with("end "));
    let lines = noticed("moves");
    assert_eq!(lines.len(), stuck.len(), "{lines:?}");
    assert_eq!(operate(&server, &["lag", "--stuck", "--json"]), Vec::<String>::new());
    println!("ok stuck.moves {}", lines.join("; "));
    std::fs::remove_file(&until).expect("it was written");
    verdict(&server, groups.finish(LIMIT), &["stuck.over"]);
    assert!(server.terminate().success());
}

/// Takes a little over a minute: a dead member's lease has to run out.
#[test]
fn java_keeps_order_while_members_and_the_broker_come_and_go() {
    check_java_over_kills(
        "order",
        &[],
        &[
            "order.two-members",
            "order.joined",
            "order.lease-of-the-dead",
            "order.over-kill",
            "order.complete",
            "order.kept",
            "order.one-at-a-time",
        ],
    );
}

#[test]
fn java_queues_move_as_members_come_and_go() {
    check_java_over_kills(
        "members",
        &[],
        &[
            "members.first-has-all",
            "members.joined",
            "members.left",
            "members.child-joined",
            "members.killed",
        ],
    );
}

#[test]
fn java_finds_messages() {
    check_java_over_kills(
        "find",
        &[],
        &["find.by-key", "find.by-id", "find.by-time", "find.by-queue-offset", "find.by-wrong-offset"],
    );
}

#[test]
fn java_groups_go_where_an_operator_sends_them() {
    check_java_over_kills(
        "reset",
        &["settle-ms=16000"],
        &[
            "reset.live",
            "reset.pending",
            "reset.commits-do-not-count",
            "reset.over-kill",
            "reset.absent",
            "reset.to-the-start",
            "reset.skips-backlog",
            "reset.by-queue",
            "reset.beyond-the-end",
        ],
    );
}

#[test]
fn java_new_groups_start_where_they_wish() {
    check_java_over_kills("start", &[], &["start.from-first", "start.from-timestamp", "start.from-last"]);
}

/// Against Skylark only: Apache's broker knows no such attributes.
#[test]
fn java_is_held_to_quotas() {
    check_java(
        "quotas",
        &[
            "quotas.too-large",
            "quotas.refused",
            "quotas.sent-at-the-rate",
            "quotas.read-in-order",
            "quotas.as-sent",
            "quotas.read-at-the-rate",
        ],
    );
}

#[test]
fn java_requests_are_replied_to() {
    check_java_over_kills("request", &[], &["request.reply"]);
}

#[test]
fn java_sends_messages_of_every_kind() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start_with(&["--check-message-types", "true"]);
    let checks = [
        "kinds.bodies",
        "kinds.above-the-limit",
        "kinds.batch-above-the-limit",
        "kinds.traces",
        "kinds.types",
        "kinds.checked",
    ];
    client.check(&server, "kinds", &[], &checks);
    assert!(server.terminate().success());
}

/// What is pulled from a light queue of Apache's says where it lies in its topic, and push consumers commit that.
#[test]
fn java_consumes_light_queues() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let lines = ["enableLmq=true", "enableMultiDispatch=true"];
    let Some(mut target) = Target::start_with(&["--light-queues", "true"], &lines) else { return };
    let checks = ["light.push", "light.over-a-kill", "light.goes-on", "light.pull", "light.pop"];
    let options = if target.is_apache() { vec!["places=0".to_owned()] } else { Vec::new() };
    client.check_over_kills(&mut target, "light", &options, &checks);
    target.stop();
}

/// Against Skylark only: Apache's broker looks at open transactions at its own pace.
#[test]
fn java_transactions_end_as_their_producers_say() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let options = [
        "--transaction-timeout-ms=2000",
        "--transaction-check-interval-ms=3000",
        "--transaction-checks-max=5",
    ];
    let mut target = Target::Skylark(Box::new(Server::start_with(&options)));
    client.check_over_kills(
        &mut target,
        "transactions",
        &[],
        &[
            "transaction.commit",
            "transaction.rollback",
            "transaction.check",
            "transaction.asked-once",
            "transaction.other-producer",
            "transaction.open-over-kill",
            "transaction.over-kill",
            "transaction.check-limit",
            "transaction.given-up",
            "transaction.half-messages",
            "transaction.closed-topic",
            "transaction.once",
        ],
    );
    target.stop();
}

/// Producers of the official client behind a proxy that breaks the connection instead of handing out every tenth answer
/// to a send, with a kill of the broker in between: what was sent again is stored once, where its producer was told.
/// The same without suppression shows that the proxy does what it is there for.
#[test]
fn java_retries_are_stored_once_where_a_topic_asks_for_it() {
    const RETRIES_MIN: u64 = 1000;
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    // Clients are told an address at which the proxy listens, and not the broker.
    let mut server = Server::start_with(&["--advertise", "127.0.0.2"]);
    let front = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), server.broker().port()));
    let proxy = Lossy::start(front, server.broker(), 10);
    let counted = |counter: fn(&lossy::Counts) -> &AtomicU64| counter(proxy.counts()).load(Ordering::Relaxed);
    let options = ["messages=14000", "kill=1"].map(str::to_owned);
    let mut process = client.start(&server, "suppression", &options);
    process.line(LIMIT, |line| line == "kill");
    server.kill();
    server.restart();
    let checks = ["suppression.sent", "suppression.once", "suppression.told"];
    let finished = process.finish(LIMIT);
    assert_eq!(
        counted(|counts| &counts.late),
        0,
        "sends that the broker did not answer\n{}",
        finished.transcript()
    );
    verdict(&server, finished, &checks);
    let (retries, swallowed) = (counted(|counts| &counts.retries), counted(|counts| &counts.swallowed));
    println!(
        "ok suppression.retries sends={} retries={retries} swallowed={swallowed}",
        counted(|counts| &counts.sends)
    );
    assert!(retries >= RETRIES_MIN, "the proxy saw {retries} retries");

    let options = ["messages=4000", "on=0"].map(str::to_owned);
    let found = client.check(&server, "suppression", &options, &["repetition.sent", "repetition.shows"]);
    let again = counted(|counts| &counts.retries) - retries;
    println!("ok repetition.retries retries={again} repeated={}", value(&found, "repeated"));
    assert!(server.terminate().success());
}

/// For who changes suppression, or sends: run it with `--release -- --ignored --nocapture` on a machine that does nothing
/// else. It takes a minute and a half.
#[test]
#[ignore = "measures"]
fn java_hardly_notices_suppression() {
    let _turn = turn();
    let Some(client) = JavaClient::built() else { return };
    let mut server = Server::start();
    client.check(&server, "suppression-cost", &[], &["cost.measured"]);
    assert!(server.terminate().success());
}

#[test]
fn java_sees_nothing_of_a_topics_earlier_life() {
    // Apache's own dispatches the log again after a kill, without a look at topics.
    check_java_over_kills(
        "recreate",
        &["kill=0"],
        &[
            "recreate.first-life",
            "recreate.deleted",
            "recreate.empty",
            "recreate.offsets",
            "recreate.only-the-second-life",
        ],
    );
}

#[test]
fn mqadmin_shows_what_it_shows_of_apache() {
    let _turn = turn();
    mqadmin::compare();
}

/// What is called volatile really is, and everything else is not: for who changes the comparison.
#[test]
#[ignore = "says nothing about Skylark"]
fn mqadmin_shows_the_same_of_two_apaches() {
    let _turn = turn();
    mqadmin::compare_apache_with_itself();
}
