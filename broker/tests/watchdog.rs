//! Queues that nobody is at: how far groups are, who is at each queue, and what is in the way, on a simulated clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::lag::{LagEvent, LagEvents, LagPage, QueueLag};
use skylark_protocol::command::stats::ConsumeStats;
use skylark_protocol::outgoing::Value;
use support::raw::pull_fields;
use world::World;

const TOPIC: &str = "watched";
/// The group of `pull_fields`, without members unless a test makes some.
const GROUP: &str = "workers";
const MINUTE_MS: u64 = 60_000;
/// Two rounds, and a tick.
const NOTICED_MS: u64 = 10_100;

fn world() -> World {
    let mut world = World::new(1, Settings { default_topic_queues: Some(1), ..Settings::default() });
    send(&mut world);
    let group = format!(r#"{{"groupName":"{GROUP}"}}"#);
    assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group.as_bytes()).code, 0);
    world
}

fn send(world: &mut World) {
    assert_eq!(world.send(TOPIC, "", b"body").code, 0);
}

/// Time passes as in a server, in ticks.
fn pass(world: &mut World, ms: u64) {
    for _ in 0..ms / 100 {
        world.advance(100);
        world.broker().tick();
    }
    world.broker().commit_offsets().unwrap();
    world.settle();
}

fn pull(world: &mut World, offset: u64) -> i32 {
    world.call(Code::PULL_MESSAGE, &pull_fields(GROUP, TOPIC, 0, offset), &[]).code
}

fn commit(world: &mut World, offset: i64) {
    let fields = [
        ("consumerGroup", Value::Text(GROUP)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(0)),
        ("commitOffset", Value::Number(offset)),
    ];
    assert_eq!(world.call(Code::UPDATE_CONSUMER_OFFSET, &fields, &[]).code, 0);
}

/// A member of the group that subscribes to the topic; its connection is the world's.
fn join(world: &mut World, client: &str) {
    let body = format!(
        r#"{{"clientID":"{client}","producerDataSet":[],"consumerDataSet":[{{"groupName":"{GROUP}",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",
        "subscriptionDataSet":[{{"topic":"{TOPIC}","subString":"*","subVersion":1}}],"unitMode":false}}]}}"#
    );
    assert_eq!(world.call(Code::HEART_BEAT, &[], body.as_bytes()).code, 0);
}

/// Makes a message invisible for a minute and a half.
fn pop(world: &mut World) {
    let fields = [
        ("consumerGroup", Value::Text(GROUP)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(-1)),
        ("maxMsgNums", Value::Number(32)),
        ("invisibleTime", Value::Number(90_000)),
        ("pollTime", Value::Number(0)),
        ("bornTime", Value::Number(world.now_ms().try_into().unwrap())),
        ("initMode", Value::Number(0)),
        ("expType", Value::Text("TAG")),
        ("exp", Value::Text("*")),
        ("order", Value::Text("false")),
    ];
    let answer = world.call(Code::POP_MESSAGE, &fields, &[]);
    let answer = if answer.code == 0 { answer } else { world.call(Code::POP_MESSAGE, &fields, &[]) };
    assert_eq!(answer.code, 0, "{}", answer.remark);
}

fn rows(world: &mut World, stuck: bool) -> Vec<QueueLag> {
    rows_of(world, TOPIC, stuck)
}

fn rows_of(world: &mut World, topic: &str, stuck: bool) -> Vec<QueueLag> {
    let stuck = if stuck { "true" } else { "false" };
    let fields =
        [("group", Value::Text(GROUP)), ("topic", Value::Text(topic)), ("stuck", Value::Text(stuck))];
    LagPage::decode(&world.call(Code::SKYLARK_LIST_LAG, &fields, &[]).body).unwrap().rows
}

fn row(world: &mut World) -> QueueLag {
    let rows = rows(world, false);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}

fn events(world: &mut World) -> LagEvents {
    LagEvents::decode(&world.call(Code::SKYLARK_LIST_LAG_EVENTS, &[], &[]).body).unwrap()
}

fn because(world: &mut World) -> String {
    row(world).blocked_because.unwrap_or_default()
}

