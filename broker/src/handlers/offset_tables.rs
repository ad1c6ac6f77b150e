//! All offsets at once: 43.

use std::collections::BTreeMap;

use skylark_protocol::command::offset_tables::ConsumerOffsets;
use skylark_protocol::command::register::DataVersion;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 43: where every group goes on.
pub fn consumers(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // Offsets have no version of their own; the log's end grows with each that reaches it.
    let counter = signed(broker.applied.get().get());
    let data_version = DataVersion { counter, state_version: 0, timestamp: signed(broker.clock.wall_ms()) };
    let mut offset_table: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for ((group, topic, queue), offset) in broker.offsets.lock().all() {
        let Ok(queue) = i32::try_from(queue) else { continue };
        offset_table.entry(format!("{topic}@{group}")).or_default().insert(queue, signed(offset));
    }
    answers.body(request.reply, ConsumerOffsets { data_version, offset_table }.encode())
}
