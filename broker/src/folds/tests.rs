//! Properties that all folds share.

use proptest::prelude::*;
use skylark_index::TimerKey;
use skylark_storage::PhysicalOffset;

use super::audit::{Keep, Mover, OffsetsMoved, QueueMove, TopicMoves};
use super::dead_letters::{DeadLettersSettled, Settlement};
use super::duplicates::{Fingerprint, SentPlace, WindowLimits};
use super::groups::{GroupConfig, GroupDeleted, GroupPut};
use super::halves::{HalfEnded, HalfPlace, HalvesCarried, HalvesChecked, HalvesEnded, Outcome};
use super::heads::{HeadSet, MessagePlace};
use super::locks::LocksChanged;
use super::offsets::{OffsetsCommitted, OffsetsReset, TopicCommits};
use super::payload::Payload;
use super::pops::{Again, BatchKey, MessagesPopped, PoppedBatch, PopsSettled, Settled, SettledQueue};
use super::request_modes::{RequestMode, RequestModeSet};
use super::timers::{FiredTimer, Pending, TimersCarried, TimersFired, TimersRecalled, Watermark};
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
    halves: Halves,
    lock_owners: LockOwners,
    pops: Pops,
    request_modes: RequestModes,
    trail: Trail,
    dead_letters: DeadLetters,
    duplicates: DuplicateWindow,
}

