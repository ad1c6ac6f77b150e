//! What commands for operators share: a connection to one broker, and how times and texts are shown.

use std::sync::Arc;

use bytes::Bytes;
use skylark_client::{Client, ClientOptions, Request};
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::outgoing::Value;
use skylark_transport_tcp::{Limits, TcpTransport};

use super::{Failure, log_warnings_to_stderr};

/// A broker, to be asked.
pub(super) struct Operator<'a> {
    client: &'a Client,
    broker: &'a str,
}

/// Runs `work` with a connection to this broker.
pub(super) fn run(
    broker: &str,
    work: impl AsyncFnOnce(Operator<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    log_warnings_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let transport = TcpTransport::new(Limits::default(), runtime.handle().clone());
    runtime.block_on(async {
        let client = Client::new(Arc::new(transport), ClientOptions::new("127.0.0.1:9876"));
        let outcome = work(Operator { client: &client, broker }).await;
        client.close();
        outcome
    })
}

impl Operator<'_> {
    /// The body of the answer to a request that has to go well.
    pub(super) async fn ask(
        &self,
        code: RequestCode,
        fields: &[(&str, Value<'_>)],
    ) -> Result<Bytes, Failure> {
        Ok(self.client.ask(self.broker, Request::new(code, fields)).await?.success()?.body)
    }

    /// The same for something that may not be there.
    pub(super) async fn find(
        &self,
        code: RequestCode,
        fields: &[(&str, Value<'_>)],
    ) -> Result<Option<Bytes>, Failure> {
        let answer = self.client.ask(self.broker, Request::new(code, fields)).await?;
        if [ResponseCode::QUERY_NOT_FOUND, ResponseCode::SYSTEM_ERROR].contains(&answer.code()) {
            return Ok(None);
        }
        Ok(Some(answer.success()?.body))
    }
}

/// Milliseconds since 1970 as a person reads them, in UTC.
pub(super) fn utc(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years are counted from March on, in eras of 400 years that all have the same days; the first began in the year 0.
    let (era, day_of_era) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The first `chars_max` characters of a body, on one line.
pub(super) fn excerpt(body: &[u8], chars_max: usize) -> String {
    // A character has at most four bytes, so the rest cannot matter.
    let head = &body[..body.len().min(4 * (chars_max + 1))];
    let text = String::from_utf8_lossy(head);
    let mut shown: String = text.chars().take(chars_max).flat_map(char::escape_debug).collect();
    if text.chars().count() > chars_max {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc(ms), shown);
        }
    }

    #[test]
    fn a_body_is_shown_on_one_line() {
        assert_eq!(excerpt(b"a\nb\"", 10), "a\\nb\\\"");
        assert_eq!(excerpt("äöü".as_bytes(), 2), "äö…");
        assert_eq!(excerpt("äöü".as_bytes(), 3), "äöü");
        assert_eq!(excerpt(&[0xff, b'x'], 9), "\u{fffd}x");
    }
}
