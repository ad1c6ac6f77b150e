//! Configuration: what the operator wrote, and what the code uses.
//!
//! [`Settings`] is the first, every field optional, the same names on the command line, in the environment and
//! in a TOML file. [`Config`] is the second, total and checked. Turning one into the other reports every mistake
//! at once and repairs none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use skylark_storage::device::DeviceChoice;
use skylark_storage::{Retention, Visibility};

use crate::delay::DelayLevels;
use crate::folds::audit::Keep;
use crate::folds::duplicates::WindowLimits;
use crate::transactions::TransactionPolicy;

pub mod broker_conf;
mod check;
mod settings;
pub mod shown;

use check::Check;
pub use check::{Mistake, Mistakes};
pub use settings::Settings;

/// What the code uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything durable lies.
    pub data: PathBuf,
    /// The broker's listener.
    pub listen: SocketAddr,
    /// The built-in nameserver's listener.
    pub namesrv_listen: Option<SocketAddr>,
    /// Nameservers to register with, as `host:port`.
    pub namesrv: Vec<String>,
    /// Who this broker is, to its clients.
    pub identity: Identity,
    /// What it does unasked, and how much of everything it takes.
    pub policy: Policy,
    /// Length of a segment file.
    pub segment_bytes: u64,
    /// How the log reaches the disk.
    pub device: DeviceChoice,
    /// How long messages are kept.
    pub retention: Retention,
    /// Bound of what is appended and not yet durable.
    pub undurable_bytes_max: u64,
    /// What is acknowledged, and shown to consumers.
    pub flush: Visibility,
    /// Bound of the log's tail in memory.
    pub tail_bytes: u64,
    /// Connections per listener.
    pub connections_max: usize,
    /// After so much silence a connection is closed.
    pub idle_seconds: u64,
    /// A frame that takes longer costs its connection.
    pub frame_seconds: u64,
    /// Threads that serve connections.
    pub workers: usize,
}

/// Who a broker is, to its clients.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: String,
    /// Its name within the cluster.
    pub broker: String,
    /// The address in routes: `host:port`, as the operator wrote the host.
    pub address: String,
    /// The address in store hosts and message ids.
    pub store_host: SocketAddrV4,
}

impl Identity {
    /// Where a slave would connect: the port behind the broker's, as RocketMQ's tools expect.
    pub fn ha_address(&self) -> String {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        format!("{host}:{}", self.store_host.port().saturating_add(1))
    }
}

/// What a broker does unasked, and how much of everything it takes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Create a topic at the first send to it.
    pub auto_create_topics: bool,
    /// Create a group at its first heartbeat.
    pub auto_create_groups: bool,
    /// Queues of the template topic.
    pub default_topic_queues: u32,
    /// Have the topic for clients' traces from the start.
    pub trace_topic: bool,
    /// Largest message body.
    pub message_bytes_max: u32,
    /// How long messages of each delay level wait.
    pub delay_levels: DelayLevels,
    /// How transactions are treated.
    pub transactions: TransactionPolicy,
    /// How long a message may wait that asks for a time.
    pub delay_ms_max: u64,
    /// Messages that wait for a time can be recalled.
    pub recall_messages: bool,
    /// Delayed messages are refused while those that wait take more of the disk, in percent.
    pub pending_disk_percent: u8,
    /// How much is kept of who moved which offset.
    pub audit: Keep,
    /// Which messages are known when they are sent again.
    pub duplicate_window: WindowLimits,
    /// How many light queues there may be.
    pub light_queues_max: u32,
    /// Topics may have the type MIXED.
    pub mixed_message_type: bool,
    /// A message has to be of its topic's type.
    pub check_message_types: bool,
    /// Sends are refused while more of the disk is used, in percent.
    pub disk_refuse_percent: u8,
    /// Memory of the machine: consumers within 40 % of it from the log's end count as near.
    pub memory_bytes: u64,
}

