//! Names of messages: by where they are, and by what their client calls them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};

use super::record::canonical;

/// An offset message id: upper-case hex of the store host (IP, port as `i32`) and the physical offset; 32 or 56
/// characters.
///
/// Clients take it apart to find a message's broker and offset again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetMessageId {
    /// The broker that stored the message, as clients reach it.
    pub store_host: SocketAddr,
    /// Where in its commit log.
    pub physical_offset: u64,
}

impl OffsetMessageId {
    /// The id's text, made without allocating.
    pub fn text(&self) -> IdText {
        let host = canonical(self.store_host);
        let mut text = IdText::new();
        match host.ip() {
            IpAddr::V4(ip) => text.put(&ip.octets()),
            IpAddr::V6(ip) => text.put(&ip.octets()),
        }
        text.put(&u32::from(host.port()).to_be_bytes());
        text.put(&self.physical_offset.to_be_bytes());
        text
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A text is no offset message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offset message id has 32 or 56 hexadecimal digits: IP, port and physical offset")]
pub struct NotAMessageId;

impl FromStr for OffsetMessageId {
    type Err = NotAMessageId;

    fn from_str(text: &str) -> Result<Self, NotAMessageId> {
        let (ip, rest) = match text.len() {
            32 => {
                let (ip, rest) = text.split_at_checked(8).ok_or(NotAMessageId)?;
                (IpAddr::V4(Ipv4Addr::from_bits(number(ip)?.try_into().map_err(|_| NotAMessageId)?)), rest)
            }
            56 => {
                let (ip, rest) = text.split_at_checked(32).ok_or(NotAMessageId)?;
                (IpAddr::V6(Ipv6Addr::from_bits(number(ip)?)), rest)
            }
            _ => return Err(NotAMessageId),
        };
        let (port, physical_offset) = rest.split_at_checked(8).ok_or(NotAMessageId)?;
        let port = number(port)?.try_into().map_err(|_| NotAMessageId)?;
        let physical_offset = number(physical_offset)?.try_into().map_err(|_| NotAMessageId)?;
        // One broker has one name: an IPv4 address may come as the IPv6 address that stands for it.
        Ok(Self { store_host: canonical(SocketAddr::new(ip, port)), physical_offset })
    }
}

fn number(digits: &str) -> Result<u128, NotAMessageId> {
    // from_str_radix takes a sign, which an id does not have.
    if digits.starts_with('+') {
        return Err(NotAMessageId);
    }
    u128::from_str_radix(digits, 16).map_err(|_| NotAMessageId)
}

/// Makes unique keys as Java's client does: hex of IP, process, a number of this instance, milliseconds since
/// the month began, and a counter.
///
/// Tools derive from a key when its message was sent, so the time in it has to be right.
#[derive(Debug)]
pub struct UniqueKeys {
    prefix: IdText,
    counter: AtomicU16,
}

impl UniqueKeys {
    /// Keys of the process with this id on the host with this address. `instance` tells apart makers of keys
    /// within it, or after a restart with the same process id.
    pub fn new(address: IpAddr, process: u32, instance: u32) -> Self {
        let mut prefix = IdText::new();
        match address.to_canonical() {
            IpAddr::V4(ip) => prefix.put(&ip.octets()),
            IpAddr::V6(ip) => prefix.put(&ip.octets()),
        }
        let [_, _, process @ ..] = process.to_be_bytes();
        prefix.put(&process);
        prefix.put(&instance.to_be_bytes());
        Self { prefix, counter: AtomicU16::new(0) }
    }

    /// The next key. `now_ms` is the time since 1970.
    pub fn next(&self, now_ms: u64) -> IdText {
        let mut key = self.prefix;
        let since = u32::try_from(now_ms - month_start_ms(now_ms)).expect("a month has 2^31.2 ms at most");
        key.put(&since.to_be_bytes());
        // Relaxed: the counter orders nothing, it only has to differ.
        key.put(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        key
    }
}

/// When the month (UTC) of `now_ms` began, by the civil calendar.
fn month_start_ms(now_ms: u64) -> u64 {
    const DAY_MS: u64 = 86_400_000;
    // Days since 1 March of the year 0, in 400-year cycles; years begin in March so that leap days end them.
    let days = now_ms / DAY_MS + 719_468;
    let day_of_cycle = days % 146_097;
    let year = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    (now_ms / DAY_MS).saturating_sub(day_of_month) * DAY_MS
}

/// The text of an id: upper-case hex, 32 characters, or 56 with an IPv6 address.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    digits: [u8; 56],
    end: usize,
}

impl IdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.end]).expect("hex digits are ASCII")
    }

    fn new() -> Self {
        Self { digits: [0; 56], end: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for byte in bytes {
            self.digits[self.end] = DIGITS[usize::from(byte >> 4)];
            self.digits[self.end + 1] = DIGITS[usize::from(byte & 0xF)];
            self.end += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_the_same_broker() {
        let mapped = "00000000000000000000FFFFFFFFFF040000000000FF000000000000";
        let id: OffsetMessageId = mapped.parse().unwrap();
        assert_eq!(id.store_host, "255.255.255.4:0".parse().unwrap());
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_are_rocketmq_s() {
        for (host, text) in [
            ("127.0.0.1:10911", "7F00000100002A9F0000000000001000"),
            ("[::ffff:127.0.0.1]:10911", "7F00000100002A9F0000000000001000"),
            ("[2001:db8::1]:10911", "20010DB800000000000000000000000100002A9F0000000000001000"),
        ] {
            let id = OffsetMessageId { store_host: host.parse().unwrap(), physical_offset: 4096 };
            assert_eq!(id.to_string(), text);
            let read: OffsetMessageId = text.parse().unwrap();
            assert_eq!(read.store_host, canonical(id.store_host));
            assert_eq!(read.physical_offset, 4096);
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "0",
            "7F00000100012A9F0000000000001000",
            "7F00000100002A9F000000000000100G",
            "+F00000100002A9F0000000000001000",
            "ééééééééééééééé1",
        ] {
            assert_eq!(text.parse::<OffsetMessageId>(), Err(NotAMessageId), "{text}");
        }
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        const DAY: u64 = 86_400_000;
        for (now, start) in [
            (0, 0),
            (30 * DAY, 0),
            (31 * DAY, 31 * DAY),
            // 2024-02-29 12:00 and 2024-03-01 00:00.
            (1_709_208_000_000, 1_706_745_600_000),
            (1_709_251_200_000, 1_709_251_200_000),
            // 2025-12-31 23:59:59.999.
            (1_767_225_599_999, 1_764_547_200_000),
        ] {
            assert_eq!(month_start_ms(now), start, "{now}");
        }
    }

    #[test]
    fn unique_keys_differ_and_tell_the_time() {
        let keys = UniqueKeys::new(Ipv4Addr::new(172, 17, 0, 1).into(), 0x1_04D2, 0x18B4_AAC2);
        // Two minutes into March 2024.
        let now = 1_709_251_200_000 + 120_000;
        assert_eq!(keys.next(now).as_str(), "AC11000104D218B4AAC20001D4C00000");
        assert_eq!(keys.next(now).as_str(), "AC11000104D218B4AAC20001D4C00001");
        let v6 = UniqueKeys::new(Ipv6Addr::LOCALHOST.into(), 1, 1);
        assert_eq!(v6.next(now).as_str().len(), 56);
    }

    proptest! {
        #[test]
        fn ids_read_back(v6: bool, ip: u128, port: u16, physical_offset: u64) {
            let ip = if v6 { Ipv6Addr::from_bits(ip).into() } else { Ipv4Addr::from_bits(port.into()).into() };
            let id = OffsetMessageId { store_host: canonical(SocketAddr::new(ip, port)), physical_offset };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _parsed = text.parse::<OffsetMessageId>();
        }

        #[test]
        fn no_time_panics(now in 0..u64::MAX / 2) {
            prop_assert!(month_start_ms(now) <= now);
        }
    }
}
