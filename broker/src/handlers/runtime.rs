//! What the tools ask about the broker itself: 28.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use skylark_protocol::command::kv::KvTable;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 28: figures as text. `mqadmin clusterList` and the dashboard parse them, so each they read is there.
pub fn info(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let now_ms = broker.clock.wall_ms();
    let frontiers = broker.log.frontiers();
    let (puts, gets) = (&broker.rates.puts, &broker.rates.gets);
    let mut table = BTreeMap::new();
    let mut put = |key: &str, value: String| table.insert(key.to_owned(), value);
    put("brokerVersionDesc", "V5_3_3".to_owned());
    put("brokerVersion", skylark_protocol::header::VERSION.to_string());
    put("brokerActive", "true".to_owned());
    put("bootTimestamp", broker.rates.started_ms.to_string());
    put("runtime", spelled(now_ms.saturating_sub(broker.rates.started_ms)));
    for (key, rates) in [
        ("putTps", puts.rates()),
        ("getTotalTps", gets.rates()),
        ("getFoundTps", gets.rates()),
        ("getMissTps", [0.0; 3]),
        ("getTransferredTps", gets.rates()),
    ] {
        put(key, rates.map(|rate| format!("{rate:.1}")).join(" "));
    }
    for (key, count) in [
        ("msgPutTotalYesterdayMorning", puts.at_yesterday_morning()),
        ("msgPutTotalTodayMorning", puts.at_this_morning()),
        ("msgPutTotalTodayNow", puts.total()),
        ("msgGetTotalYesterdayMorning", gets.at_yesterday_morning()),
        ("msgGetTotalTodayMorning", gets.at_this_morning()),
        ("msgGetTotalTodayNow", gets.total()),
        ("commitLogMinOffset", frontiers.trimmed.get()),
        ("commitLogMaxOffset", frontiers.visible_end.get()),
        ("remainHowManyDataToFlush", frontiers.appended_end.since(frontiers.durable_end)),
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
        put(&format!("{queue}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
    }
    for key in ["timerReadBehind", "timerOffsetBehind", "timerCongestNum", "pageCacheLockTimeMills"] {
        put(key, "0".to_owned());
    }
    for key in ["timerEnqueueTps", "timerDequeueTps"] {
        put(key, "0.0".to_owned());
    }
    for (level, delivered, max) in broker.timers.progress(broker) {
        put(&format!("scheduleMessageOffset_{level}"), format!("{delivered},{max}"));
    }
    let (messages, bytes) = (puts.total(), puts.bytes());
    #[expect(clippy::cast_precision_loss, reason = "a mean for display")]
    let mean = if messages == 0 { 0.0 } else { bytes as f64 / messages as f64 };
    put("putMessageAverageSize", format!("{mean:.1}"));
    put("putMessageSizeTotal", bytes.to_string());
    put("putMessageTimesTotal", messages.to_string());
    let ratio = format!("{:.2}", broker.disk_used_ratio());
    put("commitLogDiskRatio", ratio.clone());
    put("consumeQueueDiskRatio", ratio);
    answers.body(request.reply, KvTable { table }.encode())
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
