//! Index files are rebuilt, byte by byte as they were, while pulls are answered.

use std::collections::BTreeMap;

use skylark_protocol::code::RequestCode;
use skylark_storage::device::simulated::Disk;

use super::audit::{audit, fill, pulled, range, settings};
use crate::disks;
use crate::support::raw::{Answer, pull_fields};
use crate::world::{Pulled, World, level};

fn files(disk: &Disk) -> BTreeMap<String, Vec<u8>> {
    disks::index_files(disk).into_iter().map(|name| (name.clone(), disks::read(disk, &name))).collect()
}

/// Asks, and lets everything but the archivist work.
fn ask(world: &mut World, queue: u32, offset: u64) -> Answer {
    world.submit(RequestCode::PULL_MESSAGE, &pull_fields("G", "t", queue, offset), &[]);
    for _ in 0..64 {
        world.poll();
        world.running.writer.step();
        world.running.dispatcher.step().unwrap();
        world.running.broker.readers.step(&world.running.broker);
    }
    world.written().pop().expect("a pull is answered")
}

#[test]
fn index_files_are_rebuilt_as_they_were_while_pulls_are_answered() {
    let mut world = World::new(3, settings());
    world.send("t", &level(1), b"one that waits");
    fill(&mut world, "t", 4, 1);
    fill(&mut world, "u", 2, 2);
    fill(&mut world, "t", 2, 3);
    world.settle();
    let right: Vec<Vec<Pulled>> = (0..3).map(|queue| world.pulled("t", queue)).collect();
    let before = files(&world.disk);
    assert!(before.len() >= 7, "{}", before.len());

    let disk = world.disk.crash();
    disks::lose(&disk, &disks::index_files(&disk));
    world.restart_on(disk);
    let (mut busy, mut answered, mut steps) = (0, 0, 0);
    loop {
        for queue in 0..3 {
            for offset in range(&world, "t", queue).step_by(29) {
                let answer = ask(&mut world, queue, offset);
                match answer.code {
                    0 => {
                        let found = pulled(&answer);
                        let first = usize::try_from(offset).unwrap();
                        let expected = &right[queue as usize][first..first + found.len()];
                        let of = |messages: &[Pulled]| -> Vec<_> {
                            messages
                                .iter()
                                .map(|message| (message.physical_offset, message.body.clone()))
                                .collect()
                        };
                        assert_eq!(of(&found), of(expected));
                        answered += 1;
                    }
                    // Busy: the index is being rebuilt.
                    2 => busy += 1,
                    _ => panic!("{answer:?}"),
                }
            }
        }
        if !world.running.archivist.step() {
            break;
        }
        steps += 1;
    }
    assert!(busy > 0 && answered > 0 && steps > 3, "{busy} busy, {answered} answered, {steps} steps");
    let after = files(&world.disk);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in &before {
        assert!(after[name] == *bytes, "{name} is not what it was");
    }
    audit(&mut world);
}
