//! How far groups have got: 208, 303, 317.

use std::collections::{BTreeMap, BTreeSet};

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::locks::MessageQueue;
use skylark_protocol::command::stats::{
    BrokerConsumeStats, BrokerConsumeStatsRequest, ConsumeOffset, ConsumeStats, ConsumeStatsRequest,
};
use skylark_protocol::command::subscribers::{ConsumeTimeSpans, QueueTimeSpan, SubscriptionRequest};
use skylark_protocol::header::FieldError;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};
use crate::folds::topics::TopicConfig;
use crate::handlers::caught_up;
use crate::handlers::store_times::StoreTimes;
use crate::handlers::topic_stats::{message_queue, no_topic};
use crate::pops;
use crate::statistics::{Reads, Window};

/// 208: how far a group is in each queue of the topics it reads.
pub fn group(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = ConsumeStatsRequest::decode(request.header)?;
    let group = asked.consumer_group;
    let mut topics: BTreeSet<String> = asked.topics().map(str::to_owned).collect();
    if topics.is_empty() {
        topics = match asked.topic.filter(|topic| !topic.trim().is_empty()) {
            Some(topic) => BTreeSet::from([topic.to_owned()]),
            None => committed(broker, group),
        };
        keep_subscribed(broker, group, &mut topics);
    }
    let mut progress = Progress::default();
    for topic in &topics {
        // A topic that was deleted, or of which only offsets are left, has no queues to tell of.
        progress.add(broker, group, topic, |config| config.read_queues);
    }
    let Progress { rows, times, consume_tps } = progress;
    times.answer(broker, request, answers, move |times| {
        ConsumeStats { consume_tps, offset_table: with_times(rows, times) }.encode()
    })
}

/// 317: how far all groups are. Asked by one operator at a time and long to answer, so a reader thread does it.
pub fn all_groups(broker: &Broker, request: &Request<'_, '_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let only_ordered = BrokerConsumeStatsRequest::decode(request.header)?.is_order;
    let reply = request.reply;
    broker.readers.submit(request.connection, reply, ALL_GROUPS_BYTES, move |broker, out| {
        let mut all =
            BrokerConsumeStats { broker_addr: broker.identity.address.clone(), ..Default::default() };
        let groups: Vec<String> =
            broker.catalog.read().groups.iter().map(|(group, _)| group.to_owned()).collect();
        for group in groups {
            let tables = tables_of(broker, &group, only_ordered);
            for offset in tables.iter().flat_map(|table| table.offset_table.values()) {
                all.total_diff += offset.broker_offset - offset.consumer_offset;
                all.total_inflight_diff += offset.pull_offset - offset.consumer_offset;
            }
            all.consume_stats_list.push(BTreeMap::from([(group, tables)]));
        }
        let body = all.encode();
        reply.respond(out, ResponseCode::SUCCESS, None, &[], body.into());
        Ok(())
    })
}

/// A table for each topic that a group reads.
fn tables_of(broker: &Broker, group: &str, only_ordered: bool) -> Vec<ConsumeStats> {
    let mut topics = committed(broker, group);
    keep_subscribed(broker, group, &mut topics);
    if only_ordered {
        let catalog = broker.catalog.read();
        topics.retain(|topic| catalog.topics.get(topic).is_some_and(|config| config.order));
    }
    let mut tables = Vec::new();
    for topic in topics {
        let mut progress = Progress::default();
        if progress.add(broker, group, &topic, |config| config.write_queues) {
            let Progress { rows, times, consume_tps } = progress;
            tables.push(ConsumeStats { consume_tps, offset_table: with_times(rows, &times.wait(broker)) });
        }
    }
    tables
}

