//! The index against one plain vector per queue, over memory, files, restarts and losses of files.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use proptest::prelude::*;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Files, LogId, PhysicalOffset};

use crate::{
    Answer, Entry, Extras, Found, Index, QueueId, SealedError, SegmentSpan, Timer, TimerKey, needed_from,
    remove_below, remove_beyond,
};

/// What can happen to an index.
#[derive(Clone, Debug)]
enum Step {
    /// So many messages, to queues taken in turn from a start by a stride, each `wait` ms after the one before.
    Push { start: usize, stride: usize, messages: usize, wait: u64 },
    /// The log goes on to its next segment.
    Roll,
    /// The oldest so many finished segments in memory get their files.
    Seal { segments: usize },
    /// The log goes on, everything before gets files, and the queues are remembered.
    Snapshot,
    /// The oldest so many segments go, of those before the newest snapshot.
    Trim { segments: usize },
    /// A queue goes on `ahead` of its next offset.
    Head { queue: usize, ahead: u64 },
    /// The process ends and begins again, with what the newest snapshot says, without the files whose turn in the
    /// directory is a multiple of `lost`, and those of trimmed segments if `trimmed_lost`.
    Restart { lost: usize, trimmed_lost: bool },
    /// The files whose turn in the list of sealed segments is a multiple of `lost` are found damaged.
    Damage { lost: usize },
}

const QUEUES: usize = 5;
const SEGMENT_BYTES: u64 = 1 << 20;
const LOG: LogId = LogId::from_bytes([7; 16]);

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..QUEUES, 0..3_usize, prop_oneof![1..20_usize, 1..700_usize], 0..3_u64)
            .prop_map(|(start, stride, messages, wait)| Step::Push { start, stride, messages, wait }),
        4 => Just(Step::Roll),
        4 => (1..4_usize).prop_map(|segments| Step::Seal { segments }),
        2 => Just(Step::Snapshot),
        2 => (1..4_usize).prop_map(|segments| Step::Trim { segments }),
        1 => (0..QUEUES, prop_oneof![Just(0), 1..600_u64]).prop_map(|(queue, ahead)| Step::Head { queue, ahead }),
        1 => (1..9_usize, prop::bool::weighted(0.2))
            .prop_map(|(lost, trimmed_lost)| Step::Restart { lost, trimmed_lost }),
        1 => (1..5_usize).prop_map(|lost| Step::Damage { lost }),
    ]
}

/// A message, and by what else it is found.
#[derive(Clone, Debug)]
struct Message {
    queue: usize,
    entry: Entry,
    keys: Vec<u32>,
    due: Option<u64>,
}

impl Message {
    fn timer(&self) -> Option<Timer> {
        let key = TimerKey { due: self.due?, at: self.entry.physical_offset };
        Some(Timer { key, record_bytes: self.entry.record_bytes })
    }
}

/// A queue that does everything by looking at everything.
#[derive(Clone, Default)]
struct Model {
    min: u64,
    next: u64,
    entries: Vec<Entry>,
}

impl Model {
    fn visible(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.queue_offset >= self.min)
    }
}

/// What the log says, to be pushed again.
#[derive(Clone)]
enum Event {
    Begin(SegmentSpan),
    Message(Message),
    Head { queue: usize, next: u64 },
}

