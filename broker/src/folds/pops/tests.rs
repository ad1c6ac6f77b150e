use proptest::prelude::*;
use skylark_storage::PhysicalOffset;

use super::*;

const TOPIC: &str = "t";
const GROUP: &str = "g";

fn apply(pops: &mut Pops, change: Change<'_>) {
    pops.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
}

fn popped(attempt: Option<&str>, popped_at: u64, offsets: &[u64], next: u64) -> Change<'static> {
    let batch = PoppedBatch { topic: TOPIC.to_owned(), queue: 0, offsets: Offsets::new(offsets), next };
    let attempt = attempt.map(str::to_owned);
    let visible_at = popped_at + 60;
    Change::MessagesPopped(MessagesPopped {
        group: GROUP.to_owned(),
        attempt,
        popped_at,
        visible_at,
        batches: vec![batch],
    })
}

fn settled(start: u64, popped_at: u64, mask: u32, again: Option<Again>) -> Change<'static> {
    let settled = vec![Settled { key: BatchKey { start, popped_at }, mask, again }];
    let queues = vec![SettledQueue { topic: TOPIC.to_owned(), queue: 0, settled }];
    Change::PopsSettled(PopsSettled { group: GROUP.to_owned(), queues })
}

fn state(pops: &Pops) -> &PopQueue {
    pops.queue(GROUP, TOPIC, 0).expect("the queue was popped from")
}

#[test]
fn popped_and_settled_messages_have_these_bytes() {
    let Change::MessagesPopped(popped) = popped(Some("a"), 300, &[5, 6, 9], 10) else { unreachable!() };
    #[rustfmt::skip]
    let bytes = [
        1,                      // version
        1, b'g', 1, 1, b'a',    // group, attempt
        0xac, 0x02, 0xe8, 0x02, // popped at 300, visible at 360
        1, 1, b't', 0,          // one batch: topic, queue
        5, 3, 2, 1, 4,          // three offsets from 5 on, 1 and 4 behind it
        10,                     // the next pop goes on there
    ];
    assert_eq!(popped.encode(), bytes);
    assert_eq!(Change::decode(kinds::MESSAGES_POPPED, &bytes), Ok(Change::MessagesPopped(popped)));

    let Change::PopsSettled(settled) = settled(5, 300, 6, Some(Again { popped_at: 301, visible_at: 400 }))
    else {
        unreachable!()
    };
    #[rustfmt::skip]
    let bytes = [
        1, 1, b'g',                    // version, group
        1, 1, b't', 0, 1,              // one queue: topic, number, one batch
        5, 0xac, 0x02, 6,              // it starts at 5, was popped at 300; two of its messages
        1, 0xad, 0x02, 0x90, 0x03,     // again from 301 to 400
    ];
    assert_eq!(settled.encode(), bytes);
    assert_eq!(Change::decode(kinds::POPS_SETTLED, &bytes), Ok(Change::PopsSettled(settled)));
}

#[test]
fn offsets_are_told_by_bits() {
    for offsets in [&[7][..], &[7, 8, 9], &[7, 9, 1_000_000], &(0..32).collect::<Vec<_>>()] {
        let compact = Offsets::new(offsets);
        assert_eq!(compact.iter().collect::<Vec<_>>(), offsets);
        assert_eq!(compact.mask().count_ones() as usize, offsets.len());
        for (bit, offset) in offsets.iter().enumerate() {
            assert_eq!(compact.bit(*offset), Some(bit));
        }
        assert_eq!((compact.bit(6_999), compact.start()), (None, offsets[0]));
    }
}

#[test]
fn what_is_acknowledged_in_any_order_leaves_the_lowest_in_flight() {
    let mut pops = Pops::default();
    apply(&mut pops, popped(None, 1, &[0, 1, 2], 3));
    apply(&mut pops, popped(None, 1, &[3, 5], 7));
    assert_eq!(
        (state(&pops).next(), state(&pops).in_flight(), state(&pops).first_in_flight()),
        (7, 5, Some(0))
    );
    apply(&mut pops, settled(0, 1, 0b101, None));
    assert_eq!(state(&pops).first_in_flight(), Some(1));
    apply(&mut pops, settled(0, 1, 0b10, None));
    // Another time, or what was acknowledged before: no receipt of anything in flight.
    apply(&mut pops, settled(3, 2, 0b11, None));
    apply(&mut pops, settled(0, 1, 0b111, None));
    assert_eq!((state(&pops).in_flight(), state(&pops).first_in_flight()), (2, Some(3)));
    apply(&mut pops, settled(3, 1, 0b11, None));
    assert_eq!((state(&pops).in_flight(), state(&pops).first_in_flight(), state(&pops).next()), (0, None, 7));
    assert_eq!(state(&pops).due().count(), 0);
}

#[test]
fn prolonged_messages_have_times_of_their_own() {
    let mut pops = Pops::default();
    apply(&mut pops, popped(None, 1, &[0, 1, 2], 3));
    let again = Again { popped_at: 5, visible_at: 500 };
    apply(&mut pops, settled(0, 1, 0b001, Some(again)));
    apply(&mut pops, settled(0, 1, 0b001, None));
    let key = |start, popped_at| BatchKey { start, popped_at };
    let mut due: Vec<_> = state(&pops).due().collect();
    due.sort_unstable();
    assert_eq!(due, [(61, key(0, 1)), (500, key(0, 5))]);
    assert_eq!((state(&pops).in_flight(), state(&pops).first_in_flight()), (3, Some(0)));
    apply(&mut pops, settled(0, 5, 0b1, None));
    assert_eq!((state(&pops).in_flight(), state(&pops).first_in_flight()), (2, Some(1)));
}

