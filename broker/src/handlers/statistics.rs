//! Figures over the last minute, hour and day: 315.

use std::time::Duration;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::stats::{BrokerStatsData, BrokerStatsItem, BrokerStatsRequest};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::statistics::meters::Meter;
use crate::statistics::{Counter, Over, Reads, TopicMeter, Window};

/// 315: one figure, by name and key. The key of a topic's is the topic, of a group's `topic@group`, of the broker's
/// the cluster.
pub fn view(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let BrokerStatsRequest { name, key } = BrokerStatsRequest::decode(request.header)?;
    match figure(broker, name, key) {
        Some(data) => answers.body(request.reply, data.encode()),
        // Tools take this for zero.
        None => {
            let remark = format!("The stats <{name}> <{key}> not exist");
            Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark))
        }
    }
}

fn figure(broker: &Broker, name: &str, key: &str) -> Option<BrokerStatsData> {
    let (counted, now) = (&broker.statistics, broker.clock.monotonic());
    let of_topic = |total| figure_of(&counted.topic(key)?.puts, now, total, TopicMeter::CALLS);
    let of_group = |total, calls| {
        let (topic, group) = key.split_once('@')?;
        figure_of(&counted.known_reads(topic, group)?.meter, now, total, calls)
    };
    let of_broker = |counter: &Counter, without: Option<&Counter>| {
        let item = |window| {
            let mut over = counter.over(window, now);
            let left_out = without.map_or(0, |without| without.over(window, now).growth[0]);
            over.growth[0] = over.growth[0].saturating_sub(left_out);
            // The tools average nothing here: how many calls there were is not counted.
            BrokerStatsItem { avgpt: 0.0, ..item(&over, 0, 0) }
        };
        (key == broker.identity.cluster).then(|| data(item))
    };
    match name {
        "TOPIC_PUT_NUMS" => of_topic(TopicMeter::MESSAGES),
        "TOPIC_PUT_SIZE" => of_topic(TopicMeter::BYTES),
        "GROUP_GET_NUMS" => of_group(Reads::MESSAGES, Reads::CALLS),
        "GROUP_GET_SIZE" => of_group(Reads::BYTES, Reads::CALLS),
        "GROUP_GET_LATENCY" => of_group(Reads::WAITED_MS, Reads::CALLS),
        "SNDBCK_PUT_NUMS" => of_group(Reads::SENT_BACK, Reads::SENT_BACK),
        "BROKER_PUT_NUMS" => of_broker(&counted.puts, None),
        "BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC" => of_broker(&counted.puts, Some(&counted.system_puts)),
        "BROKER_GET_NUMS" => of_broker(&counted.gets, None),
        "BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC" => of_broker(&counted.gets, Some(&counted.system_gets)),
        _ => None,
    }
}

/// A figure, if there was ever anything to count for it.
fn figure_of<const N: usize>(
    meter: &Meter<N>,
    now: Duration,
    total: usize,
    calls: usize,
) -> Option<BrokerStatsData> {
    let counted = meter.total(calls) > 0;
    counted.then(|| data(|window| item(&meter.over(window, now), total, calls)))
}

fn data(item: impl Fn(Window) -> BrokerStatsItem) -> BrokerStatsData {
    BrokerStatsData {
        stats_day: item(Window::Day),
        stats_hour: item(Window::Hour),
        stats_minute: item(Window::Minute),
    }
}

fn item<const N: usize>(over: &Over<N>, total: usize, calls: usize) -> BrokerStatsItem {
    BrokerStatsItem {
        avgpt: over.mean(total, calls),
        sum: i64::try_from(over.growth[total]).unwrap_or(i64::MAX),
        tps: over.rate(total),
    }
}
