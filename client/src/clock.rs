//! The time of day, which messages carry.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    since_1970().as_millis().try_into().unwrap_or(u64::MAX)
}

/// Since 1970; zero when the clock is set before.
pub(crate) fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