/// 303: between which times a group is in each queue.
pub fn time_spans(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = SubscriptionRequest::decode(request.header)?;
    let topic = asked.topic.ok_or(FieldError::Missing { field: "topic" })?;
    let catalog = broker.catalog.read();
    let (config, queues) = catalog.topic(topic).ok_or_else(|| no_topic(topic))?;
    let count = config.write_queues as usize;
    let index = broker.index.read();
    let offsets = broker.offsets.lock();
    let mut times = StoreTimes::default();
    let mut rows = Vec::with_capacity(count);
    for (queue, number) in queues.iter().take(count).zip(0..) {
        let range = index.range(*queue);
        let consumed = offsets.get(asked.group, topic, number);
        let next = consumed.unwrap_or(0).max(range.start);
        let newest = range.end.checked_sub(1);
        for offset in
            [Some(range.start), newest, consumed.and_then(|offset| offset.checked_sub(1)), Some(next)]
        {
            times.ask(&index, *queue, offset);
        }
        rows.push(message_queue(&broker.identity.broker, topic, i32::try_from(number).unwrap_or(i32::MAX)));
    }
    drop((offsets, index, catalog));
    let now_ms = broker.clock.wall_ms();
    times.answer(broker, request, answers, move |times| {
        let spans = rows.into_iter().zip(times.chunks_exact(4)).map(|(queue, times)| {
            let time = |at: usize| times[at].map_or(-1, signed);
            QueueTimeSpan {
                // Who has consumed nothing stands where the queue begins.
                consume_timestamp: times[2].map_or(time(0), signed),
                delay_ms: times[3].map_or(0, |next| signed(now_ms.saturating_sub(next))),
                max_timestamp: time(1),
                queue,
                min_timestamp: time(0),
            }
        });
        ConsumeTimeSpans { spans: spans.collect() }.encode()
    })
}

/// How far a group is, but for the times.
#[derive(Default)]
struct Progress {
    rows: Vec<(MessageQueue, ConsumeOffset)>,
    times: StoreTimes,
    consume_tps: f64,
}

impl Progress {
    /// Adds a topic; says whether there is one.
    fn add(&mut self, broker: &Broker, group: &str, topic: &str, count: fn(&TopicConfig) -> u32) -> bool {
        let catalog = broker.catalog.read();
        let Some((config, queues)) = catalog.topic(topic) else { return false };
        let reads = broker.statistics.known_reads(topic, group);
        let index = broker.index.read();
        let offsets = broker.offsets.lock();
        for (queue, number) in queues.iter().take(count(config) as usize).zip(0..) {
            let consumer_offset = offsets.get(group, topic, number).unwrap_or(0);
            let pulled = reads.as_ref().map_or(0, |reads| reads.pull_offset(number));
            self.times.ask(&index, *queue, consumer_offset.checked_sub(1));
            let offset = ConsumeOffset {
                broker_offset: signed(index.range(*queue).end),
                consumer_offset: signed(consumer_offset),
                last_timestamp: 0,
                pull_offset: signed(pulled.max(consumer_offset)),
            };
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            self.rows.push((message_queue(&broker.identity.broker, topic, number), offset));
        }
        drop((offsets, index, catalog));
        self.consume_tps += reads.map_or(0.0, |reads| {
            reads.meter.over(Window::Minute, broker.clock.monotonic()).rate(Reads::MESSAGES)
        });
        true
    }
}

fn with_times(
    rows: Vec<(MessageQueue, ConsumeOffset)>,
    times: &[Option<u64>],
) -> BTreeMap<MessageQueue, ConsumeOffset> {
    let rows = rows.into_iter().zip(times);
    rows.map(|((queue, offset), time)| {
        (queue, ConsumeOffset { last_timestamp: time.map_or(0, signed), ..offset })
    })
    .collect()
}

/// The topics of which a group has committed something, and those to which what it popped of them comes back.
fn committed(broker: &Broker, group: &str) -> BTreeSet<String> {
    let mut topics = broker.offsets.lock().topics_of(group);
    pops::add_retries(broker, group, &mut topics);
    topics
}

/// Drops topics that a group with members does not subscribe to: offsets of an earlier life say nothing about it. What
/// comes back of a topic is subscribed to with that.
fn keep_subscribed(broker: &Broker, group: &str, topics: &mut BTreeSet<String>) {
    if let Some(members) = broker.membership.consumers(group)
        && !members.subscriptions.is_empty()
    {
        let mut subscribed = members.subscriptions.keys().map(|topic| topic.as_ref().to_owned()).collect();
        pops::add_retries(broker, group, &mut subscribed);
        topics.retain(|topic| subscribed.contains(topic));
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the answer about all groups counts as until it is there.
const ALL_GROUPS_BYTES: u64 = 1 << 20;
