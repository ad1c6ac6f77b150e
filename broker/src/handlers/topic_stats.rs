//! How far a topic has got: 202.

use std::ops::Range;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::locks::MessageQueue;
use skylark_protocol::command::stats::{TopicOffset, TopicStatsTable};
use skylark_protocol::command::topics::TopicRequest;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::handlers::caught_up;
use crate::handlers::store_times::StoreTimes;
use crate::statistics::{TopicMeter, Window};

/// 202: both ends of each queue, and when its newest message was stored.
pub fn topic(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let name = TopicRequest::decode(request.header)?.topic;
    let catalog = broker.catalog.read();
    let (config, queues) = catalog.topic(name).ok_or_else(|| no_topic(name))?;
    let count = config.read_queues.max(config.write_queues) as usize;
    let mut times = StoreTimes::default();
    let index = broker.index.read();
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(count);
    for queue in queues.iter().take(count) {
        let range = index.range(*queue);
        times.ask(&index, *queue, range.end.checked_sub(1));
        ranges.push(range);
    }
    drop((index, catalog));
    let put_tps = broker.statistics.topic(name).map_or(0.0, |meter| {
        meter.puts.over(Window::Minute, broker.clock.monotonic()).rate(TopicMeter::MESSAGES)
    });
    let (name, broker_name) = (name.to_owned(), broker.identity.broker.clone());
    times.answer(broker, request, answers, move |times| {
        let offsets = ranges.iter().zip(times).map(|(range, time)| TopicOffset {
            last_update_timestamp: time.unwrap_or(0),
            max_offset: range.end,
            min_offset: range.start,
        });
        let offset_table =
            offsets.zip(0..).map(|(offset, number)| (message_queue(&broker_name, &name, number), offset));
        TopicStatsTable { offset_table: offset_table.collect(), topic_put_tps: put_tps }.encode()
    })
}

/// A queue of this broker, as the tools name it.
pub fn message_queue(broker: &str, topic: &str, number: i32) -> MessageQueue {
    MessageQueue { broker_name: broker.to_owned(), queue_id: number, topic: topic.to_owned() }
}

/// What a question about a topic that does not exist is answered with.
pub fn no_topic(topic: &str) -> Refusal {
    Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
}
