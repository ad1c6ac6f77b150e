//! What is done about transactions that nobody ends.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_index::QueueId;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::transactions::CheckTransactionState;
use skylark_protocol::message::{MessageParts, StoredMessage};
use skylark_storage::{AppendError, PhysicalOffset, ReadError};
use tracing::{error, warn};

use crate::append::append_behind;
use crate::broker::Broker;
use crate::calls::Call;
use crate::changes::{ChangeError, ControlRecord};
use crate::engine::Next;
use crate::folds::halves::{HalfEnded, HalvesCarried, HalvesChecked, HalvesEnded, OpenHalf, Outcome};
use crate::folds::topics::{TopicConfig, TopicPut};
use crate::membership::SILENCE_MAX;
use crate::session::Mail;
use crate::system;
use crate::timers::{Carried, CarryError};

use super::Standing;
use super::message::{self, Draft};
use super::open::{Due, Open};

/// Transactions that are looked at together: one record tells that their producers are asked.
const LOOK_MAX: usize = 1024;
/// So long after some were asked about others are: a producer has to keep up, and what senders append goes first.
const BREATH: Duration = Duration::from_millis(100);
/// Messages in a unit.
const MESSAGES_MAX: usize = 256;
/// Bytes of a unit with more than one message: a flush, and a stage for senders, is not to be long.
const BYTES_MAX: u64 = 1 << 20;
/// What a message may take beyond the half message's record: another topic's name, its share of the control record,
/// and the filling.
const BESIDE_BYTES_MAX: u64 = 256;
/// What could not be done is tried again after this long.
const AGAIN_MS: u64 = 1000;

/// The engine's own state. It is volatile: all of it follows from the log.
#[derive(Default)]
pub(super) struct Engine {
    /// Behind the last unit that was appended.
    in_flight: PhysicalOffset,
    /// Whose producers are asked once that is applied: not before it is known that this counts.
    asking: Vec<PhysicalOffset>,
    /// Nobody is asked before.
    breath_until: Duration,
    /// When the first step was, when the folds were complete.
    started: Option<Duration>,
    /// What the clock showed with the last step, in milliseconds since 1970.
    seen_ms: u64,
    /// Which producer of a group is asked next.
    turn: usize,
    /// What failed last, so that it is reported once.
    trouble: Option<String>,
}

/// A clock that goes back by no more than this, in milliseconds, is being adjusted: nothing is scheduled anew.
const CLOCK_SLACK_MS: u64 = 1000;

/// Why a unit was not appended.
enum Failed {
    Read(ReadError),
    Append(AppendError),
}

impl Engine {
    /// Asks about those that are due, or gives them up.
    pub(super) fn step(&mut self, broker: &Broker, open: &Mutex<Open>) -> Next {
        let applied = broker.applied.get();
        if applied < self.in_flight {
            return Next::Applied(self.in_flight);
        }
        let now_ms = broker.clock.wall_ms();
        // What was folded at the start left a place for each check; and by a clock that was set back all would be due later.
        if self.started.is_none() || now_ms.saturating_add(CLOCK_SLACK_MS) < self.seen_ms {
            open.lock().reschedule(now_ms);
        }
        self.seen_ms = now_ms;
        let now = broker.clock.monotonic();
        let running = now.saturating_sub(*self.started.get_or_insert(now));
        for at in mem::take(&mut self.asking) {
            self.ask(broker, open, at);
        }
        if let Some(why) = broker.archive.refusal() {
            return self.troubled(why.to_string());
        }
        if let Some(left) = self.breath_until.checked_sub(now).filter(|left| !left.is_zero()) {
            return Next::Due(now_ms + u64::try_from(left.as_millis()).unwrap_or(0).max(1));
        }
        // After a start nobody can have connected yet.
        let age_max_ms = broker.retention.age_ms.filter(|_| running >= SILENCE_MAX);
        let presence = |group: &str| broker.membership.producers_presence(group);
        let due = open.lock().take_due(now_ms, LOOK_MAX, age_max_ms, presence);
        let Due { asked, given_up } = due;
        if asked.is_empty() && given_up.is_empty() {
            self.trouble = None;
            return match open.lock().next_ms() {
                Some(next_ms) if next_ms <= now_ms => Next::Now,
                Some(next_ms) => Next::Due(next_ms),
                None => Next::Arrival,
            };
        }
        if given_up.is_empty() {
            return self.check(broker, open, asked);
        }
        {
            let mut open = open.lock();
            asked.iter().for_each(|(at, _)| open.put_off(*at, now_ms));
        }
        self.give_up(broker, open, given_up)
    }

