//! `skylark bench produce`.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;
use clap::Args as ClapArgs;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::message::{UniqueKeys, properties};
use skylark_protocol::transport::{CloseReason, Outbox, Session};
use skylark_protocol::{Outgoing, RequestCode, ResponseCode};
use skylark_storage::clock::{Clock, SystemClock};
use tokio::time::Instant;

use super::report::{Load, Phase, Tally, finished};
use super::{Common, Failure, client, measure, parse_seconds, runtime, targets};
use crate::cli::produce::filler;

/// What `skylark bench produce` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// Requests under way on each connection
    #[arg(long, default_value = "16")]
    in_flight: NonZeroUsize,

    /// Bytes of each message's body
    #[arg(long, default_value_t = 1024)]
    size: usize,

    /// Let the messages wait: the first are due so many seconds after the start
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    deliver_after: Option<Duration>,

    /// The times at which messages are due are spread over so many seconds
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = parse_seconds, requires = "deliver_after")]
    deliver_over: Duration,
}

/// When messages are due, in milliseconds since 1970: from, and for how long.
#[derive(Clone, Copy)]
struct Due {
    from_ms: u64,
    over_ms: u64,
}

impl Due {
    /// Spread evenly, and in no order: neighbours among the numbers lie far apart.
    fn at(self, sequence: u64) -> u64 {
        // Nearest odd number to 2^64 by the golden ratio.
        let spread = u128::from(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(self.over_ms);
        self.from_ms + u64::try_from(spread >> 64).unwrap_or(0)
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Args { common, in_flight, size, deliver_after, deliver_over } = args;
    let (connections, in_flight) = (common.connections.get(), in_flight.get());
    let (runtime, transport) = runtime(&common)?;
    let now_ms = SystemClock::new().wall_ms();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let due = deliver_after
        .map(|after| Due { from_ms: now_ms.saturating_add(ms(after)), over_ms: ms(deliver_over) });
    let report = runtime.block_on(async {
        let targets = targets(&common, &client(&common, &transport)).await?;
        let load = Arc::new(Load::new("produce", in_flight, connections));
        let mut sessions = Vec::with_capacity(connections);
        for index in 0..connections {
            let target = &targets[index % targets.len()];
            let templates: Result<Vec<_>, Failure> = target
                .queues
                .iter()
                .map(|queue| Template::new(&common.topic, *queue, size, now_ms, due))
                .collect();
            // Connections begin with different queues, so that no queue gets them all at once.
            let sender = Sender::new(&load, templates?, in_flight, index);
            sessions.push((target.address.clone(), Box::new(sender) as Box<dyn Session>));
        }
        Ok::<_, Failure>(measure(&common, &transport, &load, sessions).await)
    })?;
    report.print(common.json)
}

/// A request as Java's client writes it, ready but for what differs each time: its number and its key.
struct Template {
    frame: Vec<u8>,
    opaque_at: usize,
    key_at: usize,
    /// Where the time stands at which the message is due.
    due_at: Option<(usize, Due)>,
    body_bytes: usize,
}

/// Numbers of requests begin here, so that all have as many digits.
const OPAQUE_BASE: i32 = 1_000_000_000;
const OPAQUE_DIGITS: usize = 10;
/// The part of a unique key that is counted: the last of its 32 digits.
const KEY_DIGITS: usize = 12;
/// Milliseconds since 1970 have as many digits until the year 2286.
const DUE_DIGITS: usize = 13;

impl Template {
    fn new(topic: &str, queue_id: i32, size: usize, now_ms: u64, due: Option<Due>) -> Result<Self, Failure> {
        let keys = UniqueKeys::new([127, 0, 0, 1].into(), std::process::id(), 0);
        let key = keys.next(now_ms);
        let mut encoded = Vec::new();
        properties::write(properties::UNIQ_KEY, key.as_str(), &mut encoded);
        properties::write(properties::WAIT, "true", &mut encoded);
        let due_text = due.map(|due| format!("{:0DUE_DIGITS$}", due.from_ms));
        if let Some(due) = &due_text {
            properties::write(properties::TIMER_DELIVER_MS, due, &mut encoded);
        }
        let properties = String::from_utf8(encoded)?;
        let body = filler(size);
        let request = SendRequest {
            producer_group: "skylark_bench",
            topic,
            default_topic: "TBW102",
            default_topic_queue_nums: 4,
            queue_id,
            sys_flag: 0,
            born_timestamp: i64::try_from(now_ms)?,
            flag: 0,
            properties: &properties,
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: false,
            broker_name: None,
            body: &body,
        };
        let code = RequestCode::SEND_MESSAGE_V2;
        let header = Outgoing {
            encoding: Encoding::Json,
            code: code.0,
            opaque: OPAQUE_BASE,
            flag: 0,
            remark: None,
            fields: &request.fields(code),
        };
        let mut frame = BytesMut::new();
        header.write(body.len(), &mut frame);
        let find = |text: &str| frame.windows(text.len()).position(|window| window == text.as_bytes());
        let opaque_at = find(&format!("\"opaque\":{OPAQUE_BASE}")).ok_or("the request has no opaque")?;
        let key_at = find(key.as_str()).ok_or("the request has no key")?;
        let due_at = match (due, due_text) {
            (Some(due), Some(text)) => Some((find(&text).ok_or("the request has no due time")?, due)),
            _ => None,
        };
        frame.extend_from_slice(&body);
        Ok(Self {
            due_at,
            opaque_at: opaque_at + "\"opaque\":".len(),
            key_at: key_at + key.as_str().len() - KEY_DIGITS,
            frame: frame.to_vec(),
            body_bytes: size,
        })
    }

    fn write(&self, slot: usize, sequence: u64, into: &mut BytesMut) {
        let start = into.len();
        into.extend_from_slice(&self.frame);
        let frame = &mut into[start..];
        let opaque = OPAQUE_BASE.unsigned_abs() as usize + slot;
        put_digits::<10>(opaque as u64, &mut frame[self.opaque_at..self.opaque_at + OPAQUE_DIGITS]);
        put_digits::<16>(sequence, &mut frame[self.key_at..self.key_at + KEY_DIGITS]);
        if let Some((at, due)) = self.due_at {
            put_digits::<10>(due.at(sequence), &mut frame[at..at + DUE_DIGITS]);
        }
    }
}

/// Writes a number into digits that are there already, the lowest last; higher ones stay what they are.
fn put_digits<const RADIX: u64>(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[usize::try_from(number % RADIX).unwrap_or(0)];
        number /= RADIX;
    }
}

/// One connection that sends.
struct Sender {
    load: Arc<Load>,
    templates: Vec<Template>,
    next_template: usize,
    sequence: u64,
    /// When the request of each slot was sent.
    slots: Vec<Instant>,
    idle: VecDeque<usize>,
    tally: Tally,
}

impl Sender {
    fn new(load: &Arc<Load>, templates: Vec<Template>, in_flight: usize, index: usize) -> Self {
        Self {
            load: Arc::clone(load),
            next_template: index % templates.len(),
            templates,
            // Keys of different connections differ in their upper digits.
            sequence: (index as u64) << 32,
            slots: vec![Instant::now(); in_flight],
            idle: (0..in_flight).collect(),
            tally: Tally::new(),
        }
    }

