//! What lies in light queues, who may write there, and how many there may be.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::disks;
use crate::support::raw::pull_fields;
use crate::world::{World, level};

fn world() -> World {
    World::new(1, settings())
}

#[test]
fn a_message_lies_in_its_topic_and_in_every_light_queue_it_names() {
    let mut world = world();
    for (queue, lights, body) in [
        (0, vec!["a", "b"], "first"),
        (1, vec!["b"], "second"),
        (1, vec!["c", "a", "b"], "third"),
        (0, vec![], "plain"),
    ] {
        let properties = if lights.is_empty() { String::new() } else { names(&lights) };
        assert_eq!(send(&mut world, "chat", queue, &properties, body.as_bytes()).code, 0);
    }
    for restarted in [false, true] {
        assert_eq!(bodies(&mut world, "a"), ["first", "third"]);
        assert_eq!(bodies(&mut world, "b"), ["first", "second", "third"]);
        assert_eq!(bodies(&mut world, "c"), ["third"]);
        let parent = world.pulled("chat", 1);
        let offsets: Vec<_> =
            parent.iter().map(|message| message.properties["INNER_MULTI_QUEUE_OFFSET"].as_str()).collect();
        assert_eq!(offsets, ["1", "0,1,2"]);
        assert_eq!(parent.iter().map(|message| message.queue_offset).collect::<Vec<_>>(), [0, 1]);
        // It is the same message: found at the same place, with all it had.
        let third = world.pulled("%LMQ%c", 0).remove(0);
        assert_eq!((third.physical_offset, &third.id), (parent[1].physical_offset, &parent[1].id));
        assert_eq!(third.properties, parent[1].properties);
        assert_eq!(offset(&mut world, Code::GET_MAX_OFFSET, "%LMQ%b"), 3);
        if !restarted {
            world.crash(true);
        }
    }
}

#[test]
fn tags_and_expressions_select_in_light_queues_too() {
    let mut world = world();
    for number in 0..6_u8 {
        let tag = if number % 2 == 0 { "even" } else { "odd" };
        let properties = format!("TAGS\u{1}{tag}\u{2}n\u{1}{number}\u{2}{}", names(&["q"]));
        assert_eq!(send(&mut world, "t", (number % 4).into(), &properties, &[b'0' + number]).code, 0);
    }
    for (expression, kind, expected) in [("odd", "TAG", "135"), ("n BETWEEN 2 AND 4", "SQL92", "234")] {
        let mut fields = pull_fields("CG", "%LMQ%q", 0, 0);
        fields.retain(|(name, _)| *name != "subscription");
        fields.extend([("subscription", Value::Text(expression)), ("expressionType", Value::Text(kind))]);
        let answer = world.call(Code::PULL_MESSAGE, &fields, b"");
        assert_eq!(answer.code, 0, "{}", answer.remark);
        let messages = skylark_protocol::message::StoredMessage::parse_all(&answer.body);
        let found: Vec<_> = messages.map(|message| message.unwrap()).collect();
        let bodies: String = found.iter().map(|message| char::from(message.body[0])).collect();
        assert_eq!(bodies, expected);
        // Each says where it lies in this queue.
        assert!(found.iter().all(|m| m.queue_id == 0 && m.queue_offset == u64::from(m.body[0] - b'0')));
    }
}

#[test]
fn a_consumer_may_be_there_first_and_commits() {
    let mut world = world();
    assert_eq!(offset(&mut world, Code::GET_MIN_OFFSET, "%LMQ%early"), 0);
    assert_eq!(bodies(&mut world, "early"), [""; 0]);
    let answer = world.call(Code::PULL_MESSAGE, &pull_fields("CG", "%LMQ%early", 0, 0), b"");
    assert_eq!(answer.code, 19, "the queue is there, and empty: {}", answer.remark);
    send(&mut world, "t", 0, &names(&["early"]), b"x");
    assert_eq!(bodies(&mut world, "early"), ["x"]);
    let group = |commit: Option<i64>| {
        let mut fields = vec![
            ("consumerGroup", Value::Text("CG")),
            ("topic", Value::Text("%LMQ%early")),
            ("queueId", Value::Number(0)),
        ];
        fields.extend(commit.map(|commit| ("commitOffset", Value::Number(commit))));
        fields
    };
    assert_eq!(world.call(Code::UPDATE_CONSUMER_OFFSET, &group(Some(1)), b"").code, 0);
    world.broker().commit_offsets().unwrap();
    world.settle();
    world.crash(true);
    assert_eq!(world.call(Code::QUERY_CONSUMER_OFFSET, &group(None), b"").number("offset"), 1);
}