#[test]
fn a_queue_that_nobody_fetches_is_an_event_and_so_is_its_end() {
    let mut world = world();
    join(&mut world, "worker@1");
    assert_eq!(pull(&mut world, 0), 0);
    commit(&mut world, 1);
    let mine = row(&mut world);
    assert_eq!((mine.committed, mine.end, mine.lag), (Some(1), 1, 0));
    assert_eq!((mine.owner.as_deref(), mine.asked_ms_ago), (Some("worker@1"), Some(0)));
    pass(&mut world, 2 * MINUTE_MS);
    assert_eq!(events(&mut world), LagEvents::default(), "nothing is there to fetch");

    // A heartbeat, or the member is gone after two minutes.
    join(&mut world, "worker@1");
    send(&mut world);
    assert_eq!(rows(&mut world, true).len(), 1);
    pass(&mut world, NOTICED_MS);
    let found = events(&mut world);
    assert_eq!((found.events.len(), found.total, found.stuck), (1, 1, 1), "{found:?}");
    let LagEvent { group, topic, queue, lag, blocked_because, .. } = &found.events[0];
    assert_eq!((&**group, &**topic, *queue, *lag), (GROUP, TOPIC, 0, 1));
    // In the second round that found it so.
    assert_eq!(blocked_because.as_deref(), Some("worker@1 asked 125 s ago and not since"));
    pass(&mut world, MINUTE_MS);
    assert_eq!(events(&mut world).total, 1, "it is told once");

    assert_eq!(pull(&mut world, 1), 0);
    pass(&mut world, NOTICED_MS);
    let found = events(&mut world);
    assert_eq!((found.total, found.stuck, found.events[1].blocked_because.as_deref()), (2, 0, None));
    assert_eq!(rows(&mut world, true), []);
}

#[test]
fn who_fetches_at_all_is_not_stuck() {
    let mut world = world();
    for _ in 0..10 {
        join(&mut world, "worker@1");
        send(&mut world);
        assert_eq!(pull(&mut world, 0), 0, "it never gets any further");
        pass(&mut world, MINUTE_MS / 2);
    }
    assert_eq!(events(&mut world).total, 0);
}

#[test]
fn a_restart_begins_to_count_anew() {
    let mut world = world();
    pull(&mut world, 0);
    commit(&mut world, 0);
    pass(&mut world, 1000);
    world.crash(false);
    pass(&mut world, MINUTE_MS - 1000);
    assert_eq!(events(&mut world).total, 0);
    pass(&mut world, 1000 + NOTICED_MS);
    let found = events(&mut world);
    assert_eq!(found.stuck, 1, "offsets survive, so it is known that somebody should be there");
    assert_eq!(found.events[0].blocked_because.as_deref(), Some("no consumer of the group is connected"));
}

#[test]
fn what_is_in_the_way_is_named() {
    let mut world = world();
    commit(&mut world, 0);
    assert_eq!(because(&mut world), "no consumer of the group is connected");
    join(&mut world, "worker@1");
    assert_eq!(because(&mut world), "none of 1 connected consumers has asked for the queue");

    let lock = format!(
        r#"{{"clientId":"worker@2","consumerGroup":"{GROUP}","mqSet":[{{"topic":"{TOPIC}","brokerName":"broker-a","queueId":0}}]}}"#
    );
    assert_eq!(world.call(Code::LOCK_BATCH_MQ, &[], lock.as_bytes()).code, 0);
    assert_eq!(because(&mut world), "worker@2 has locked the queue and does not fetch");
    assert_eq!(row(&mut world).owner.as_deref(), Some("worker@2"));

    assert_eq!(pull(&mut world, 0), 0);
    assert_eq!(because(&mut world), "", "it has only just asked");
    pass(&mut world, MINUTE_MS);
    assert_eq!(because(&mut world), "worker@1 holds 1 fetched messages and commits nothing");
    commit(&mut world, 1);
    assert_eq!(because(&mut world), "");

    send(&mut world);
    let group = format!(r#"{{"groupName":"{GROUP}","consumeEnable":false}}"#);
    assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group.as_bytes()).code, 0);
    assert_eq!(because(&mut world), "the group may not consume: consumeEnable is false");
}

