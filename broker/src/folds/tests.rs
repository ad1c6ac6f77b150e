//! Properties that all folds share.

use proptest::prelude::*;
use skylark_index::TimerKey;
use skylark_storage::PhysicalOffset;

use super::groups::{GroupConfig, GroupDeleted, GroupPut};
use super::heads::{HeadSet, MessagePlace};
use super::locks::LocksChanged;
use super::offsets::{OffsetsCommitted, OffsetsReset, TopicCommits};
use super::payload::Payload;
use super::timers::{FiredTimer, TimersCarried, TimersFired, Watermark};
use super::topics::{TopicConfig, TopicDeleted, TopicPut};
use super::*;

/// All folds, at the same position of the log.
#[derive(Default)]
struct Folds {
    topics: Topics,
    groups: Groups,
    offsets: Offsets,
    heads: Heads,
    timers: Timers,
    lock_owners: LockOwners,
}

impl Folds {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        self.topics.apply(event)?;
        self.groups.apply(event)?;
        self.offsets.apply(event)?;
        self.lock_owners.apply(event)?;
        self.heads.apply(event)?;
        self.timers.apply(event)
    }
}

const NAMES: [&str; 4] = ["a", "b", "%RETRY%a", "long-enough-to-allocate"];

/// A change to be made; messages and heads become possible ones when their turn comes.
fn change() -> impl Strategy<Value = Change<'static>> {
    let name = || prop::sample::select(&NAMES[..]);
    let owned = move || name().prop_map(str::to_owned);
    prop_oneof![
        (name(), 0..3_u32).prop_map(|(topic, queue)| Change::Message(MessagePlace {
            topic,
            queue,
            queue_offset: 0
        })),
        (owned(), 0..3_u32, 0..9_u64).prop_map(|(topic, queue, next)| Change::HeadSet(HeadSet {
            topic,
            queue,
            next
        })),
        (owned(), 1..4_u32).prop_map(|(topic, queues)| {
            Change::TopicPut(TopicPut { topic, config: TopicConfig::with_queues(queues) })
        }),
        owned().prop_map(|topic| Change::TopicDeleted(TopicDeleted { topic })),
        (owned(), 14..17_i32).prop_map(|(group, retry_times_max)| {
            Change::GroupPut(GroupPut {
                group,
                config: GroupConfig { retry_times_max, ..GroupConfig::default() },
            })
        }),
        (owned(), any::<bool>())
            .prop_map(|(group, with_offsets)| Change::GroupDeleted(GroupDeleted { group, with_offsets })),
        (owned(), owned(), prop::collection::vec((0..3_u32, 0..9_u64), 0..3)).prop_map(
            |(group, topic, offsets)| {
                Change::OffsetsCommitted(OffsetsCommitted {
                    commits: vec![TopicCommits { group, topic, offsets }],
                })
            }
        ),
        (0..90_u64, 0..3_u32).prop_map(|(step, queue)| {
            let mark = mark(step, step, 0);
            let fired = vec![FiredTimer { at: step, queue, queue_offset: step }];
            Change::TimersFired(TimersFired { mark, fired })
        }),
        (0..90_u64).prop_map(|floor| Change::TimersCarried(TimersCarried { mark: mark(0, 0, floor) })),
        (owned(), owned(), prop::collection::vec((0..3_u32, 0..9_u64), 1..3))
            .prop_map(|(group, topic, offsets)| Change::OffsetsReset(OffsetsReset { group, topic, offsets })),
        (owned(), prop::option::of(owned()), prop::collection::vec((owned(), 0..3_u32), 0..3))
            .prop_map(|(group, owner, queues)| Change::LocksChanged(LocksChanged { group, owner, queues })),
    ]
}

fn mark(due: u64, covered: u64, floor: u64) -> Watermark {
    let through = TimerKey { due, at: PhysicalOffset::new(covered) };
    Watermark::default().fired(through, PhysicalOffset::new(covered)).carried(PhysicalOffset::new(floor))
}

