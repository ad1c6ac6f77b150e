//! What is wrong with settings: every mistake, not just the first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;

use skylark_storage::Visibility;
use skylark_storage::device::{DeviceChoice, DeviceNameError};

use crate::delay::{DelayLevels, LevelsError};
use crate::folds::duplicates::WindowLimits;
use crate::light;
use crate::names;
use crate::transactions::TransactionPolicy;

use super::Settings;

/// No producer is left alone for longer.
const DAY_MS: u64 = 86_400_000;

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

/// Reads settings one by one, and keeps what is wrong with them.
#[derive(Default)]
pub(super) struct Check(Vec<Mistake>);

impl Check {
    /// What was read, if nothing is wrong.
    pub(super) fn finish<T>(self, read: T) -> Result<T, Mistakes> {
        if self.0.is_empty() { Ok(read) } else { Err(Mistakes(self.0)) }
    }

    /// Takes down what is wrong with a setting.
    pub(super) fn mistake(&mut self, key: &str, what: impl Into<String>) {
        self.0.push(Mistake { key: key.to_owned(), what: what.into() });
    }

    /// Where to listen.
    pub(super) fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        if text.ends_with(":0") {
            self.mistake(key, "needs a port that clients can be told: 0 is any");
        }
        text.parse().unwrap_or_else(|_| {
            self.mistake(key, format!("`{text}` is not an IP address and port, such as 127.0.0.1:10911"));
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
        })
    }

    /// The name of a cluster or a broker.
    pub(super) fn name(&mut self, key: &str, name: Option<String>, default: &str) -> String {
        let name = name.unwrap_or_else(|| default.to_owned());
        if let Err(error) = names::check_topic(&name) {
            // A topic of this name is created at the first start, so the same rules hold.
            self.mistake(key, format!("`{name}`: {error}"));
        }
        name
    }

    /// What an acknowledgement waits for.
    pub(super) fn flush(&mut self, text: Option<&str>) -> Visibility {
        match text {
            None | Some("durable") => Visibility::Durable,
            Some("written") => Visibility::Written,
            Some(text) => {
                self.mistake("flush", format!("`{text}` is neither durable nor written"));
                Visibility::Durable
            }
        }
    }

    /// How long messages of each level wait.
    pub(super) fn delay_levels(&mut self, text: Option<&str>) -> DelayLevels {
        let levels = text.map_or_else(|| Ok(DelayLevels::default()), str::parse);
        levels.unwrap_or_else(|error: LevelsError| {
            self.mistake("delay-levels", error.to_string());
            DelayLevels::default()
        })
    }

    /// How transactions are treated.
    pub(super) fn transactions(&mut self, settings: &Settings) -> TransactionPolicy {
        let default = TransactionPolicy::default();
        let (timeout_ms, interval_ms) =
            (settings.transaction_timeout_ms, settings.transaction_check_interval_ms);
        TransactionPolicy {
            allowed: settings.transactions.unwrap_or(default.allowed),
            timeout_ms: self.within("transaction-timeout-ms", timeout_ms, default.timeout_ms, 0..=DAY_MS),
            check_interval_ms: self.within(
                "transaction-check-interval-ms",
                interval_ms,
                default.check_interval_ms,
                100..=DAY_MS,
            ),
            checks_max: self.within(
                "transaction-checks-max",
                settings.transaction_checks_max,
                default.checks_max,
                1..=1_000_000,
            ),
            open_max: self.within(
                "transactions-open-max",
                settings.transactions_open_max,
                default.open_max,
                1..=100_000_000,
            ),
        }
    }

    /// Which messages are known when they are sent again.
    pub(super) fn duplicate_window(&mut self, settings: &Settings) -> WindowLimits {
        let default = WindowLimits::default();
        let (messages, seconds) = (settings.duplicate_window_messages, settings.duplicate_window_seconds);
        let age_max_s =
            self.within("duplicate-window-seconds", seconds, default.age_max_ms / 1000, 1..=86_400);
        WindowLimits {
            messages_max: self.within(
                "duplicate-window-messages",
                messages,
                default.messages_max,
                0..=10_000_000,
            ),
            age_max_ms: age_max_s * 1000,
        }
    }

    /// How many light queues there may be; none unless they are asked for.
    pub(super) fn light_queues_max(&mut self, settings: &Settings) -> u32 {
        let max = settings.light_queues_max;
        let max = self.within("light-queues-max", max, light::QUEUES_MAX, 1..=1_000_000);
        if settings.light_queues == Some(true) { max } else { 0 }
    }

    /// How the log reaches the disk.
    pub(super) fn device(&mut self, name: Option<&str>) -> DeviceChoice {
        let choice = name.map_or_else(|| Ok(DeviceChoice::default()), str::parse);
        choice.unwrap_or_else(|error: DeviceNameError| {
            self.mistake("device", error.to_string());
            DeviceChoice::default()
        })
    }

    /// Whom to register with, as `host:port`.
    pub(super) fn nameservers(&mut self, list: &str) -> Vec<String> {
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

    /// The host that clients are told, and its IPv4 address.
    pub(super) fn advertised(&mut self, host: Option<&str>, listen: IpAddr) -> (String, Ipv4Addr) {
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

    /// A number in its range.
    pub(super) fn within<N: PartialOrd + fmt::Display + Copy>(
        &mut self,
        key: &str,
        value: Option<N>,
        default: N,
        range: RangeInclusive<N>,
    ) -> N {
        let value = value.unwrap_or(default);
        if !range.contains(&value) {
            self.mistake(key, format!("{value} is not between {} and {}", range.start(), range.end()));
        }
        value
    }
}