    /// Appends that producers are asked; they are once that is applied.
    fn check(&mut self, broker: &Broker, open: &Mutex<Open>, asked: Vec<(PhysicalOffset, u32)>) -> Next {
        let checked = asked.iter().map(|(at, checks)| (at.get(), *checks)).collect();
        let record = ControlRecord::of(&HalvesChecked { checked });
        match append_behind(broker, &record, &[]) {
            Ok(end) => {
                self.in_flight = end;
                self.asking = asked.into_iter().map(|(at, _)| at).collect();
                self.breath_until = broker.clock.monotonic() + BREATH;
                self.trouble = None;
                Next::Applied(end)
            }
            Err(error) => {
                put_off(broker, open, asked.iter().map(|(at, _)| *at));
                self.failed(broker, Failed::Append(error))
            }
        }
    }

    /// Asks a producer of the group, if one is still there and the transaction still open.
    fn ask(&mut self, broker: &Broker, open: &Mutex<Open>, at: PhysicalOffset) {
        let (half, to) = {
            let open = open.lock();
            let Standing::Open(half) = open.standing(at) else { return };
            let group = open.folded().group(&half.half);
            self.turn = self.turn.wrapping_add(1);
            let Some(to) = broker.membership.producer_of(group, self.turn) else { return };
            (half, to)
        };
        let question = match broker.log.record_at(half.at) {
            Ok(record) => message::question(broker, &half, &record.payload()),
            Err(error) => {
                warn!(at = half.at.get(), %error, "a half message cannot be read; its producer is not asked");
                return;
            }
        };
        let Some(question) = question else {
            error!(at = half.at.get(), "a half message cannot be understood; its producer is not asked");
            return;
        };
        let header = CheckTransactionState {
            topic: Some(system::HALF_TOPIC),
            queue_offset: half.half.queue_offset,
            physical_offset: half.origin.get(),
            message_id: Some(&question.unique_key),
            transaction_id: Some(&question.unique_key),
            offset_message_id: Some(&question.offset_message_id),
            broker_name: Some(&broker.identity.broker),
        };
        let fields = header.fields();
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        let body = Bytes::from(question.body);
        let call = Call { id: None, code: RequestCode::CHECK_TRANSACTION_STATE, fields, body };
        // One that is gone, or does not keep up, is not asked this time.
        to.mailbox.post(Mail::Call(Box::new(call))).ok();
    }

    /// Appends what an operator gets of transactions that nobody ended, as many as a unit holds. They are claimed.
    fn give_up(&mut self, broker: &Broker, open: &Mutex<Open>, mut halves: Vec<OpenHalf>) -> Next {
        let mut room = Room::of(broker);
        let fits = halves.iter().take_while(|half| room.take(half)).count();
        give_back(broker, open, &halves.split_off(fits), 0);
        let given_up = match expired_topic(broker) {
            Ok(()) => self.append_given_up(broker, &halves),
            Err(next) => {
                give_back(broker, open, &halves, 0);
                return next;
            }
        };
        match given_up {
            Ok(()) => {
                withdraw(open, halves.iter());
                warn!(transactions = halves.len(), "transactions were given up: nobody said how they ended");
                self.trouble = None;
                Next::Applied(self.in_flight)
            }
            Err(failed) => {
                give_back(broker, open, &halves, AGAIN_MS);
                self.failed(broker, failed)
            }
        }
    }

    fn append_given_up(&mut self, broker: &Broker, halves: &[OpenHalf]) -> Result<(), Failed> {
        let record = given_up(halves.iter());
        let read = read(broker, halves)?;
        let drafts: Vec<Draft<'_>> = read
            .iter()
            .filter_map(|(half, payload)| Some(message::given_up(parse(half, payload)?, half.half.checks)))
            .collect();
        let messages: Vec<_> = drafts.iter().filter_map(|draft| encode(broker, draft)).collect();
        self.append(broker, &record, messages)
    }