#[test]
fn resets_and_deletions_clear_what_is_in_flight() {
    let offsets = |queue| vec![(queue, 4)];
    let reset = |queue| {
        Change::OffsetsReset(OffsetsReset {
            group: GROUP.into(),
            topic: TOPIC.into(),
            offsets: offsets(queue),
        })
    };
    let deleted = Change::TopicDeleted(TopicDeleted { topic: TOPIC.to_owned() });
    let group = |with_offsets| Change::GroupDeleted(GroupDeleted { group: GROUP.to_owned(), with_offsets });
    for change in [reset(0), deleted, group(false), group(true)] {
        let mut pops = Pops::default();
        apply(&mut pops, popped(None, 1, &[0, 1, 2], 3));
        apply(&mut pops, reset(1));
        assert_eq!(state(&pops).in_flight(), 3, "another queue's");
        apply(&mut pops, change.clone());
        assert_eq!(pops, Pops::default(), "{change:?}");
    }
}

#[test]
fn in_order_the_next_batch_begins_where_nothing_is_acknowledged() {
    let mut pops = Pops::default();
    apply(&mut pops, popped(Some("first"), 1, &[0, 1, 2], 3));
    let order = state(&pops).order().unwrap();
    assert!(order.blocks("second", 60) && !order.blocks("first", 60) && !order.blocks("second", 61));
    assert_eq!((state(&pops).next(), state(&pops).visible_at(order.key())), (0, Some(61)));
    apply(&mut pops, settled(0, 1, 0b101, None));
    assert_eq!(state(&pops).next(), 1);
    apply(&mut pops, settled(0, 1, 0b010, Some(Again { popped_at: 9, visible_at: 30 })));
    let order = state(&pops).order().unwrap();
    assert!(order.blocks("second", 29) && !order.blocks("second", 30));

    // The same attempt is the same delivery, another one a further.
    apply(&mut pops, popped(Some("second"), 40, &[1, 2], 3));
    apply(&mut pops, popped(Some("second"), 41, &[1, 2, 3], 4));
    let counts = |pops: &Pops| [1, 2, 3].map(|offset| state(pops).order().unwrap().count(offset).unwrap());
    assert_eq!(counts(&pops), [1, 1, 0]);
    apply(&mut pops, popped(Some("third"), 200, &[1, 2, 3], 4));
    assert_eq!(counts(&pops), [2, 2, 1]);
    apply(&mut pops, settled(1, 41, 0b111, None));
    assert_eq!(state(&pops).next(), 1, "an earlier receipt");
    apply(&mut pops, settled(1, 200, 0b111, None));
    assert_eq!((state(&pops).next(), state(&pops).order().unwrap().blocked_until()), (4, None));

    apply(&mut pops, popped(None, 300, &[4], 5));
    apply(&mut pops, settled(4, 300, 1, None));
    assert_eq!((state(&pops).next(), state(&pops).order()), (5, None));
}

proptest! {
    /// Against a table of single messages.
    #[test]
    fn a_queue_is_the_sum_of_its_messages(steps in prop::collection::vec((0..4_u8, 0..12_usize, any::<u32>()), 0..60)) {
        let mut pops = Pops::default();
        let mut flying: BTreeMap<u64, (BatchKey, usize, u64)> = BTreeMap::new();
        let (mut next, mut now) = (0, 0);
        for (step, number, mask) in steps {
            now += 1;
            match step {
                0 => {
                    let offsets: Vec<u64> = (0..12).filter(|bit| mask >> bit & 1 == 1).map(|bit| next + bit).collect();
                    if offsets.is_empty() {
                        continue;
                    }
                    next += 12;
                    apply(&mut pops, popped(None, now, &offsets, next));
                    let key = BatchKey { start: offsets[0], popped_at: now };
                    flying.extend(offsets.iter().enumerate().map(|(bit, &offset)| (offset, (key, bit, now + 60))));
                }
                _ => {
                    let Some((_, &(key, ..))) = flying.iter().nth(number) else { continue };
                    let again = (step == 1).then_some(Again { popped_at: now, visible_at: now + number as u64 });
                    apply(&mut pops, settled(key.start, key.popped_at, mask, again));
                    let taken: Vec<u64> = flying
                        .iter()
                        .filter(|(_, (own, bit, _))| *own == key && mask >> bit & 1 == 1)
                        .map(|(offset, _)| *offset)
                        .collect();
                    for offset in taken {
                        flying.remove(&offset);
                        if let Some(Again { popped_at, visible_at }) = again {
                            flying.insert(offset, (BatchKey { start: offset, popped_at }, 0, visible_at));
                        }
                    }
                }
            }
            let Some(state) = pops.queue(GROUP, TOPIC, 0) else { continue };
            prop_assert_eq!(state.in_flight(), flying.len() as u64);
            prop_assert_eq!(state.first_in_flight(), flying.keys().next().copied());
            prop_assert_eq!(state.next(), next);
            for (offset, (key, bit, visible_at)) in &flying {
                let batch = state.batch(*key).unwrap();
                prop_assert_eq!((batch.offsets.at(*bit), batch.visible_at), (*offset, *visible_at));
                prop_assert_eq!(batch.pending >> bit & 1, 1);
            }
        }
        prop_assert_eq!(&Pops::restore(&pops.snapshot()).unwrap(), &pops);
    }
}