impl Folds {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        self.topics.apply(event)?;
        self.groups.apply(event)?;
        self.offsets.apply(event)?;
        self.lock_owners.apply(event)?;
        self.heads.apply(event)?;
        self.pops.apply(event)?;
        self.request_modes.apply(event)?;
        self.trail.apply(event)?;
        self.dead_letters.apply(event)?;
        self.duplicates.apply(event)?;
        self.timers.apply(event)?;
        self.halves.apply(event)
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
            queue_offset: 0,
        })),
        (owned(), 0..3_u32, 0..9_u64).prop_map(|(topic, queue, next)| Change::HeadSet(HeadSet {
            topic,
            queue,
            next
        })),
        (owned(), 1..4_u32).prop_map(|(topic, queues)| {
            Change::TopicPut(TopicPut { topic, config: TopicConfig::with_queues(queues) })
        }),
        (0..3_u64).prop_map(|messages| Change::Waiting(Pending { messages, bytes: 100 * messages })),
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
        (0..90_u64, 0..90_u64, 0..3_u32, any::<bool>()).prop_map(|(due, covered, queue, is_set_back)| {
            let mark = mark(due, covered, 0);
            let turn = mark.clone().next_turn(due / 2).ok().filter(|_| is_set_back);
            let mark = turn.unwrap_or(mark);
            let fired = vec![FiredTimer { at: due, level: queue, queue_offset: due }];
            Change::TimersFired(TimersFired { mark, fired, bytes: 100 })
        }),
        (0..90_u64).prop_map(|floor| {
            Change::TimersCarried(TimersCarried { mark: mark(0, 0, floor), messages: 1, bytes: 100 })
        }),
        (owned(), prop::collection::vec((0..900_u64, 0..900_u64), 1..3)).prop_map(|(topic, timers)| {
            let bytes = 100 * timers.len() as u64;
            Change::TimersRecalled(TimersRecalled { topic, unique_key: "U".to_owned(), timers, bytes })
        }),
        (name(), 0..99_u64, 0..3_u32).prop_map(|(group, queue_offset, immunity_s)| {
            Change::Half(HalfPlace { queue_offset, record_bytes: 300, group, immunity_s })
        }),
        prop::collection::vec(prop::sample::select(&[Outcome::Committed, Outcome::GivenUp][..]), 1..3)
            .prop_map(|outcomes| {
                let ended = outcomes.into_iter().map(|outcome| HalfEnded { at: 0, outcome });
                Change::HalvesEnded(HalvesEnded { ended: ended.collect() })
            }),
        (1..3_usize).prop_map(|count| Change::HalvesCarried(HalvesCarried { halves: vec![0; count] })),
        (0..60_u64, 0..9_u32).prop_map(|(number, checks)| Change::HalvesChecked(HalvesChecked {
            checked: vec![(number * 64, checks)]
        })),
        (owned(), owned(), prop::collection::vec((0..3_u32, 0..9_u64), 1..3))
            .prop_map(|(group, topic, offsets)| Change::OffsetsReset(OffsetsReset { group, topic, offsets })),
        (owned(), prop::option::of(owned()), prop::collection::vec((owned(), 0..3_u32), 0..3))
            .prop_map(|(group, owner, queues)| Change::LocksChanged(LocksChanged { group, owner, queues })),
        (
            owned(),
            prop::option::of(owned()),
            0..9_u64,
            owned(),
            0..3_u32,
            prop::collection::btree_set(0..99_u64, 1..9)
        )
            .prop_map(|(group, attempt, popped_at, topic, queue, offsets)| {
                let offsets: Vec<u64> = offsets.into_iter().collect();
                let next = offsets[offsets.len() - 1] + 1;
                let batch = PoppedBatch { topic, queue, offsets: pops::Offsets::new(&offsets), next };
                let visible_at = popped_at + 60;
                let batches = vec![batch];
                Change::MessagesPopped(MessagesPopped { group, attempt, popped_at, visible_at, batches })
            }),
        (owned(), owned(), 0..3_u32, (0..99_u64, 0..9_u64), any::<u32>(), prop::option::of(9..99_u64))
            .prop_map(|(group, topic, queue, (start, popped_at), mask, again)| {
                let again = again.map(|popped_at| Again { popped_at, visible_at: popped_at + 60 });
                let settled = vec![Settled { key: BatchKey { start, popped_at }, mask, again }];
                let queues = vec![SettledQueue { topic, queue, settled }];
                Change::PopsSettled(PopsSettled { group, queues })
            }),
        (owned(), owned(), any::<bool>(), -1..3_i32).prop_map(|(topic, group, pops, share)| {
            Change::RequestModeSet(RequestModeSet { topic, group, mode: RequestMode { pops, share } })
        }),
        (owned(), owned(), prop::collection::vec((0..3_u32, 0..9_u64), 0..4)).prop_map(
            |(group, topic, queues)| {
                let queues = queues.into_iter();
                let queues = queues.map(|(queue, to)| QueueMove { queue, from: None, to: Some(to) });
                let moves = vec![TopicMoves { group, topic, queues: queues.collect() }];
                let keep = Keep { moves_max: 9, age_ms: 20 };
                Change::OffsetsMoved(OffsetsMoved { by: Mover::default(), moves, keep })
            }
        ),
        (owned(), 0..3_u32, 0..9_u64, prop::collection::vec((0..40_u64, 0..4_u64), 0..4), any::<bool>())
            .prop_map(|(topic, queue, min, stretches, resent)| {
                let stretches = stretches.into_iter().map(|(start, count)| (start, start + count));
                Change::DeadLettersSettled(DeadLettersSettled {
                    by: Mover::default(),
                    group: "g".to_owned(),
                    topic,
                    queue,
                    stretches: stretches.collect(),
                    settlement: if resent { Settlement::Resent } else { Settlement::Purged },
                    min,
                    keep: Keep { moves_max: 9, age_ms: 20 },
                })
            }),
        (0..9_u64, 0..3_u32, 0..9_u64).prop_map(|(number, queue, queue_offset)| {
            let (fingerprint, wait_ms) = (Fingerprint::of(number), queue * 70);
            Change::Sent(SentPlace { fingerprint, queue, queue_offset, wait_ms })
        }),
        prop::collection::vec(0..60_u64, 1..4)
            .prop_map(|numbers| Change::Withdrawn(numbers.iter().map(|number| number * 64).collect())),
        (0..6_u32, 0..40_u64).prop_map(|(messages_max, age_max_ms)| Change::WindowLimits(WindowLimits {
            messages_max,
            age_max_ms
        })),
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
        Change::TimersFired(TimersFired { mark, .. }) | Change::TimersCarried(TimersCarried { mark, .. }) => {
            *mark = behind(folds.timers.mark(), mark.clone());
        }
        Change::HalvesEnded(HalvesEnded { ended }) => {
            let mut open = folds.halves.from(PhysicalOffset::ZERO);
            ended.retain_mut(|ended| {
                open.next().is_some_and(|half| {
                    ended.at = half.at.get();
                    true
                })
            });
        }
        Change::HalvesCarried(HalvesCarried { halves }) => {
            let mut open = folds.halves.from(PhysicalOffset::ZERO);
            halves.retain_mut(|at| {
                open.next().is_some_and(|half| {
                    *at = half.at.get();
                    true
                })
            });
        }
        _ => {}
    }
    change
}

