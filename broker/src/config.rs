//! Configuration: what the operator wrote, and what the code uses.
//!
//! [`Settings`] is the first, every field optional, the same names on the command line, in the environment and
//! in a TOML file. [`Config`] is the second, total and checked. Turning one into the other reports every mistake
//! at once and repairs none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use skylark_storage::device::{DeviceChoice, DeviceNameError};
use skylark_storage::{Retention, Visibility};

use crate::delay::{DelayLevels, LevelsError};
use crate::names;

pub mod broker_conf;
pub mod shown;

/// What an operator may write. Each field's first line is its entry in `--help`.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Data directory; created if absent [default: ./data]
    #[arg(long, env = "SKYLARK_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address the broker listens on [default: 127.0.0.1:10911]
    ///
    /// The fast listener, which some clients use for sends and commits, takes the port two below.
    #[arg(long, env = "SKYLARK_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,

    /// Address the built-in nameserver listens on, or `none` to run without it [default: 127.0.0.1:9876]
    #[arg(long, env = "SKYLARK_NAMESRV_LISTEN", value_name = "IP:PORT")]
    pub namesrv_listen: Option<String>,

    /// Nameservers to register with, separated by `;` [default: the built-in one]
    #[arg(long, env = "SKYLARK_NAMESRV", value_name = "HOST:PORT;…")]
    pub namesrv: Option<String>,

    /// Host name or IPv4 address that clients reach this broker by [default: the address listened on]
    ///
    /// Routes carry it as written; message ids and store hosts carry the IPv4 address it resolves to at start.
    #[arg(long, env = "SKYLARK_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,

    /// Name of the cluster [default: DefaultCluster]
    #[arg(long, env = "SKYLARK_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,

    /// Name of this broker [default: broker-a]
    #[arg(long, env = "SKYLARK_BROKER_NAME", value_name = "NAME")]
    pub broker_name: Option<String>,

    /// Serve other machines although nothing asks who they are
    ///
    /// Until access control exists, whoever reaches the port may read and write everything. Without this flag
    /// only loopback addresses are listened on.
    #[arg(long, env = "SKYLARK_ALLOW_UNAUTHENTICATED", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_unauthenticated: Option<bool>,

    /// Create a topic at the first send to it, as RocketMQ does [default: true]
    #[arg(long, env = "SKYLARK_AUTO_CREATE_TOPICS", value_name = "BOOL")]
    pub auto_create_topics: Option<bool>,

    /// Create a consumer group at its first heartbeat, as RocketMQ does [default: true]
    #[arg(long, env = "SKYLARK_AUTO_CREATE_GROUPS", value_name = "BOOL")]
    pub auto_create_groups: Option<bool>,

    /// Queues of TBW102, the template of automatically created topics: no such topic gets more [default: 8]
    #[arg(long, env = "SKYLARK_DEFAULT_TOPIC_QUEUES", value_name = "COUNT")]
    pub default_topic_queues: Option<u32>,

    /// Largest message body in bytes, at most 4 MiB [default: 4194304]
    #[arg(long, env = "SKYLARK_MESSAGE_BYTES_MAX", value_name = "BYTES")]
    pub message_bytes_max: Option<u32>,

    /// Delays of the levels that messages ask for, the first level's first [default: 1s 5s 10s 30s 1m … 2h]
    ///
    /// RocketMQ's `messageDelayLevel`: numbers with s, m, h or d, separated by blanks. A message that waits keeps its
    /// due time when this changes.
    #[arg(long, env = "SKYLARK_DELAY_LEVELS", value_name = "LIST")]
    pub delay_levels: Option<String>,

    /// Length of a segment file in bytes, a multiple of 4096 [default: 268435456]
    ///
    /// Below 32 MiB groups are limited by the segment; meant for tests of rolling.
    #[arg(long, env = "SKYLARK_SEGMENT_BYTES", value_name = "BYTES")]
    pub segment_bytes: Option<u64>,

    /// How the log reaches the disk: auto, buffered, direct or uring [default: auto]
    ///
    /// auto measures the others in the data directory, in the background of each start, and takes the best from the
    /// next segment on; it begins with what an earlier start found. buffered works on every file system.
    #[arg(long, env = "SKYLARK_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,

    /// Hours for which messages are kept at least [default: 72]
    ///
    /// Segments go as a whole, once their newest message is older.
    #[arg(long, env = "SKYLARK_RETENTION_HOURS", value_name = "HOURS")]
    pub retention_hours: Option<u64>,

    /// Bytes of log beyond which the oldest segments go, whatever their age [default: no limit]
    #[arg(long, env = "SKYLARK_RETENTION_BYTES", value_name = "BYTES")]
    pub retention_bytes: Option<u64>,

    /// How full the disk may be, in percent, before the oldest segments go whatever their age [default: 85]
    ///
    /// Looked at every second. Whoever has pinned what goes learns that it is gone.
    #[arg(long, env = "SKYLARK_DISK_CLEAN_PERCENT", value_name = "PERCENT")]
    pub disk_clean_percent: Option<u8>,

    /// How full the disk may be, in percent, before sends are refused [default: 90]
    ///
    /// What the broker writes itself, such as offset commits and deletions, goes on in what the log has prepared: the
    /// rest of its segment, and the next one.
    #[arg(long, env = "SKYLARK_DISK_REFUSE_PERCENT", value_name = "PERCENT")]
    pub disk_refuse_percent: Option<u8>,

    /// Bytes that may be appended but not yet durable before senders are held back [default: 33554432]
    ///
    /// From 16 MiB to 1 GiB. More absorbs longer stalls of the disk and lets latency grow with them.
    #[arg(long, env = "SKYLARK_UNDURABLE_BYTES_MAX", value_name = "BYTES")]
    pub undurable_bytes_max: Option<u64>,

    /// What an acknowledged message survives: `durable`, also a power cut; `written`, the end of the process only [default: durable]
    ///
    /// With `durable` every acknowledgement waits for a flush. With `written` it waits until the system has the
    /// message, which is flushed within 200 ms: a power cut may take the last moments.
    #[arg(long, env = "SKYLARK_FLUSH", value_name = "WHAT")]
    pub flush: Option<String>,

    /// Newest bytes of the log kept in memory for consumers [default: 33554432]
    #[arg(long, env = "SKYLARK_TAIL_BYTES", value_name = "BYTES")]
    pub tail_bytes: Option<u64>,

    /// Connections per listener; further ones are closed at once [default: 10000]
    #[arg(long, env = "SKYLARK_CONNECTIONS_MAX", value_name = "COUNT")]
    pub connections_max: Option<usize>,

    /// Seconds after which a connection that neither reads nor writes is closed [default: 120]
    #[arg(long, env = "SKYLARK_IDLE_SECONDS", value_name = "SECONDS")]
    pub idle_seconds: Option<u64>,

    /// Seconds within which a frame must be complete once its first byte is there [default: 30]
    #[arg(long, env = "SKYLARK_FRAME_SECONDS", value_name = "SECONDS")]
    pub frame_seconds: Option<u64>,

    /// Threads that serve connections, at least 2 [default: one per core, at least 2]
    #[arg(long, env = "SKYLARK_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
}

