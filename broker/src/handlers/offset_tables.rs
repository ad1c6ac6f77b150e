//! All offsets at once: 43, 45.

use std::collections::BTreeMap;

use skylark_protocol::command::offset_tables::{ConsumerOffsets, DelayOffsets};
use skylark_protocol::command::register::DataVersion;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 43: where every group goes on.
pub fn consumers(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let mut offset_table: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for ((group, topic, queue), offset) in broker.offsets.lock().all() {
        let Ok(queue) = i32::try_from(queue) else { continue };
        offset_table.entry(format!("{topic}@{group}")).or_default().insert(queue, signed(offset));
    }
    answers.body(request.reply, ConsumerOffsets { data_version: version(broker), offset_table }.encode())
}

/// 45: how far the messages of each delay level have been delivered.
pub fn delays(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let progress = broker.timers.progress(broker).into_iter();
    let offset_table =
        progress.filter_map(|(level, delivered, _)| Some((i32::try_from(level).ok()?, signed(delivered))));
    let offset_table = offset_table.collect();
    answers.body(request.reply, DelayOffsets { data_version: version(broker), offset_table }.encode())
}

/// Offsets have no version of their own; the log's end grows with each that reaches it.
fn version(broker: &Broker) -> DataVersion {
    let counter = signed(broker.applied.get().get());
    DataVersion { counter, state_version: 0, timestamp: signed(broker.clock.wall_ms()) }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