    /// Appends again what is open below `below`, as much as a unit holds.
    pub(super) fn carry_forward(
        &mut self,
        broker: &Broker,
        open: &Mutex<Open>,
        below: PhysicalOffset,
    ) -> Result<Carried, CarryError> {
        if broker.applied.get() < below {
            return Err(CarryError::NotApplied);
        }
        let mut room = Room::of(broker);
        let (halves, others) = open.lock().claim_below(below, |half| room.take(half));
        if halves.is_empty() {
            // Those that are about to end are gone once that is applied, or open again.
            return if others {
                Err(CarryError::NotApplied)
            } else {
                Ok(Carried::All { end: self.in_flight })
            };
        }
        let carried = self.carry(broker, open, &halves);
        let kept = carried.as_ref().map_or(&[][..], |kept| kept);
        {
            let mut open = open.lock();
            halves.iter().filter(|half| !kept.contains(&half.at)).for_each(|half| open.release(half.at));
        }
        match carried {
            Ok(_) => Ok(Carried::Some { end: self.in_flight }),
            Err(Failed::Read(error)) => Err(CarryError::Read(error)),
            Err(Failed::Append(AppendError::Poisoned { .. } | AppendError::Closed)) => {
                Err(CarryError::Stopped)
            }
            Err(Failed::Append(error)) => Err(CarryError::NoRoom(error)),
        }
    }

    /// Appends a unit of half messages that stay open, or one that ends those which nobody can read; says about which
    /// the unit is.
    fn carry(
        &mut self,
        broker: &Broker,
        open: &Mutex<Open>,
        halves: &[OpenHalf],
    ) -> Result<Vec<PhysicalOffset>, Failed> {
        let read = read(broker, halves)?;
        let drafts: Vec<(&OpenHalf, Option<Draft<'_>>)> =
            read.iter().map(|(half, payload)| (half, parse(half, payload).map(message::carried))).collect();
        let (mut copied, mut messages, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (half, draft) in &drafts {
            match draft.as_ref().and_then(|draft| encode(broker, draft)) {
                Some(message) => {
                    copied.push(half.at);
                    messages.push(message);
                }
                None => lost.push(*half),
            }
        }
        if !lost.is_empty() {
            self.append(broker, &given_up(lost.iter().copied()), Vec::new())?;
            withdraw(open, lost.iter().copied());
            return Ok(lost.iter().map(|half| half.at).collect());
        }
        let carried = HalvesCarried { halves: copied.iter().map(|at| at.get()).collect() };
        self.append(broker, &ControlRecord::of(&carried), messages)?;
        Ok(copied)
    }

    fn append(
        &mut self,
        broker: &Broker,
        record: &ControlRecord,
        messages: Vec<(QueueId, &'static str, MessageParts<'_>)>,
    ) -> Result<(), Failed> {
        self.in_flight = append_behind(broker, record, &messages).map_err(Failed::Append)?;
        Ok(())
    }

    /// What to wait for after a failure.
    fn failed(&mut self, broker: &Broker, failed: Failed) -> Next {
        match failed {
            Failed::Append(AppendError::Poisoned { .. } | AppendError::Closed) => Next::Stopped,
            // Room is made by dispatch, which applies groups.
            Failed::Append(AppendError::Backpressure { .. }) => {
                Next::Applied(broker.applied.get().advance(1))
            }
            Failed::Append(error) => self.troubled(error.to_string()),
            Failed::Read(error) => self.troubled(error.to_string()),
        }
    }

    /// Reports what stands in the way, unless it did before.
    fn troubled(&mut self, why: String) -> Next {
        if self.trouble.as_ref() != Some(&why) {
            warn!(why, "transactions have to wait");
            self.trouble = Some(why);
        }
        Next::Later
    }
}

/// How much of a unit is left.
struct Room {
    messages: usize,
    bytes: u64,
    is_empty: bool,
}

impl Room {
    fn of(broker: &Broker) -> Self {
        let bytes = BYTES_MAX.min(broker.log.unit_bytes_max());
        Self { messages: MESSAGES_MAX, bytes, is_empty: true }
    }

    /// Whether this one goes in as well. The first one does in any case.
    fn take(&mut self, half: &OpenHalf) -> bool {
        let bytes = u64::from(half.half.record_bytes) + BESIDE_BYTES_MAX;
        let fits = mem::replace(&mut self.is_empty, false) || self.messages > 0 && bytes <= self.bytes;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        fits
    }
}

/// The record that nobody said how these ended.
fn given_up<'a>(halves: impl Iterator<Item = &'a OpenHalf>) -> ControlRecord {
    let ended = halves.map(|half| HalfEnded { at: half.at.get(), outcome: Outcome::GivenUp }).collect();
    ControlRecord::of(&HalvesEnded { ended })
}

/// The record is in the log that nobody said how these ended.
fn withdraw<'a>(open: &Mutex<Open>, halves: impl Iterator<Item = &'a OpenHalf>) {
    let mut open = open.lock();
    halves.for_each(|half| open.withdraw(half.at));
}