#[test]
fn what_cannot_be_kept_is_refused_and_nothing_is_stored() {
    let mut world = world();
    let dispatch = |text: &str| format!("INNER_MULTI_DISPATCH\u{1}{text}\u{2}");
    let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}".to_owned();
    for (properties, named) in [
        (dispatch("%LMQ%a,plain"), "plain is no name"),
        (dispatch("%LMQ%a,%LMQ%a"), "twice"),
        (dispatch("%LMQ%a,"), "no name"),
        (dispatch("%LMQ%a/b"), "no name"),
        (names(&["a"]) + &level(1), "neither be delayed"),
        (names(&["a"]) + "TIMER_DELAY_SEC\u{1}5\u{2}", "neither be delayed"),
        ("TIMER_DELAY_MS\u{1}5\u{2}".to_owned() + &names(&["a"]), "neither be delayed"),
        // Whether a time has passed decides nothing: the same send would be taken or not.
        (names(&["a"]) + "TIMER_DELIVER_MS\u{1}1\u{2}", "neither be delayed"),
        (names(&["a"]) + "TIMER_DELIVER_MS\u{1}1700000005000\u{2}", "neither be delayed"),
        (names(&["a"]) + "TIMER_DEL_UNIQKEY\u{1}t+K\u{2}", "recalled by its handle"),
        (names(&["a"]) + &half, "nor part of a transaction"),
        (dispatch(&vec!["%LMQ%x"; 1025].join(",")), "limit is 1024"),
    ] {
        let answer = send(&mut world, "t", 0, &properties, b"x");
        assert!(answer.code == 13 && answer.remark.contains(named), "{answer:?}");
    }
    for (batch, each) in [(names(&["a"]), String::new()), (String::new(), names(&["a"]))] {
        let answer = send_batch(&mut world, "t", &batch, &["", &each]);
        assert!(answer.code == 13 && answer.remark.contains("cannot be for light queues"), "{answer:?}");
    }
    let answer = send(&mut world, "%LMQ%a", 0, "", b"x");
    assert_eq!(answer.code, 16, "{}", answer.remark);
    assert_eq!(world.put_topic("%LMQ%a", 4, "").code, 29);
    assert_eq!(world.pulled("t", 0).len(), 0);
    // What stands in a message that was consumed before means nothing: it does not lie there again.
    send(&mut world, "t", 0, &names(&["a"]), b"once");
    let consumed = format!("{}INNER_MULTI_QUEUE_OFFSET\u{1}7\u{2}", names(&["a"]));
    assert_eq!(send(&mut world, "%RETRY%CG", 0, &consumed, b"again").code, 0);
    assert_eq!(bodies(&mut world, "a"), ["once"]);
    // And a sender cannot say where it lies.
    assert_eq!(send(&mut world, "t", 0, &consumed, b"second").code, 0);
    assert_eq!(bodies(&mut world, "a"), ["once", "second"]);

    world.reconfigure(Settings { light_queues: None, ..settings() });
    let answer = send(&mut world, "t", 0, &names(&["a"]), b"x");
    assert!(answer.code == 13 && answer.remark.contains("--light-queues"), "{answer:?}");
    assert_eq!(bodies(&mut world, "a"), ["once", "second"], "what is there stays readable");
}

#[test]
fn there_are_only_so_many_and_deletion_makes_room() {
    let mut world = world();
    for number in 0..20 {
        assert_eq!(send(&mut world, "t", 0, &names(&[&number.to_string()]), b"x").code, 0);
    }
    let answer = send(&mut world, "t", 0, &names(&["0", "more"]), b"y");
    assert!(answer.code == 1 && answer.remark.contains("LMQ_CONSUME_QUEUE_NUM_EXCEEDED"), "{answer:?}");
    assert_eq!(bodies(&mut world, "0"), ["x"], "all or none");
    assert_eq!(world.call(Code::PULL_MESSAGE, &pull_fields("CG", "%LMQ%more", 0, 0), b"").code, 1);
    assert_eq!(delete_topic(&mut world, "%LMQ%0").code, 0);
    assert_eq!(send(&mut world, "t", 0, &names(&["more"]), b"y").code, 0);
    assert_eq!(delete_topic(&mut world, "%LMQ%1").code, 0);
    // Offsets go on where they were, and what it held is gone.
    assert_eq!(send(&mut world, "t", 0, &names(&["0"]), b"second life").code, 0);
    for _ in 0..2 {
        assert_eq!(bodies(&mut world, "0"), ["second life"]);
        assert_eq!(offset(&mut world, Code::GET_MIN_OFFSET, "%LMQ%0"), 1);
        world.crash(true);
    }
    // Lists of topics do not show them.
    let listed = world.call(Code::GET_ALL_TOPIC_CONFIG, &[], b"");
    assert!(!String::from_utf8_lossy(&listed.body).contains("%LMQ%"));
}