    fn send(&mut self, slot: usize, now: Instant, out: &mut Outbox) {
        self.templates[self.next_template].write(slot, self.sequence, out.buffer());
        self.next_template = (self.next_template + 1) % self.templates.len();
        self.sequence += 1;
        self.slots[slot] = now;
    }
}

impl Session for Sender {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let unreadable = || CloseReason::Session("an answer cannot be read".into());
        let (code, opaque) = answer(&frame).ok_or_else(unreadable)?;
        let slot = usize::try_from(opaque - OPAQUE_BASE).map_err(|_| unreadable())?;
        let sent = *self.slots.get(slot).ok_or_else(unreadable)?;
        let now = Instant::now();
        let phase = self.load.phase();
        if phase == Phase::Measure {
            match code {
                ResponseCode::SUCCESS => {
                    self.tally.count(now - sent, 1, self.templates[0].body_bytes as u64);
                }
                code => self.tally.refused(code),
            }
        }
        if phase == Phase::Drain {
            self.idle.push_back(slot);
            return if self.idle.len() == self.slots.len() { Err(finished()) } else { Ok(()) };
        }
        self.send(slot, now, out);
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        if self.load.phase() != Phase::Drain {
            let now = Instant::now();
            while let Some(slot) = self.idle.pop_front() {
                self.send(slot, now, out);
            }
        }
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.load.end(&self.tally, reason);
    }
}