#[test]
fn what_is_popped_and_not_acknowledged_is_in_the_way() {
    let mut world = world();
    pop(&mut world);
    pass(&mut world, 1000);
    let popped = row(&mut world);
    assert_eq!((popped.lag, popped.asked_ms_ago), (1, Some(1000)));
    assert_eq!(
        popped.blocked_because.as_deref(),
        Some("1 popped messages are not acknowledged; the first is back in 89 s")
    );
}

/// Members name the topic, and never that to which what they popped comes back.
#[test]
fn what_comes_back_of_pops_is_watched() {
    const RETRIES: &str = "%RETRY%workers_watched";
    let behind = |world: &mut World| {
        let fields = [("consumerGroup", Value::Text(GROUP))];
        let stats = world.call(Code::GET_CONSUME_STATS, &fields, &[]);
        let stats = ConsumeStats::decode(&stats.body).unwrap();
        let rows = stats.offset_table.iter().filter(|(queue, _)| queue.topic == RETRIES);
        rows.map(|(_, offset)| offset.broker_offset - offset.consumer_offset).sum::<i64>()
    };
    let mut world = world();
    join(&mut world, "worker@1");
    pop(&mut world);
    pass(&mut world, 90_000);
    while matches!(world.broker().pops.step(world.broker()), Next::Now | Next::Applied(_)) {
        world.settle();
    }
    join(&mut world, "worker@1");
    let mine = rows_of(&mut world, RETRIES, false);
    assert_eq!((mine.len(), mine[0].lag, behind(&mut world)), (1, 1, 1), "{mine:?}");
    pass(&mut world, NOTICED_MS);
    let found = events(&mut world);
    assert_eq!((found.stuck, &*found.events.last().unwrap().topic), (1, RETRIES), "{found:?}");
    pop(&mut world);
    pass(&mut world, NOTICED_MS);
    assert_eq!((events(&mut world).stuck, behind(&mut world)), (0, 1));

    // Another group's retry topic is none of its business, whatever it is called.
    let mut world = self::world();
    join(&mut world, "worker@1");
    let config = br#"{"groupName":"workers_watched"}"#;
    assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config).code, 0);
    assert_eq!(world.put_topic(RETRIES, 1, "").code, 0);
    assert_eq!(rows_of(&mut world, RETRIES, false), []);
}

#[test]
fn many_groups_and_queues_are_listed_in_pages_and_watched_in_pieces() {
    const TOPICS: usize = 1200;
    /// A send asks for no more.
    const QUEUES: i64 = 4;
    let mut world = World::new(
        1,
        Settings { default_topic_queues: Some(QUEUES.try_into().unwrap()), ..Settings::default() },
    );
    for group in ["even", "odd"] {
        let config = format!(r#"{{"groupName":"{group}"}}"#);
        assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config.as_bytes()).code, 0);
    }
    for number in 0..TOPICS {
        let topic = format!("wide{number:04}");
        assert_eq!(world.send(&topic, "", b"body").code, 0);
        for queue in 0..QUEUES {
            let fields = [
                ("consumerGroup", Value::Text(if number % 2 == 0 { "even" } else { "odd" })),
                ("topic", Value::Text(&topic)),
                ("queueId", Value::Number(queue)),
                ("commitOffset", Value::Number(0)),
            ];
            assert_eq!(world.call(Code::UPDATE_CONSUMER_OFFSET, &fields, &[]).code, 0);
        }
    }
    let (mut from_group, mut from_topic) = (String::new(), String::new());
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let fields = [("fromGroup", Value::Text(&from_group)), ("fromTopic", Value::Text(&from_topic))];
        let answer = world.call(Code::SKYLARK_LIST_LAG, &fields, &[]);
        let page = LagPage::decode(&answer.body).unwrap();
        assert!(page.rows.len() <= 2200, "{}", page.rows.len());
        listed.extend(page.rows.into_iter().map(|row| (row.group, row.topic, row.queue)));
        pages += 1;
        let Some(group) = page.next_group else { break };
        (from_group, from_topic) = (group, page.next_topic.unwrap());
    }
    assert!(pages >= 3, "{pages}");
    assert_eq!(listed.len(), TOPICS * usize::try_from(QUEUES).unwrap());
    assert!(listed.is_sorted() && listed.windows(2).all(|two| two[0] != two[1]));

    pass(&mut world, MINUTE_MS + NOTICED_MS);
    assert_eq!(events(&mut world).stuck, TOPICS as u64, "one message in each");
}
