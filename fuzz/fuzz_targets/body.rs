//! Bodies of administration and heartbeats: the first byte chooses which. No bytes panic, and what was read once is,
//! after it was written, read as something that is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skylark_protocol::command::connections::{ConsumerConnection, ProducerConnection, ProducerTable};
use skylark_protocol::command::diagnosis::ConsumeResult;
use skylark_protocol::command::groups::{GroupConfigList, GroupConfigTable, SubscriptionGroupConfig};
use skylark_protocol::command::heartbeat::{CheckClientConfig, Heartbeat};
use skylark_protocol::command::kv::KvTable;
use skylark_protocol::command::locks::{LockRequest, LockedQueues};
use skylark_protocol::command::membership::ConsumerList;
use skylark_protocol::command::offset_tables::{ConsumerOffsets, DelayOffsets};
use skylark_protocol::command::query::ConsumeQueueEntries;
use skylark_protocol::command::register::{DataVersion, RegisterBrokerBody};
use skylark_protocol::command::reset::{ConsumerStatus, ResetOffsets};
use skylark_protocol::command::route::{ClusterInfo, TopicList, TopicRouteData};
use skylark_protocol::command::stats::{BrokerConsumeStats, BrokerStatsData, ConsumeStats, TopicStatsTable};
use skylark_protocol::command::subscribers::{ConsumeTimeSpans, GroupList, SubscriptionOfGroup};
use skylark_protocol::command::topics::{TopicConfig, TopicConfigList};

/// Reads, writes, reads, writes, and compares the two that were written.
macro_rules! bodies {
    ($chosen:expr, $body:expr, [$($place:literal => $body_type:ty),* $(,)?]) => {
        match $chosen {
            $($place => {
                let Ok(first) = <$body_type>::decode($body) else { return };
                let written = first.encode();
                let second = <$body_type>::decode(&written).expect("what was written can be read");
                let written = second.encode();
                let third = <$body_type>::decode(&written).expect("what was written can be read");
                assert_eq!(third.encode(), written);
            })*
            _ => {
                let _body = RegisterBrokerBody::decode($body, $chosen & 1 == 1, 400 + i32::from($chosen));
            }
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&chosen, body)) = bytes.split_first() else { return };
    bodies!(chosen % 32, body, [
        0 => Heartbeat,
        1 => CheckClientConfig,
        2 => ConsumerConnection,
        3 => ProducerConnection,
        4 => ProducerTable,
        5 => ConsumeResult,
        6 => SubscriptionGroupConfig,
        7 => GroupConfigList,
        8 => GroupConfigTable,
        9 => KvTable,
        10 => LockRequest,
        11 => LockedQueues,
        12 => ConsumerList,
        13 => ConsumerOffsets,
        14 => DelayOffsets,
        15 => ConsumeQueueEntries,
        16 => DataVersion,
        17 => ResetOffsets,
        18 => ConsumerStatus,
        19 => TopicRouteData,
        20 => ClusterInfo,
        21 => TopicList,
        22 => TopicStatsTable,
        23 => ConsumeStats,
        24 => BrokerConsumeStats,
        25 => BrokerStatsData,
        26 => GroupList,
        27 => SubscriptionOfGroup,
        28 => ConsumeTimeSpans,
        29 => TopicConfig,
        30 => TopicConfigList,
    ]);
});