#[test]
fn repetitions_are_suppressed_in_light_queues_as_well() {
    let mut world = world();
    assert_eq!(world.put_topic("t", 4, "+skylark.duplicates=suppress").code, 0);
    let properties = format!("UNIQ_KEY\u{1}K\u{2}{}", names(&["a", "b"]));
    let first = send(&mut world, "t", 0, &properties, b"x");
    for power in [true, false] {
        let again = send(&mut world, "t", 1, &properties, b"x");
        assert_eq!((again.code, &again.fields["msgId"]), (0, &first.fields["msgId"]));
        assert_eq!((bodies(&mut world, "a").len(), bodies(&mut world, "b").len()), (1, 1));
        world.crash(power);
    }
    // The key and the body tell messages apart, not the queues that one is for: it stays where the first was put.
    let elsewhere = format!("UNIQ_KEY\u{1}K\u{2}{}", names(&["b", "c"]));
    let again = send(&mut world, "t", 0, &elsewhere, b"x");
    assert_eq!((again.code, &again.fields["msgId"]), (0, &first.fields["msgId"]));
    assert_eq!((bodies(&mut world, "b").len(), bodies(&mut world, "c").len()), (1, 0));
    // Another message with the same queues goes on behind it.
    assert_eq!(send(&mut world, "t", 0, &properties, b"y").code, 0);
    assert_eq!(
        (bodies(&mut world, "a"), bodies(&mut world, "b")),
        (["x", "y"].map(str::to_owned).to_vec(), ["x", "y"].map(str::to_owned).to_vec())
    );
}

#[test]
fn light_queues_outlive_snapshots_and_trims() {
    let mut world = World::new(7, Settings { retention_bytes: Some(4 * SEGMENT_BYTES), ..settings() });
    let mut sent = 0_u64;
    let mut fill = |world: &mut World, count: u64| {
        for _ in 0..count {
            let lights: Vec<String> = (0..=sent % 3).map(|light| light.to_string()).collect();
            let lights: Vec<&str> = lights.iter().map(String::as_str).collect();
            let body = format!("{sent} {}", "x".repeat(400));
            assert_eq!(send(world, "t", 0, &names(&lights), body.as_bytes()).code, 0);
            sent += 1;
        }
        sent
    };
    fill(&mut world, 300);
    let check = |world: &mut World, sent: u64| {
        let numbers = |bodies: Vec<String>| -> Vec<u64> {
            bodies.iter().map(|body| body.split(' ').next().unwrap().parse().unwrap()).collect()
        };
        for light in 0..3 {
            let found = numbers(bodies(world, &light.to_string()));
            let all: Vec<u64> = (0..sent).filter(|number| number % 3 >= light).collect();
            assert!(!found.is_empty() && all.ends_with(&found), "{light}: {found:?}");
            let name = format!("%LMQ%{light}");
            assert_eq!(offset(world, Code::GET_MAX_OFFSET, &name), all.len() as u64);
            assert_eq!(offset(world, Code::GET_MIN_OFFSET, &name), (all.len() - found.len()) as u64);
        }
    };
    check(&mut world, 300);
    world.crash(true);
    check(&mut world, 300);
    let sent = fill(&mut world, 700);
    world.clock.advance(std::time::Duration::from_secs(60));
    world.settle();
    assert!(offset(&mut world, Code::GET_MIN_OFFSET, "%LMQ%2") > 0, "the log was trimmed");
    check(&mut world, sent);
    world.crash(true);
    check(&mut world, sent);
}

#[test]
fn index_files_are_built_again_as_they_were() {
    let mut world = world();
    for number in 0..300 {
        let body = format!("{number} {}", "x".repeat(400));
        assert_eq!(send(&mut world, "t", number % 4, &names(&["b", "a"]), body.as_bytes()).code, 0);
    }
    let right = (bodies(&mut world, "a"), bodies(&mut world, "b"));
    assert_eq!((right.0.len(), right.1.len()), (300, 300));
    let files = |world: &World| -> Vec<_> {
        let files = disks::index_files(&world.disk).into_iter();
        files.map(|name| disks::read(&world.disk, &name)).collect()
    };
    let before = files(&world);
    assert!(before.len() >= 2, "{}", before.len());
    let disk = world.disk.crash();
    disks::lose(&disk, &disks::index_files(&disk));
    world.restart_on(disk);
    world.settle();
    assert!(files(&world) == before);
    assert_eq!((bodies(&mut world, "a"), bodies(&mut world, "b")), right);
}