/// `known`, moved on by as much as `step` is away from the beginning: in another turn, if there are two in `step`.
fn behind(known: Watermark, step: Watermark) -> Watermark {
    let on = |known: PhysicalOffset, step: PhysicalOffset| known.advance(step.get());
    let (covered, floor) = (on(known.covered(), step.covered()), on(known.floor(), step.floor()));
    let known = match step.earlier_turns() {
        0 => known,
        _ => known.clone().next_turn(known.through().due / 2).unwrap_or(known),
    };
    let due = known.through().due + step.through().due;
    known.fired(TimerKey { due, at: covered }, covered).carried(floor)
}

/// The change as it is after a way through the log.
fn stored(change: &Change<'static>) -> Change<'static> {
    fn again<P: Payload>(payload: &P) -> Change<'static> {
        Change::decode(P::KIND, &payload.encode()).unwrap()
    }
    match change {
        Change::Message(_) | Change::Half(_) | Change::Waiting(_) => change.clone(),
        Change::Sent(_) | Change::Withdrawn(_) => change.clone(),
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
        Change::HalvesEnded(payload) => again(payload),
        Change::HalvesCarried(payload) => again(payload),
        Change::HalvesChecked(payload) => again(payload),
        Change::TimersRecalled(payload) => again(payload),
        Change::MessagesPopped(payload) => again(payload),
        Change::PopsSettled(payload) => again(payload),
        Change::RequestModeSet(payload) => again(payload),
        Change::OffsetsMoved(payload) => again(payload),
        Change::DeadLettersSettled(payload) => again(payload),
        Change::WindowLimits(payload) => again(payload),
    }
}

fn hashes(folds: &Folds) -> [u64; 12] {
    let Folds { topics, groups, offsets, heads, timers, halves, lock_owners, .. } = folds;
    let Folds { pops, request_modes, trail, dead_letters, duplicates, .. } = folds;
    let [topics, groups, offsets] = [topics.hash(), groups.hash(), offsets.hash()];
    let [heads, timers, halves] = [heads.hash(), timers.hash(), halves.hash()];
    let [lock_owners, pops, request_modes] = [lock_owners.hash(), pops.hash(), request_modes.hash()];
    let [trail, letters, duplicates] = [trail.hash(), dead_letters.hash(), duplicates.hash()];
    [
        topics,
        groups,
        offsets,
        heads,
        timers,
        halves,
        lock_owners,
        pops,
        request_modes,
        trail,
        letters,
        duplicates,
    ]
}

fn reloaded(folds: &Folds) -> Folds {
    Folds {
        topics: Topics::restore(&folds.topics.snapshot()).unwrap(),
        groups: Groups::restore(&folds.groups.snapshot()).unwrap(),
        offsets: Offsets::restore(&folds.offsets.snapshot()).unwrap(),
        heads: Heads::restore(&folds.heads.snapshot()).unwrap(),
        timers: Timers::restore(&folds.timers.snapshot()).unwrap(),
        halves: Halves::restore(&folds.halves.snapshot()).unwrap(),
        lock_owners: LockOwners::restore(&folds.lock_owners.snapshot()).unwrap(),
        pops: Pops::restore(&folds.pops.snapshot()).unwrap(),
        request_modes: RequestModes::restore(&folds.request_modes.snapshot()).unwrap(),
        trail: Trail::restore(&folds.trail.snapshot()).unwrap(),
        dead_letters: DeadLetters::restore(&folds.dead_letters.snapshot()).unwrap(),
        duplicates: DuplicateWindow::restore(&folds.duplicates.snapshot()).unwrap(),
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
        prop_assert_eq!(&leader.halves, &late.halves);
        prop_assert_eq!(&leader.lock_owners, &late.lock_owners);
        prop_assert_eq!(&leader.pops, &late.pops);
        prop_assert!(leader.heads.iter().eq(late.heads.iter()));
    }

    /// No bytes make decoding panic, and what is accepted has one encoding.
    #[test]
    fn any_bytes_are_a_record_or_an_error(
        kind in 17..42_u8,
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
