//! What the tools ask about the broker itself: 28.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use skylark_protocol::command::kv::KvTable;
use skylark_storage::PinInfo;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};
use crate::quotas::Use;
use crate::statistics::Counter;
use crate::system;

/// 28: figures as text. `mqadmin clusterList` and the dashboard parse them, so each they read is there.
pub fn info(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let now_ms = broker.clock.wall_ms();
    let frontiers = broker.log.frontiers();
    let counted = &broker.statistics;
    let mut table = BTreeMap::new();
    let mut put = |key: &str, value: String| table.insert(key.to_owned(), value);
    put("brokerVersionDesc", "V5_3_3".to_owned());
    put("brokerVersion", skylark_protocol::header::VERSION.to_string());
    put("brokerActive", "true".to_owned());
    put("bootTimestamp", counted.started_ms.to_string());
    put("runtime", spelled(now_ms.saturating_sub(counted.started_ms)));
    let (found, missed) = (counted.found.rates(), counted.missed.rates());
    for (key, rates) in [
        ("putTps", counted.puts.rates()),
        ("getTotalTps", [0, 1, 2].map(|window| found[window] + missed[window])),
        ("getFoundTps", found),
        ("getMissTps", missed),
        ("getTransferredTps", counted.gets.rates()),
    ] {
        put(key, rates.map(|rate| format!("{rate:.1}")).join(" "));
    }
    // As with RocketMQ, these leave out what went through topics of the broker's own.
    let of_users = |all: &Counter, system: &Counter, total: fn(&Counter) -> u64| {
        let system = total(system);
        total(all).saturating_sub(system)
    };
    let puts = |total| of_users(&counted.puts, &counted.system_puts, total);
    let gets = |total| of_users(&counted.gets, &counted.system_gets, total);
    for (key, count) in [
        ("msgPutTotalYesterdayMorning", puts(Counter::at_yesterday_morning)),
        ("msgPutTotalTodayMorning", puts(Counter::at_this_morning)),
        ("msgPutTotalTodayNow", puts(Counter::total)),
        ("msgGetTotalYesterdayMorning", gets(Counter::at_yesterday_morning)),
        ("msgGetTotalTodayMorning", gets(Counter::at_this_morning)),
        ("msgGetTotalTodayNow", gets(Counter::total)),
        ("commitLogMinOffset", frontiers.trimmed.get()),
        ("commitLogMaxOffset", frontiers.visible_end.get()),
        ("dispatchBehindBytes", frontiers.visible_end.get().saturating_sub(broker.applied.get().get())),
        ("earliestMessageTimeStamp", broker.index.read().earliest().unwrap_or(now_ms)),
    ] {
        put(key, count.to_string());
    }
    // Requests wait in no queue here: a connection's task answers what it has read.
    for queue in ["send", "pull", "litePull", "query", "ack", "EndTransaction"] {
        let size = if queue == "EndTransaction" { "QueueSize" } else { "ThreadPoolQueueSize" };
        put(&format!("{queue}{size}"), "0".to_owned());
        put(&format!("{queue}ThreadPoolQueueCapacity"), "0".to_owned());
        if queue != "EndTransaction" {
            put(&format!("{queue}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
        }
    }
    // RocketMQ calls what is due and not delivered "read", and counts it in seconds; what waits is "congested" to it.
    let pending = broker.timers.folded.lock().pending();
    for (key, count) in [
        ("timerReadBehind", broker.timers.behind_ms(now_ms) / 1000),
        ("timerOffsetBehind", timers_behind(broker)),
        ("timerCongestNum", pending.messages),
        ("pageCacheLockTimeMills", 0),
    ] {
        put(key, count.to_string());
    }
    put("timerEnqueueTps", format!("{:.1}", counted.delayed.rates()[0]));
    put("timerDequeueTps", format!("{:.1}", counted.fired.rates()[0]));
    for (level, delivered, max) in broker.timers.progress(broker) {
        put(&format!("scheduleMessageOffset_{level}"), format!("{delivered},{max}"));
    }
    // Not RocketMQ's, and only where messages were delayed: how much they take, and how late they came.
    if pending.messages > 0 || counted.fired.total() > 0 {
        put("timerPendingBytes", pending.bytes.to_string());
        put("timerPendingBytesMax", broker.timers.pending_bytes_max().unwrap_or(0).to_string());
        put("timerUndeliverable", broker.timers.undeliverable().to_string());
        put("timerLag99", format!("{:.2}", counted.fire_lags.quantile_ms(0.99)));
        put("timerLagMax", counted.fire_lags.max_ms().to_string());
    }
    // Nor these, and only while there are any: what keeps memory and the log's old end.
    let unsealed = broker.index.read().unsealed_count();
    if unsealed > 0 {
        put("unsealedSegments", unsealed.to_string());
    }
    let pins = broker.log.pins();
    if !pins.is_empty() {
        put("commitLogPins", pins.iter().map(described).collect::<Vec<_>>().join("; "));
    }
    let (duplicates, reach_ms) = {
        let window = broker.suppression.folded.lock();
        (window.len(), window.reach_ms())
    };
    if duplicates > 0 {
        put("duplicateWindowMessages", duplicates.to_string());
    }
    if let Some(reach_ms) = reach_ms {
        put("duplicateWindowReachMs", reach_ms.to_string());
    }
    let suppressed = broker.suppression.suppressed();
    if suppressed > 0 {
        put("duplicatesSuppressed", suppressed.to_string());
    }
    for (key, what) in [("sendsOverQuota", Use::Send), ("readsOverQuota", Use::Read)] {
        let refused = broker.quotas.refused(what);
        if refused > 0 {
            put(key, refused.to_string());
        }
    }
    if let Some(why) = broker.archive.refusal() {
        put("sendsRefused", why.to_string());
    }
    let (messages, bytes) = (counted.puts.total(), counted.puts.bytes());
    #[expect(clippy::cast_precision_loss, reason = "a mean for display")]
    let mean = if messages == 0 { 0.0 } else { bytes as f64 / messages as f64 };
    put("putMessageAverageSize", format!("{mean:.1}"));
    put("putMessageSizeTotal", bytes.to_string());
    put("putMessageTimesTotal", messages.to_string());
    put("putMessageEntireTimeMax", counted.put_latencies.max_ms().to_string());
    put("putLatency99", format!("{:.2}", counted.put_latencies.quantile_ms(0.99)));
    put("putLatency999", format!("{:.2}", counted.put_latencies.quantile_ms(0.999)));
    put("putMessageDistributeTime", counted.put_latencies.distribution());
    put("getMessageEntireTimeMax", counted.waited_ms_max().to_string());
    put("dispatchMaxBuffer", counted.behind_bytes_max().to_string());
    put("putMessageFailedTimes", counted.failed_puts.total().to_string());
    put("remainHowManyDataToFlush", readable(frontiers.appended_end.since(frontiers.durable_end)));
    // What RocketMQ says when it has no such buffers.
    put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
    // No time before which sends are refused is ever set.
    put("startAcceptSendRequestTimeStamp", "0".to_owned());
    if let Ok(space) = broker.disk_space() {
        let (total, free) = (readable(space.total_bytes), readable(space.available_bytes));
        put("commitLogDirCapacity", format!("Total : {total}, Free : {free}."));
        let ratio = (space.used_percent() / 100.0).to_string();
        put(&format!("commitLogDiskRatio_{}/log", broker.shown_config["storePathRootDir"]), ratio.clone());
        put("commitLogDiskRatio", ratio.clone());
        put("consumeQueueDiskRatio", ratio);
    }
    answers.body(request.reply, KvTable { table }.encode())
}

/// How many messages asked for a time and are not known to the engine yet.
fn timers_behind(broker: &Broker) -> u64 {
    let Some(queue) =
        broker.catalog.read().queues(system::TIMER_TOPIC).and_then(|queues| queues.first().copied())
    else {
        return 0;
    };
    let indexed = broker.index.read().range(queue).end;
    broker.log.with_state(|state| state.next(queue)).saturating_sub(indexed)
}

/// A pin on the log, for a person.
fn described(pin: &PinInfo) -> String {
    let PinInfo { holder, from, expires_in, is_lost, .. } = pin;
    let state = if *is_lost {
        "lost".to_owned()
    } else if expires_in.is_zero() {
        "expired".to_owned()
    } else {
        format!("for {} s", expires_in.as_secs())
    };
    format!("{holder} from {from} {state}")
}

/// A number of bytes the way RocketMQ spells it.
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog2() / 10;
    #[expect(clippy::cast_precision_loss, reason = "a size for display")]
    let size = bytes as f64 / (1_u64 << (10 * exponent)) as f64;
    format!("{size:.1} {}", UNITS[exponent as usize - 1])
}

/// A duration the way RocketMQ spells it.
fn spelled(ms: u64) -> String {
    let seconds = ms / 1000;
    let parts = [
        (seconds / 86_400, "days"),
        (seconds / 3600 % 24, "hours"),
        (seconds / 60 % 60, "minutes"),
        (seconds % 60, "seconds"),
    ];
    let mut text = String::from("[ ");
    for (index, (count, unit)) in parts.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(text, "{separator}{count} {unit}").expect("writing to memory does not fail");
    }
    text.push_str(" ]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_spelled_as_rocketmq_does() {
        let sizes = [0, 1023, 1024, 1536 << 10, 5 << 30, u64::MAX];
        assert_eq!(sizes.map(readable), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "16.0 EiB"]);
        assert_eq!(spelled(90_061_999), "[ 1 days, 1 hours, 1 minutes, 1 seconds ]");
    }
}