/// The code and the number of an answer, read where every broker writes them; parsed if they are not there.
pub(super) fn answer(frame: &Frame<'_>) -> Option<(ResponseCode, i32)> {
    let by_hand = || {
        let code = digits(frame.header.strip_prefix(b"{\"code\":")?)?;
        const NUMBER: &[u8] = b"\"opaque\":";
        let at = frame.header.windows(NUMBER.len()).rposition(|window| window == NUMBER)?;
        Some((ResponseCode(code), digits(&frame.header[at + NUMBER.len()..])?))
    };
    by_hand().or_else(|| {
        let header = frame.parse().ok()?;
        Some((header.response_code(), header.opaque))
    })
}

fn digits(text: &[u8]) -> Option<i32> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use skylark_protocol::ReplyTo;

    use super::*;

    fn read(bytes: &[u8]) -> Frame<'_> {
        skylark_protocol::frame::decode(bytes, usize::MAX).unwrap().unwrap().0
    }

    #[test]
    fn a_patched_request_is_a_sound_one() {
        let template = Template::new("T", 3, 100, 1_700_000_000_000, None).unwrap();
        let mut bytes = BytesMut::new();
        template.write(42, (7 << 32) | 255, &mut bytes);
        let frame = read(&bytes);
        let header = frame.parse().unwrap();
        assert_eq!((header.code, header.opaque), (310, 1_000_000_042));
        let request = SendRequest::decode(&header, frame.body).unwrap();
        assert_eq!((request.topic, request.queue_id, request.body.len()), ("T", 3, 100));
        let (_, key) = request.properties.split_once('\x01').unwrap();
        assert!(key.starts_with("7F000001"), "{key}");
        assert_eq!(&key[20..32], "0007000000FF");
    }

    #[test]
    fn due_times_are_patched_and_spread() {
        let due = Due { from_ms: 1_700_000_060_000, over_ms: 1000 };
        let template = Template::new("T", 3, 100, 1_700_000_000_000, Some(due)).unwrap();
        let mut hundreds = [0; 10];
        for sequence in 0..1000 {
            let mut bytes = BytesMut::new();
            template.write(0, (7 << 32) | sequence, &mut bytes);
            let frame = read(&bytes);
            let header = frame.parse().unwrap();
            let request = SendRequest::decode(&header, frame.body).unwrap();
            let known = properties::Properties::new(request.properties.as_bytes());
            let at: u64 = known.get(properties::TIMER_DELIVER_MS).unwrap().parse().unwrap();
            hundreds[usize::try_from((at - due.from_ms) / 100).unwrap()] += 1;
        }
        assert!(hundreds.iter().all(|count| (90..=110).contains(count)), "{hundreds:?}");
    }

    #[test]
    fn answers_are_read_in_every_encoding() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let mut bytes = BytesMut::new();
            let reply = ReplyTo { opaque: OPAQUE_BASE + 5, encoding, oneway: false };
            reply.failure(&mut bytes, ResponseCode::SYSTEM_BUSY, "\"opaque\":12");
            assert_eq!(answer(&read(&bytes)), Some((ResponseCode::SYSTEM_BUSY, OPAQUE_BASE + 5)));
        }
    }
}