impl Settings {
    /// These settings, and `others` where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            data: self.data.or(others.data),
            listen: self.listen.or(others.listen),
            namesrv_listen: self.namesrv_listen.or(others.namesrv_listen),
            namesrv: self.namesrv.or(others.namesrv),
            advertise: self.advertise.or(others.advertise),
            cluster: self.cluster.or(others.cluster),
            broker_name: self.broker_name.or(others.broker_name),
            allow_unauthenticated: self.allow_unauthenticated.or(others.allow_unauthenticated),
            auto_create_topics: self.auto_create_topics.or(others.auto_create_topics),
            auto_create_groups: self.auto_create_groups.or(others.auto_create_groups),
            default_topic_queues: self.default_topic_queues.or(others.default_topic_queues),
            message_bytes_max: self.message_bytes_max.or(others.message_bytes_max),
            delay_levels: self.delay_levels.or(others.delay_levels),
            segment_bytes: self.segment_bytes.or(others.segment_bytes),
            device: self.device.or(others.device),
            retention_hours: self.retention_hours.or(others.retention_hours),
            retention_bytes: self.retention_bytes.or(others.retention_bytes),
            disk_clean_percent: self.disk_clean_percent.or(others.disk_clean_percent),
            disk_refuse_percent: self.disk_refuse_percent.or(others.disk_refuse_percent),
            undurable_bytes_max: self.undurable_bytes_max.or(others.undurable_bytes_max),
            flush: self.flush.or(others.flush),
            tail_bytes: self.tail_bytes.or(others.tail_bytes),
            connections_max: self.connections_max.or(others.connections_max),
            idle_seconds: self.idle_seconds.or(others.idle_seconds),
            frame_seconds: self.frame_seconds.or(others.frame_seconds),
            workers: self.workers.or(others.workers),
        }
    }
}

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
    /// Largest message body.
    pub message_bytes_max: u32,
    /// How long messages of each delay level wait.
    pub delay_levels: DelayLevels,
    /// Sends are refused while more of the disk is used, in percent.
    pub disk_refuse_percent: u8,
    /// Memory of the machine: consumers within 40 % of it from the log's end count as near.
    pub memory_bytes: u64,
}

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, by the name the operator wrote.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Every mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {}: {}", mistake.key, mistake.what))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Checks settings and fills in defaults.
    ///
    /// # Errors
    /// Every mistake, not just the first.
    pub fn new(settings: Settings) -> Result<Self, Mistakes> {
        let mut check = Check::default();
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
        let retention = Retention {
            age_ms: Some(retention_hours * 3_600_000),
            bytes_max: settings.retention_bytes,
            clean_percent: Some(disk_clean_percent),
        };
        if disk_clean_percent > disk_refuse_percent {
            check.mistake(
                "disk-clean-percent",
                "must not be above disk-refuse-percent: sends would stop first",
            );
        }
        let message_bytes_max =
            check.within("message-bytes-max", settings.message_bytes_max, 4 << 20, 1..=4 << 20);
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
                message_bytes_max,
                delay_levels: check.delay_levels(settings.delay_levels.as_deref()),
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
            flush: check.flush(settings.flush.as_deref()),
            tail_bytes: check.within("tail-bytes", settings.tail_bytes, 32 << 20, 1 << 20..=64 << 30),
            connections_max: check.within("connections-max", settings.connections_max, 10_000, 1..=1_000_000),
            idle_seconds: check.within("idle-seconds", settings.idle_seconds, 120, 1..=86_400),
            frame_seconds: check.within("frame-seconds", settings.frame_seconds, 30, 1..=3600),
            workers: check.within("workers", settings.workers, cores.max(2), 2..=1024),
        };
        if check.0.is_empty() { Ok(config) } else { Err(Mistakes(check.0)) }
    }
}

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

