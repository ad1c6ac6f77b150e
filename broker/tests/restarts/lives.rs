//! A topic that is deleted and made again has nothing of its earlier life.

use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::audit::{audit, fill, range, send, settings};
use crate::disks;
use crate::support::raw::pull_fields;
use crate::world::World;

fn delete(world: &mut World) {
    let answer = world.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text("t"))], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// The broker is killed or loses power, and perhaps its index files.
fn restart(world: &mut World, how: u8) {
    let disk = if how & 1 == 0 { world.disk.kill() } else { world.disk.crash() };
    if how & 2 != 0 {
        disks::lose(&disk, &disks::index_files(&disk));
    }
    if how & 4 != 0 {
        disks::lose(&disk, &disks::snapshots(&disk));
    }
    world.restart_on(disk);
    world.settle();
}

fn offset_of_group(world: &mut World) -> i32 {
    let fields = [
        ("consumerGroup", Value::Text("G")),
        ("topic", Value::Text("t")),
        ("queueId", Value::Number(0)),
        ("setZeroIfNotFound", Value::Flag(false)),
    ];
    world.call(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]).code
}

#[test]
fn nothing_of_an_earlier_life_comes_back() {
    let not_found = 22;
    for how in 0..8 {
        let mut world = World::new(u64::from(how), settings());
        let first = (0..40).map(|_| send(&mut world, "t", 0, &[b'1'; 900])).max().unwrap() + 1;
        world.call(RequestCode::PULL_MESSAGE, &pull_fields("G", "t", 0, 0), &[]);
        let fields = [
            ("consumerGroup", Value::Text("G")),
            ("topic", Value::Text("t")),
            ("queueId", Value::Number(0)),
            ("commitOffset", Value::Number(9)),
        ];
        assert_eq!(world.call(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]).code, 0);
        world.broker().commit_offsets().unwrap();
        // Some of it gets into index files.
        fill(&mut world, "other", 2, 1);
        delete(&mut world);
        restart(&mut world, how);
        assert!(world.broker().catalog.read().topics.get("t").is_none(), "way {how}");
        fill(&mut world, "other", 2, 2);
        assert_eq!(send(&mut world, "t", 0, b"second life"), first, "way {how}");
        for _ in 0..2 {
            assert_eq!(range(&world, "t", 0), first..first + 1, "way {how}");
            assert_eq!(offset_of_group(&mut world), not_found, "way {how}");
            let answer = world.call(RequestCode::PULL_MESSAGE, &pull_fields("C", "t", 0, 0), &[]);
            assert_eq!((answer.code, answer.number("nextBeginOffset")), (21, first), "way {how}");
            audit(&mut world);
            restart(&mut world, how);
        }
        // And again, in the same segment.
        delete(&mut world);
        assert_eq!(send(&mut world, "t", 0, b"third life"), first + 1, "way {how}");
        restart(&mut world, how);
        assert_eq!(range(&world, "t", 0), first + 1..first + 2, "way {how}");
        audit(&mut world);
    }
}