/// Makes a possible record of `change` for folds in this state.
fn possible(mut change: Change<'static>, folds: &Folds) -> Change<'static> {
    match &mut change {
        Change::Message(place) => place.queue_offset = folds.heads.next(place.topic, place.queue),
        Change::HeadSet(head) => head.next += folds.heads.next(&head.topic, head.queue),
        Change::TimersFired(TimersFired { mark, .. }) | Change::TimersCarried(TimersCarried { mark }) => {
            *mark = behind(folds.timers.mark(), *mark);
        }
        _ => {}
    }
    change
}

/// `known`, moved on by as much as `step` is away from the beginning.
fn behind(known: Watermark, step: Watermark) -> Watermark {
    let due = known.through().due + step.through().due;
    let on = |known: PhysicalOffset, step: PhysicalOffset| known.get() + step.get();
    mark(due, on(known.covered(), step.covered()), on(known.floor(), step.floor()))
}

/// The change as it is after a way through the log.
fn stored(change: &Change<'static>) -> Change<'static> {
    fn again<P: Payload>(payload: &P) -> Change<'static> {
        Change::decode(P::KIND, &payload.encode()).unwrap()
    }
    match change {
        Change::Message(_) => change.clone(),
        Change::TopicPut(payload) => again(payload),
        Change::TopicDeleted(payload) => again(payload),
        Change::GroupPut(payload) => again(payload),
        Change::GroupDeleted(payload) => again(payload),
        Change::OffsetsCommitted(payload) => again(payload),
        Change::HeadSet(payload) => again(payload),
        Change::TimersFired(payload) => again(payload),
        Change::TimersCarried(payload) => again(payload),
        Change::LocksChanged(payload) => again(payload),
        Change::OffsetsReset(payload) => again(payload),
        Change::KvChanged(payload) => again(payload),
    }
}

fn hashes(folds: &Folds) -> [u64; 6] {
    let Folds { topics, groups, offsets, heads, timers, lock_owners } = folds;
    [topics.hash(), groups.hash(), offsets.hash(), heads.hash(), timers.hash(), lock_owners.hash()]
}

fn reloaded(folds: &Folds) -> Folds {
    Folds {
        topics: Topics::restore(&folds.topics.snapshot()).unwrap(),
        groups: Groups::restore(&folds.groups.snapshot()).unwrap(),
        offsets: Offsets::restore(&folds.offsets.snapshot()).unwrap(),
        heads: Heads::restore(&folds.heads.snapshot()).unwrap(),
        timers: Timers::restore(&folds.timers.snapshot()).unwrap(),
        lock_owners: LockOwners::restore(&folds.lock_owners.snapshot()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A leader, a follower that reads the log, and one that starts from a snapshot in between agree.
    #[test]
    fn the_same_records_give_the_same_state(
        changes in prop::collection::vec(change(), 0..60),
        snapshot_every in 1..20_usize,
    ) {
        let (mut leader, mut follower, mut late) = (Folds::default(), Folds::default(), Folds::default());
        for (number, change) in changes.into_iter().enumerate() {
            let change = possible(change, &leader);
            let at = PhysicalOffset::new(number as u64 * 64);
            let event = Event { at, stored_at: 1000 + number as u64, change };
            let read = Event { change: stored(&event.change), ..event.clone() };
            prop_assert_eq!(&read.change, &event.change);
            leader.apply(&event).unwrap();
            follower.apply(&read).unwrap();
            late.apply(&read).unwrap();
            if number % snapshot_every == 0 {
                late = reloaded(&late);
            }
            prop_assert_eq!(hashes(&leader), hashes(&follower));
            prop_assert_eq!(hashes(&leader), hashes(&late));
        }
        prop_assert_eq!(&leader.topics, &late.topics);
        prop_assert_eq!(&leader.groups, &late.groups);
        prop_assert_eq!(&leader.offsets, &late.offsets);
        prop_assert_eq!(&leader.timers, &late.timers);
        prop_assert_eq!(&leader.lock_owners, &late.lock_owners);
        prop_assert!(leader.heads.iter().eq(late.heads.iter()));
    }

    /// No bytes make decoding panic, and what is accepted has one encoding.
    #[test]
    fn any_bytes_are_a_record_or_an_error(
        kind in 17..28_u8,
        mut payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        if let Some(version) = payload.first_mut() {
            *version = 1;
        }
        if let Ok(change) = Change::decode(skylark_storage::Kind::new(kind), &payload) {
            prop_assert_eq!(stored(&change), change);
        }
    }
}

#[test]
fn a_hash_is_the_same_in_every_build() {
    let mut folds = Folds::default();
    let topic = || "t".to_owned();
    let changes = [
        Change::TopicPut(TopicPut { topic: topic(), config: TopicConfig::with_queues(4) }),
        Change::HeadSet(HeadSet { topic: topic(), queue: 1, next: 9 }),
    ];
    for change in changes {
        folds.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 7, change }).unwrap();
    }
    assert_eq!(folds.heads.snapshot(), [1, 1, b't', 1, 1, 9]);
    assert_eq!(folds.heads.hash(), 0x81c1_6a2a_a3bc_78e6);
    assert_ne!(folds.topics.hash(), Topics::default().hash());
}