#[derive(Default)]
struct Check(Vec<Mistake>);

impl Check {
    fn mistake(&mut self, key: &str, what: impl Into<String>) {
        self.0.push(Mistake { key: key.to_owned(), what: what.into() });
    }

    fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        if text.ends_with(":0") {
            self.mistake(key, "needs a port that clients can be told: 0 is any");
        }
        text.parse().unwrap_or_else(|_| {
            self.mistake(key, format!("`{text}` is not an IP address and port, such as 127.0.0.1:10911"));
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
        })
    }

    fn name(&mut self, key: &str, name: Option<String>, default: &str) -> String {
        let name = name.unwrap_or_else(|| default.to_owned());
        if let Err(error) = names::check_topic(&name) {
            // A topic of this name is created at the first start, so the same rules hold.
            self.mistake(key, format!("`{name}`: {error}"));
        }
        name
    }

    fn flush(&mut self, text: Option<&str>) -> Visibility {
        match text {
            None | Some("durable") => Visibility::Durable,
            Some("written") => Visibility::Written,
            Some(text) => {
                self.mistake("flush", format!("`{text}` is neither durable nor written"));
                Visibility::Durable
            }
        }
    }

    fn delay_levels(&mut self, text: Option<&str>) -> DelayLevels {
        let levels = text.map_or_else(|| Ok(DelayLevels::default()), str::parse);
        levels.unwrap_or_else(|error: LevelsError| {
            self.mistake("delay-levels", error.to_string());
            DelayLevels::default()
        })
    }

    fn device(&mut self, name: Option<&str>) -> DeviceChoice {
        let choice = name.map_or_else(|| Ok(DeviceChoice::default()), str::parse);
        choice.unwrap_or_else(|error: DeviceNameError| {
            self.mistake("device", error.to_string());
            DeviceChoice::default()
        })
    }

    fn nameservers(&mut self, list: &str) -> Vec<String> {
        let parts = list.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
        let addresses: Vec<_> = parts.map(str::to_owned).collect();
        for address in &addresses {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                self.mistake("namesrv", format!("`{address}` is not of the form host:port"));
            }
        }
        if addresses.is_empty() {
            self.mistake("namesrv", "names no nameserver");
        }
        addresses
    }

    fn advertised(&mut self, host: Option<&str>, listen: IpAddr) -> (String, Ipv4Addr) {
        let nowhere = Ipv4Addr::LOCALHOST;
        let Some(host) = host else {
            return match listen {
                IpAddr::V4(ip) if !ip.is_unspecified() => (ip.to_string(), ip),
                _ => {
                    self.mistake(
                        "advertise",
                        "say which host name or IPv4 address clients reach this broker by",
                    );
                    (nowhere.to_string(), nowhere)
                }
            };
        };
        let resolved = (host, 0).to_socket_addrs().map(|addresses| {
            addresses.filter_map(|a| if let SocketAddr::V4(v4) = a { Some(*v4.ip()) } else { None }).next()
        });
        match resolved {
            Ok(Some(ip)) if !ip.is_unspecified() => (host.to_owned(), ip),
            Ok(Some(_)) => {
                self.mistake("advertise", format!("`{host}` is no address that a client could connect to"));
                (host.to_owned(), nowhere)
            }
            Ok(None) => {
                let what = "has no IPv4 address, and message ids carry one that every client reads";
                self.mistake("advertise", format!("`{host}` {what}"));
                (host.to_owned(), nowhere)
            }
            Err(error) => {
                self.mistake("advertise", format!("`{host}` cannot be resolved: {error}"));
                (host.to_owned(), nowhere)
            }
        }
    }

    fn within<N: PartialOrd + fmt::Display + Copy>(
        &mut self,
        key: &str,
        value: Option<N>,
        default: N,
        range: std::ops::RangeInclusive<N>,
    ) -> N {
        let value = value.unwrap_or(default);
        if !range.contains(&value) {
            self.mistake(key, format!("{value} is not between {} and {}", range.start(), range.end()));
        }
        value
    }
}

#[cfg(test)]
mod tests;