struct World {
    files: Arc<dyn Files>,
    index: Index,
    ids: Vec<QueueId>,
    models: Vec<Model>,
    /// The log's segments; `end` is where the next one begins.
    spans: Vec<SegmentSpan>,
    messages: Vec<Message>,
    snapshot: Option<(PhysicalOffset, Vec<u8>)>,
    /// What came behind the snapshot.
    since: Vec<Event>,
    /// The bytes of each index file when it was first written.
    written: BTreeMap<u64, Vec<u8>>,
    /// Files of trimmed segments were lost before the trim was in a snapshot, so links to them may be too.
    forgetful: bool,
    at: u64,
    now: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut index = Index::new();
        let ids = (0..QUEUES).map(|n| index.register(["a", "b"][n % 2], u32::try_from(n).unwrap())).collect();
        let mut world = Self {
            files: Arc::new(Disk::new(seed)),
            index,
            ids,
            models: vec![Model::default(); QUEUES],
            spans: Vec::new(),
            messages: Vec::new(),
            snapshot: None,
            since: Vec::new(),
            written: BTreeMap::new(),
            forgetful: false,
            at: 0,
            now: 1000,
        };
        world.roll();
        world
    }

    fn roll(&mut self) {
        let base = self.spans.last().map_or(PhysicalOffset::ZERO, |span| span.end);
        let span = SegmentSpan { base, end: base.advance(SEGMENT_BYTES), created_at: self.now };
        self.spans.push(span);
        self.since.push(Event::Begin(span));
        self.index.begin_segment(base, self.now).unwrap();
        self.at = base.get() + 64;
    }

    fn push(&mut self, queue: usize) {
        if self.at + 128 > self.spans.last().unwrap().end.get() {
            self.roll();
        }
        let entry = Entry {
            queue_offset: self.models[queue].next,
            physical_offset: PhysicalOffset::new(self.at),
            record_bytes: 40 + u32::try_from(self.at % 80).unwrap(),
            tag_hash: i32::try_from(self.at % 7).unwrap() - 3,
            stored_at: self.now,
        };
        let number = u32::try_from(self.at / 128).unwrap();
        let keys = if number % 3 == 0 { vec![number % 5, number % 4, number % 5] } else { Vec::new() };
        let due = (number % 4 == 1).then(|| self.now + u64::from(number.wrapping_mul(2_654_435_761) % 3000));
        let message = Message { queue, entry, keys, due };
        self.index.push(self.ids[queue], entry, Extras { keys: &message.keys, due }).unwrap();
        self.models[queue].entries.push(entry);
        self.models[queue].next += 1;
        self.since.push(Event::Message(message.clone()));
        self.messages.push(message);
        self.at += 128;
    }

    fn seal(&mut self, segments: usize) {
        for _ in 0..segments {
            let Some(unsealed) = self.index.unsealed() else { break };
            let sealed = unsealed.write(&self.files, LOG).unwrap();
            let base = sealed.base();
            let bytes = self.read(base);
            assert!(self.index.attach(sealed));
            // A restart writes what lay behind its snapshot once more.
            let before = self.written.entry(base.get()).or_insert_with(|| bytes.clone());
            assert!(self.forgetful || *before == bytes, "the file at {base} is another one");
        }
    }

    fn read(&self, base: PhysicalOffset) -> Vec<u8> {
        let file = self.files.open(&crate::sealed::layout::file_name(base)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    fn snapshot(&mut self) {
        self.roll();
        self.seal(usize::MAX);
        let newest = *self.spans.last().unwrap();
        let snapshot = self.index.snapshot();
        assert_eq!(snapshot, self.index.snapshot());
        remove_below(&*self.files, needed_from(&snapshot).unwrap()).unwrap();
        self.snapshot = Some((newest.base, snapshot));
        self.since = vec![Event::Begin(newest)];
    }

    fn trim(&mut self, segments: usize) {
        let Some((position, _)) = self.snapshot else { return };
        let known = self.spans.iter().filter(|span| span.end <= position).count();
        let Some(last) = segments.min(known).checked_sub(1) else { return };
        let to = self.spans[last].end;
        self.trim_to(to);
        self.spans.drain(..=last);
        self.messages.retain(|message| message.entry.physical_offset >= to);
        for model in &mut self.models {
            let gone = model.entries.iter().take_while(|entry| entry.physical_offset < to).count();
            if let Some(last) = model.entries.drain(..gone).next_back() {
                model.min = model.min.max(last.queue_offset + 1);
            }
        }
    }

    fn trim_to(&mut self, to: PhysicalOffset) {
        while let Some(plan) = self.index.trim_plan(to) {
            let trim = plan.read().unwrap();
            self.index.trim(trim);
        }
    }

    fn restart(&mut self, lost: usize, trimmed_lost: bool) {
        let Some((position, snapshot)) = &self.snapshot else { return };
        remove_beyond(&*self.files, *position).unwrap();
        let mut names = self.files.list("log").unwrap();
        names.sort();
        let oldest = crate::sealed::layout::file_name(self.spans[0].base);
        for (turn, name) in names.iter().enumerate() {
            let name = format!("log/{name}");
            let trimmed = name < oldest;
            if if trimmed { trimmed_lost } else { turn % lost == 1 } {
                self.files.remove(&name).unwrap();
                self.forgetful |= trimmed;
            }
        }
        self.index = Index::restore(snapshot, &self.files, LOG, &self.spans).unwrap();
        for event in &self.since {
            match event {
                Event::Begin(span) => self.index.begin_segment(span.base, span.created_at).unwrap(),
                Event::Message(Message { queue, entry, keys, due }) => {
                    self.index.push(self.ids[*queue], *entry, Extras { keys, due: *due }).unwrap();
                }
                Event::Head { queue, next } => self.index.set_head(self.ids[*queue], *next).unwrap(),
            }
        }
        self.rebuild();
        self.trim_to(PhysicalOffset::ZERO);
    }

    fn rebuild(&mut self) {
        for base in self.index.missing() {
            let end = self.spans.iter().find(|span| span.base == base).unwrap().end;
            let mut rebuild = self.index.rebuild(base).unwrap().begin().unwrap();
            for message in &self.messages {
                let at = message.entry.physical_offset;
                if (base..end).contains(&at) {
                    let (topic, number) = self.index.name(self.ids[message.queue]);
                    let extras = Extras { keys: &message.keys, due: message.due };
                    rebuild.push(topic, number, message.entry, extras).unwrap();
                }
            }
            let sealed = rebuild.write(&self.files, LOG).unwrap();
            assert!(self.index.attach(sealed));
            let same = self.read(base) == self.written[&base.get()];
            assert!(self.forgetful || same, "the file at {base} is built anew as another one");
        }
        assert_eq!(self.index.missing(), []);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push { start, stride, messages, wait } => {
                for n in 0..messages {
                    self.push((start + n * stride) % QUEUES);
                    self.now += wait;
                }
            }
            Step::Roll => self.roll(),
            Step::Seal { segments } => self.seal(segments),
            Step::Snapshot => self.snapshot(),
            Step::Trim { segments } => self.trim(segments),
            Step::Head { queue, ahead } => {
                let model = &mut self.models[queue];
                model.next += ahead;
                model.min = model.next;
                self.index.set_head(self.ids[queue], model.next).unwrap();
                self.since.push(Event::Head { queue, next: model.next });
            }
            Step::Restart { lost, trimmed_lost } => self.restart(lost, trimmed_lost),
            Step::Damage { lost } => {
                let end = self.index.sealed().end();
                let sealed = self.spans.iter().filter(|span| span.end <= end);
                for span in sealed.step_by(lost) {
                    self.index.discard(span.base);
                }
                self.rebuild();
            }
        }
    }

    fn check(&self) {
        for (model, &id) in self.models.iter().zip(&self.ids) {
            assert_eq!(self.index.range(id), model.min..model.next);
            let visible: Vec<Entry> = model.visible().copied().collect();
            assert_eq!(entries(&self.index, id, model.min), visible);
            assert_eq!(visible.len() as u64, model.next - model.min);
            for entry in visible.iter().step_by(13).chain(visible.last()) {
                let found =
                    ask(self.index.entry(id, entry.queue_offset), |view| view.entry(entry.queue_offset));
                assert_eq!(found, Some(*entry));
            }
            for outside in [Some(model.next), model.min.checked_sub(1)].into_iter().flatten() {
                assert!(matches!(self.index.entry(id, outside), Answer::Known(None)));
            }
            for time in (990..self.now + 2).step_by(1 + usize::try_from(self.now - 990).unwrap() / 97) {
                let first = visible.iter().find(|entry| entry.stored_at >= time);
                let first = first.map_or(model.next, |entry| entry.queue_offset);
                let found = ask(self.index.first_at_or_after(id, time), |view| view.first_at_or_after(time));
                assert_eq!(found, first, "first at or after {time}");
                let last =
                    visible.iter().rfind(|entry| entry.stored_at <= time).map(|entry| entry.queue_offset);
                let found = ask(self.index.last_at_or_before(id, time), |view| view.last_at_or_before(time));
                assert_eq!(found, last, "last at or before {time}");
            }
        }
        assert_eq!(self.index.entry_count(), self.messages.len());
        assert_eq!(self.index.earliest(), self.messages.first().map(|message| message.entry.stored_at));
        for (times, limit) in [(0..=u64::MAX, usize::MAX), (1100..=1500, 7), (1100..=1100, 1), (0..=1001, 64)]
        {
            (0..5).for_each(|hash| self.check_keys(hash, times.clone(), limit));
        }
        let half = self.messages.get(self.messages.len() / 2).map(|message| message.entry.physical_offset);
        let half = half.unwrap_or_default();
        for at in [PhysicalOffset::ZERO, half] {
            for (due, until, limit) in
                [(0, u64::MAX, usize::MAX), (1500, 2500, 9), (2000, 2000, 3), (9, 8, 7)]
            {
                self.check_timers(TimerKey { due, at }, until, limit);
                self.check_late_timers(at..half, until, limit);
                self.check_late_timers(at..PhysicalOffset::new(u64::MAX), until, limit);
            }
        }
        self.messages.iter().step_by(7).for_each(|message| self.check_timer(message));
    }

    fn check_timer(&self, message: &Message) {
        let at = message.entry.physical_offset;
        let find = |key: TimerKey| {
            let in_files = self.index.sealed().timer(key).unwrap();
            in_files.or_else(|| self.index.timer(key))
        };
        let (due, others) = (message.due.unwrap_or(1500), [at.advance(1), PhysicalOffset::ZERO]);
        assert_eq!(find(TimerKey { due, at }), message.timer(), "the timer at {at}");
        let is_any = |key: TimerKey| {
            self.messages.iter().any(|message| message.timer().is_some_and(|timer| timer.key == key))
        };
        for other in others.map(|at| TimerKey { due, at }).into_iter().chain([TimerKey { due: due + 1, at }])
        {
            assert_eq!(find(other).is_some(), is_any(other), "{other:?}");
        }
    }

    fn check_keys(&self, hash: u32, times: RangeInclusive<u64>, limit: usize) {
        let of_key = self.messages.iter().rev().filter(|message| message.keys.contains(&hash));
        let expected =
            of_key.filter(|message| times.contains(&message.entry.stored_at)).map(|message| Found {
                at: message.entry.physical_offset,
                record_bytes: message.entry.record_bytes,
                stored_at: message.entry.stored_at,
            });
        let mut found = self.index.keys(hash, times.clone(), limit);
        let left = limit - found.len();
        found.extend(self.index.sealed().keys(hash, times.clone(), left).unwrap());
        assert_eq!(found, expected.take(limit).collect::<Vec<_>>(), "{limit} of key {hash} in {times:?}");
    }

    fn check_timers(&self, after: TimerKey, until: u64, limit: usize) {
        let mut expected: Vec<Timer> = self.messages.iter().filter_map(Message::timer).collect();
        expected.sort_unstable();
        expected.retain(|timer| timer.key > after && timer.key.due <= until);
        expected.truncate(limit);
        let mut found = self.index.timers(after, until, limit);
        found.extend(self.index.sealed().timers(after, until, limit).unwrap());
        found.sort_unstable();
        found.truncate(limit);
        assert_eq!(found, expected, "{limit} timers behind {after:?} until {until}");
    }

    fn check_late_timers(&self, places: Range<PhysicalOffset>, until: u64, limit: usize) {
        let until = TimerKey { due: until, at: places.start };
        let timers = self.messages.iter().filter_map(Message::timer);
        let expected =
            timers.filter(|timer| places.contains(&timer.key.at) && timer.key <= until).take(limit);
        let mut found = self.index.sealed().late_timers(places.clone(), until, limit).unwrap();
        let left = limit - found.len();
        found.extend(self.index.late_timers(places.clone(), until, left));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{limit} timers within {places:?} up to {until:?}");
    }
}

/// The answer, wherever it is.
fn ask<T>(answer: Answer<T>, view: impl FnOnce(crate::SealedQueue) -> Result<T, SealedError>) -> T {
    match answer {
        Answer::Known(known) => known,
        Answer::Sealed(sealed) => view(sealed).unwrap(),
    }
}

/// All messages from an offset on.
fn entries(index: &Index, queue: QueueId, from: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut next = from;
    while next < index.range(queue).end {
        let more = match index.entries(queue, next, 100) {
            Answer::Known(known) => known.collect(),
            Answer::Sealed(view) => view.entries(next, 100).unwrap(),
        };
        assert!(!more.is_empty(), "nothing from {next} on, though there is more");
        next += more.len() as u64;
        entries.extend(more);
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_a_vector_per_queue(steps in prop::collection::vec(step(), 1..60), seed: u64) {
        let mut world = World::new(seed);
        for step in &steps {
            world.take(step);
        }
        world.check();
    }
}