impl Config {
    /// Checks settings and fills in defaults.
    ///
    /// # Errors
    /// Every mistake, not just the first.
    pub fn new(settings: Settings) -> Result<Self, Mistakes> {
        let mut check = Check::default();
        let transactions = check.transactions(&settings);
        let duplicate_window = check.duplicate_window(&settings);
        let light_queues_max = check.light_queues_max(&settings);
        let listen = check.address("listen", settings.listen.as_deref().unwrap_or("127.0.0.1:10911"));
        let namesrv_listen = match settings.namesrv_listen.as_deref().unwrap_or("127.0.0.1:9876") {
            "none" => None,
            text => Some(check.address("namesrv-listen", text)),
        };
        if listen.port() != 0 && namesrv_listen.is_some_and(|namesrv| namesrv.port() == listen.port()) {
            check.mistake("namesrv-listen", "has the broker's port; each listener needs its own");
        }
        if settings.allow_unauthenticated != Some(true) {
            let wide = |address: &SocketAddr| !address.ip().is_loopback();
            if wide(&listen) {
                check.mistake("listen", UNAUTHENTICATED);
            }
            if namesrv_listen.as_ref().is_some_and(wide) {
                check.mistake("namesrv-listen", UNAUTHENTICATED);
            }
        }
        let (host, ip) = check.advertised(settings.advertise.as_deref(), listen.ip());
        let cluster = check.name("cluster", settings.cluster, "DefaultCluster");
        let broker = check.name("broker-name", settings.broker_name, "broker-a");
        let namesrv = match (&settings.namesrv, namesrv_listen) {
            (Some(list), _) => check.nameservers(list),
            (None, Some(own)) => vec![reachable(own).to_string()],
            (None, None) => {
                check.mistake("namesrv", "without a built-in nameserver, name at least one to register with");
                Vec::new()
            }
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let segment_bytes =
            check.within("segment-bytes", settings.segment_bytes, 256 << 20, 64 << 10..=2 << 30);
        if segment_bytes % 4096 != 0 {
            check.mistake("segment-bytes", "must be a multiple of 4096");
        }
        let retention_hours = check.within("retention-hours", settings.retention_hours, 72, 1..=24 * 36_500);
        let disk_clean_percent = check.within("disk-clean-percent", settings.disk_clean_percent, 85, 1..=100);
        let disk_refuse_percent =
            check.within("disk-refuse-percent", settings.disk_refuse_percent, 90, 1..=100);
        let mut retention =
            Retention::default().by_age(retention_hours * 3_600_000).by_disk(disk_clean_percent);
        retention.bytes_max = settings.retention_bytes;
        if disk_clean_percent > disk_refuse_percent {
            check.mistake(
                "disk-clean-percent",
                "must not be above disk-refuse-percent: sends would stop first",
            );
        }
        // What waits is appended again before a trim: if it alone made the disk too full, trims would never end.
        let pending_disk_percent = check.within(
            "pending-disk-percent",
            settings.pending_disk_percent,
            PENDING_DISK_PERCENT.min((disk_clean_percent / 2).max(1)),
            1..=90,
        );
        if pending_disk_percent > disk_clean_percent {
            check.mistake(
                "pending-disk-percent",
                "must not be above disk-clean-percent: trims would never make room",
            );
        }
        let delay_seconds_max = check.within(
            "delay-seconds-max",
            settings.delay_seconds_max,
            366 * 86_400,
            1..=100 * 366 * 86_400,
        );
        let audit_moves_max =
            check.within("audit-moves-max", settings.audit_moves_max, 10_000, 100..=1_000_000);
        let audit_days = check.within("audit-days", settings.audit_days, 90, 1..=36_500);
        let message_bytes_max =
            check.within("message-bytes-max", settings.message_bytes_max, 4 << 20, 1..=4 << 20);
        let flush = check.flush(settings.flush.as_deref());
        let config = Self {
            data: settings.data.unwrap_or_else(|| PathBuf::from("data")),
            listen,
            namesrv_listen,
            namesrv,
            identity: Identity {
                cluster,
                broker,
                address: format!("{host}:{}", listen.port()),
                store_host: SocketAddrV4::new(ip, listen.port()),
            },
            policy: Policy {
                auto_create_topics: settings.auto_create_topics.unwrap_or(true),
                auto_create_groups: settings.auto_create_groups.unwrap_or(true),
                default_topic_queues: check.within(
                    "default-topic-queues",
                    settings.default_topic_queues,
                    8,
                    1..=1024,
                ),
                trace_topic: settings.trace_topic.unwrap_or(false),
                message_bytes_max,
                delay_levels: check.delay_levels(settings.delay_levels.as_deref()),
                transactions,
                delay_ms_max: delay_seconds_max * 1000,
                recall_messages: settings.recall_messages.unwrap_or(true),
                pending_disk_percent,
                audit: Keep { moves_max: audit_moves_max, age_ms: audit_days * 86_400_000 },
                duplicate_window,
                light_queues_max,
                mixed_message_type: settings.mixed_message_type.unwrap_or(false),
                check_message_types: settings.check_message_types.unwrap_or(false),
                disk_refuse_percent,
                memory_bytes: memory_bytes(),
            },
            segment_bytes,
            device: check.device(settings.device.as_deref()),
            retention,
            undurable_bytes_max: check.within(
                "undurable-bytes-max",
                settings.undurable_bytes_max,
                32 << 20,
                16 << 20..=1 << 30,
            ),
            flush,
            tail_bytes: check.within("tail-bytes", settings.tail_bytes, 32 << 20, 1 << 20..=64 << 30),
            connections_max: check.within("connections-max", settings.connections_max, 10_000, 1..=1_000_000),
            idle_seconds: check.within("idle-seconds", settings.idle_seconds, 120, 1..=86_400),
            frame_seconds: check.within("frame-seconds", settings.frame_seconds, 30, 1..=3600),
            workers: check.within("workers", settings.workers, cores.max(2), 2..=1024),
        };
        check.finish(config)
    }
}

/// Share of the disk that messages may take while they wait.
const PENDING_DISK_PERCENT: u8 = 40;
const UNAUTHENTICATED: &str = "is reachable from other machines, and nothing here asks who they are; \
     listen on a loopback address, or say --allow-unauthenticated";

/// An address of this machine that connects to a listener, which may listen on all of them.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        ip if !ip.is_unspecified() => listener,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.port()),
        IpAddr::V6(_) => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), listener.port()),
    }
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit) * info.totalram
}

#[cfg(test)]
mod tests;
