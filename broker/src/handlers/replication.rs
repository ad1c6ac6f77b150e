//! How the broker's replicas are: 907.

use serde::Serialize;
use skylark_protocol::json;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 907: a master without slaves.
pub fn status(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let status = Status {
        ha_client_runtime_info: AsSlave::default(),
        ha_connection_info: [],
        in_sync_slave_nums: 0,
        master: true,
        master_commit_log_max_offset: broker.log.visible().get().get(),
    };
    answers.body(request.reply, json::to_vec(&status))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    ha_client_runtime_info: AsSlave,
    /// One for each slave.
    ha_connection_info: [(); 0],
    in_sync_slave_nums: u32,
    master: bool,
    master_commit_log_max_offset: u64,
}

/// What a slave says of itself; the tools want it of a master too.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct AsSlave {
    activated: bool,
    last_read_timestamp: u64,
    last_write_timestamp: u64,
    master_flush_offset: u64,
    max_offset: u64,
    transferred_byte_in_second: u64,
}
