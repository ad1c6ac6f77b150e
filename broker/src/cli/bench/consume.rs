//! `skylark bench consume`.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use skylark_client::{Client, PullConsumer, Queue};
use skylark_protocol::command::pull::{PullRequest, PullResponse, pull_flag};
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::transport::{CloseReason, Outbox, Session};
use skylark_protocol::{Outgoing, RequestCode, ResponseCode};
use tokio::time::Instant;

use super::produce::answer;
use super::report::{Load, Phase, Tally, finished};
use super::{Common, Failure, Target, client, measure, runtime, targets};

/// What `skylark bench consume` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// Where to begin in each queue
    #[arg(long, default_value = "first")]
    from: From,

    /// Messages asked for at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..))]
    batch: i32,

    /// End when every queue has been read to its end, instead of waiting for more
    #[arg(long)]
    until_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// With the first message
    First,
    /// With what comes from now on
    Last,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut common = args.common.clone();
    if args.until_end {
        // What is read while warming up would not be there to be measured.
        common.warmup = Duration::ZERO;
    }
    let common = &common;
    let (runtime, transport) = runtime(common)?;
    let report = runtime.block_on(async {
        let client = client(common, &transport);
        let targets = targets(common, &client).await?;
        let mut pullers: Vec<(String, Vec<Position>)> = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            // Every broker gets its share of the connections, and at least one.
            let share = (index..common.connections.get().max(targets.len())).step_by(targets.len()).count();
            let positions = positions(args, &client, target).await?;
            let connections = share.min(positions.len());
            let mut shares: Vec<_> = (0..connections).map(|_| (target.address.clone(), Vec::new())).collect();
            for (turn, position) in positions.into_iter().enumerate() {
                shares[turn % connections].1.push(position);
            }
            pullers.append(&mut shares);
        }
        let in_flight = pullers.iter().map(|(_, positions)| positions.len()).max().unwrap_or(0);
        let load = Arc::new(Load::new("consume", in_flight, pullers.len()));
        let sessions = pullers.into_iter().map(|(address, positions)| {
            (address, Box::new(Puller::new(&load, args, positions)) as Box<dyn Session>)
        });
        let sessions = sessions.collect();
        Ok::<_, Failure>(measure(common, &transport, &load, sessions).await)
    })?;
    report.print(common.json)
}

/// A queue and how far it has been read.
struct Position {
    queue_id: i32,
    offset: u64,
    asked: Instant,
    /// An answer is awaited.
    is_open: bool,
}

async fn positions(args: &Args, client: &Client, target: &Target) -> Result<Vec<Position>, Failure> {
    let consumer = PullConsumer::new(client, GROUP);
    let mut positions = Vec::new();
    for &queue_id in &target.queues {
        let offset = match args.from {
            // A queue that begins higher says so when it is pulled.
            From::First => 0,
            From::Last => {
                let topic = args.common.topic.as_str().into();
                let route = client.route(&args.common.topic).await?;
                let broker = route
                    .brokers()
                    .iter()
                    .find(|data| data.broker_addrs.values().any(|address| *address == target.address));
                let broker =
                    broker.ok_or("the nameserver does not know the broker")?.broker_name.as_str().into();
                consumer.max(&Queue { topic, broker, id: queue_id }).await?
            }
        };
        positions.push(Position { queue_id, offset, asked: Instant::now(), is_open: false });
    }
    Ok(positions)
}

const GROUP: &str = "skylark_bench";
/// How long the broker may hold a pull when there is nothing. Short, because the end of a run waits for it.
const HOLD_MS: i64 = 1000;

/// One connection that pulls some of the queues, each with one pull at a time.
struct Puller {
    load: Arc<Load>,
    topic: String,
    batch: i32,
    until_end: bool,
    positions: Vec<Position>,
    is_begun: bool,
    tally: Tally,
}

impl Puller {
    fn new(load: &Arc<Load>, args: &Args, positions: Vec<Position>) -> Self {
        Self {
            load: Arc::clone(load),
            topic: args.common.topic.clone(),
            batch: args.batch,
            until_end: args.until_end,
            positions,
            is_begun: false,
            tally: Tally::new(),
        }
    }

    fn pull(&mut self, index: usize, now: Instant, out: &mut Outbox) {
        let position = &mut self.positions[index];
        position.asked = now;
        position.is_open = true;
        let suspend = if self.until_end { 0 } else { pull_flag::SUSPEND };
        let request = PullRequest {
            consumer_group: GROUP,
            topic: &self.topic,
            queue_id: position.queue_id,
            queue_offset: i64::try_from(position.offset).unwrap_or(i64::MAX),
            max_messages: self.batch,
            sys_flag: pull_flag::SUBSCRIPTION | suspend,
            commit_offset: 0,
            suspend_timeout_ms: HOLD_MS,
            subscription: Some("*"),
            subscription_version: 0,
            expression_type: Some("TAG"),
            max_bytes: None,
            broker_name: None,
        };
        let header = Outgoing {
            encoding: Encoding::Json,
            code: RequestCode::PULL_MESSAGE.0,
            opaque: i32::try_from(index).unwrap_or(i32::MAX),
            flag: 0,
            remark: None,
            fields: &request.fields(),
        };
        header.write(0, out.buffer());
    }

    /// What to do with a queue after its answer.
    fn goes_on(&mut self, index: usize, code: ResponseCode, frame: &Frame<'_>, now: Instant) -> bool {
        let position = &mut self.positions[index];
        position.is_open = false;
        let measured = self.load.phase() == Phase::Measure;
        let next = frame.parse().ok().and_then(|header| PullResponse::decode(&header).ok());
        let Some(next) = next.map(|answer| answer.next_begin_offset) else {
            // A queue that is refused would be refused again at once.
            self.tally.refused(code);
            return false;
        };
        position.offset = next;
        match code {
            ResponseCode::SUCCESS => {
                if measured {
                    let messages = count_messages(frame.body);
                    self.tally.count(now - position.asked, messages, frame.body.len() as u64);
                }
                true
            }
            ResponseCode::PULL_NOT_FOUND => !self.until_end,
            ResponseCode::PULL_RETRY_IMMEDIATELY | ResponseCode::PULL_OFFSET_MOVED => true,
            code => {
                self.tally.refused(code);
                false
            }
        }
    }
}

impl Session for Puller {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let unreadable = || CloseReason::Session("an answer cannot be read".into());
        let (code, opaque) = answer(&frame).ok_or_else(unreadable)?;
        let index = usize::try_from(opaque).ok().filter(|index| *index < self.positions.len());
        let index = index.ok_or_else(unreadable)?;
        let now = Instant::now();
        if self.goes_on(index, code, &frame, now) && self.load.phase() != Phase::Drain {
            self.pull(index, now, out);
        }
        if self.positions.iter().any(|position| position.is_open) { Ok(()) } else { Err(finished()) }
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        if !std::mem::replace(&mut self.is_begun, true) {
            let now = Instant::now();
            for index in 0..self.positions.len() {
                self.pull(index, now, out);
            }
        }
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.load.end(&self.tally, reason);
    }
}

/// Counts stored messages by their lengths alone.
fn count_messages(mut body: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(length) = body.first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        if length < size_of::<i32>() {
            break;
        }
        count += 1;
        body = body.get(length..).unwrap_or_default();
    }
    count
}
