//! Moments as people read them: local time in RFC 3339, and how long ago that is.

use jiff::{Timestamp, Unit, Zoned, tz::TimeZone};

/// Seconds of a minute, an hour, a day.
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Microseconds since 1970 as local time, to the millisecond: `2026-11-21T03:50:00.123+01:00`.
pub(crate) fn local(time_us: u64) -> String {
    let Some(timestamp) = timestamp(time_us) else {
        return format!("{time_us} us after 1970");
    };
    let zoned: Zoned = timestamp.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// The moment it is.
pub(crate) fn now_us() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default()
}

/// How long before `now_us` a moment was: `3 s ago`.
pub(crate) fn ago(time_us: u64, now_us: u64) -> String {
    if time_us > now_us {
        return "in the future".to_owned();
    }
    let seconds = i64::try_from((now_us - time_us) / 1_000_000).unwrap_or(i64::MAX);
    let (count, unit) = match seconds {
        0..MINUTE => (seconds, "s"),
        MINUTE..HOUR => (seconds / MINUTE, "min"),
        HOUR..DAY => (seconds / HOUR, "h"),
        _ => (seconds / DAY, "days"),
    };
    format!(
        "{count} {} ago",
        if count == 1 && unit == "days" { "day" } else { unit }
    )
}

fn timestamp(time_us: u64) -> Option<Timestamp> {
    let timestamp = Timestamp::from_microsecond(i64::try_from(time_us).ok()?).ok()?;
    timestamp.round(Unit::Millisecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let second = 1_000_000;
        assert_eq!(ago(0, 59 * second), "59 s ago");
        assert_eq!(ago(0, 60 * second), "1 min ago");
        assert_eq!(ago(0, 7200 * second), "2 h ago");
        assert_eq!(ago(0, 86_400 * second), "1 day ago");
        assert_eq!(ago(0, 3 * 86_400 * second), "3 days ago");
        assert_eq!(ago(2, 1), "in the future");
    }

    #[test]
    fn times_have_their_offset() {
        assert_eq!(local(0).len(), "1970-01-01T00:00:00.000+00:00".len());
    }
}