/// Lets others end what was claimed, and looks at it again after so long.
fn give_back(broker: &Broker, open: &Mutex<Open>, halves: &[OpenHalf], after_ms: u64) {
    let until_ms = broker.clock.wall_ms() + after_ms;
    let mut open = open.lock();
    for half in halves {
        open.release(half.at);
        open.put_off(half.at, until_ms);
    }
}

fn put_off(broker: &Broker, open: &Mutex<Open>, places: impl Iterator<Item = PhysicalOffset>) {
    let until_ms = broker.clock.wall_ms() + AGAIN_MS;
    let mut open = open.lock();
    places.for_each(|at| open.put_off(at, until_ms));
}

/// Makes the topic that operators look into, unless it is there.
///
/// # Errors
/// What to wait for until it is.
fn expired_topic(broker: &Broker) -> Result<(), Next> {
    if broker.catalog.read().queues(system::HALF_EXPIRED_TOPIC).is_some() {
        return Ok(());
    }
    let topic = || system::HALF_EXPIRED_TOPIC.to_owned();
    let put = || ControlRecord::of(&TopicPut { topic: topic(), config: TopicConfig::with_queues(1) });
    match broker.change(|_| vec![put()]) {
        Ok(Some(until)) | Err(ChangeError::Unsettled { until }) => Err(Next::Applied(until)),
        Ok(None) => Err(Next::Later),
        Err(ChangeError::Refused(AppendError::Poisoned { .. } | AppendError::Closed)) => Err(Next::Stopped),
        Err(ChangeError::Refused(_)) => Err(Next::Later),
    }
}

/// Reads half messages. Blocks.
///
/// # Errors
/// When the disk refuses, which may pass. What is damaged never comes back: it is reported, and nothing is there.
fn read(broker: &Broker, halves: &[OpenHalf]) -> Result<Vec<(OpenHalf, Option<Bytes>)>, Failed> {
    let read = |half: &OpenHalf| match broker.log.record_at(half.at) {
        Ok(record) => Ok((*half, Some(record.payload()))),
        Err(error @ (ReadError::Io { .. } | ReadError::NotVisible { .. })) => Err(Failed::Read(error)),
        Err(error) => {
            error!(at = half.at.get(), %error, "a half message cannot be read; nobody will get it");
            Ok((*half, None))
        }
    };
    halves.iter().map(read).collect()
}

fn parse<'a>(half: &OpenHalf, payload: &'a Option<Bytes>) -> Option<StoredMessage<'a>> {
    let parsed = StoredMessage::parse(payload.as_ref()?);
    let parsed =
        parsed.inspect_err(|error| error!(at = half.at.get(), %error, "a half message cannot be understood"));
    parsed.ok().map(|(message, _)| message)
}

/// The message as the log takes it, if it does.
fn encode<'a>(broker: &Broker, draft: &'a Draft<'_>) -> Option<(QueueId, &'static str, MessageParts<'a>)> {
    let queue = broker.catalog.read().queues(draft.topic())?.first().copied()?;
    let parts = draft.encode(broker);
    let parts = parts
        .inspect_err(|error| error!(%error, "a half message breaks a limit; nobody will get it"))
        .ok()?;
    let unit_bytes = parts.len() as u64 + BESIDE_BYTES_MAX;
    if unit_bytes > broker.log.unit_bytes_max() {
        // It fitted when it was sent, so this log's units have become smaller. It must not hold up the others.
        error!(unit_bytes, "a half message is too large for the log; nobody will get it");
        return None;
    }
    Some((queue, draft.topic(), parts))
}
