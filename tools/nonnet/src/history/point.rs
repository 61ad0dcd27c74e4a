//! Which commit people mean: by its number, its hash, its transaction id, or a time.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use nonnet_schema::parse_uuid;

/// How commits are given, for the help of the commands.
pub(crate) const POINT_HELP: &str = "\
A commit is given by
  17, head, head~3              its number, the newest, the third before it
  3f9a0c61, 3f9a0c61-...        the beginning of its hash (6 digits or more), or its transaction id
  2h, \"2h ago\"                  so long ago: s, m or min, h, d, w; the newest commit then
  14:30, \"yesterday 14:30\", today, 2026-11-21, \"2026-11-21 14:30:00\"     local time; a day begins at 00:00
  2026-11-21T14:30:00Z, 2026-11-21T14:30:00+01:00                         RFC 3339";

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Its number.
    Number(u64),
    /// So many before the newest.
    Head { back: u64 },
    /// The beginning of its hash, in lower case.
    Hash(String),
    /// The newest at that time, in microseconds since 1970.
    Time(u64),
}

/// Hexadecimal digits of a hash that are given at least: fewer are rather mistakes.
const HASH_DIGITS_MIN: usize = 6;
const HASH_DIGITS_MAX: usize = 64;

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, &Zoned::now())
    }
}

impl Point {
    fn parse(text: &str, now: &Zoned) -> Result<Self, String> {
        let text = text.trim();
        if let Some(found) = number(text).or_else(|| head(text)) {
            return Ok(found);
        }
        if let Some(time) = moment(text, now) {
            let time_us = u64::try_from(time.as_microsecond());
            return time_us
                .map(Self::Time)
                .map_err(|_| "the time is before 1970".to_owned());
        }
        hash(text).ok_or_else(|| {
            "neither a commit nor a time: give a number, head~3, 6 digits or more of a hash, 2h, yesterday 10:00, 2026-11-21 \
             or 2026-11-21T10:00:00Z"
                .to_owned()
        })
    }
}

fn number(text: &str) -> Option<Point> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten()?;
    Some(Point::Number(number))
}

fn head(text: &str) -> Option<Point> {
    let rest = text.strip_prefix("head").or_else(|| text.strip_prefix("HEAD"))?;
    let back = match rest.strip_prefix('~') {
        None if rest.is_empty() => 0,
        Some("") => 1,
        Some(back) => back.parse().ok()?,
        None => return None,
    };
    Some(Point::Head { back })
}

fn hash(text: &str) -> Option<Point> {
    // A transaction id is written as a UUID; elsewhere a dash is none of a hash.
    let digits = parse_uuid(text).map_or_else(|| text.to_owned(), |id| id.simple().to_string());
    let is_hash = (HASH_DIGITS_MIN..=HASH_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| Point::Hash(digits.to_ascii_lowercase()))
}

fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    if text == "now" {
        return Some(now.timestamp());
    }
    ago(text, now)
        .or_else(|| text.parse().ok())
        .or_else(|| civil(text, now))
}

/// `2h`, `90 min ago`.
fn ago(text: &str, now: &Zoned) -> Option<Timestamp> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(unit_at);
    let seconds = match unit.trim_start() {
        "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        _ => return None,
    };
    let seconds = count.parse::<i64>().ok()?.checked_mul(seconds)?;
    now.timestamp().checked_sub(SignedDuration::from_secs(seconds)).ok()
}

/// A time of this place: a day, a time of today, or both.
fn civil(text: &str, now: &Zoned) -> Option<Timestamp> {
    let (first, rest) = text
        .split_once([' ', 'T'])
        .map_or((text, None), |(first, rest)| (first, Some(rest.trim())));
    let today = now.date();
    let day: Option<Date> = match first {
        "today" => Some(today),
        "yesterday" => today.checked_sub(1.day()).ok(),
        other => other.parse().ok(),
    };
    let local: DateTime = match (day, rest) {
        (Some(day), Some(time)) => day.to_datetime(time.parse::<Time>().ok()?),
        (Some(day), None) => day.to_datetime(Time::midnight()),
        (None, None) => today.to_datetime(first.parse::<Time>().ok()?),
        (None, Some(_)) => return None,
    };
    Some(local.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::*;

    fn now() -> Zoned {
        let time: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        time.to_zoned(TimeZone::fixed(offset(1)))
    }

    fn check_time(text: &str, expected: &str) {
        let expected: Timestamp = expected.parse().unwrap();
        let expected = Point::Time(expected.as_microsecond().cast_unsigned());
        assert_eq!(Point::parse(text, &now()), Ok(expected), "{text}");
    }

    fn check(text: &str, expected: Point) {
        assert_eq!(Point::parse(text, &now()), Ok(expected), "{text}");
    }

    #[test]
    fn commits_have_numbers_and_hashes() {
        check("17", Point::Number(17));
        check("head", Point::Head { back: 0 });
        check("head~", Point::Head { back: 1 });
        check("HEAD~12", Point::Head { back: 12 });
        check("3F9a0c", Point::Hash("3f9a0c".to_owned()));
        let id = "550e8400-e29b-41d4-a716-446655440000";
        check(id, Point::Hash(id.replace('-', "")));
    }

    #[test]
    fn times_are_written_in_many_ways() {
        check_time("now", "2026-11-21T12:00:00Z");
        check_time("2h", "2026-11-21T10:00:00Z");
        check_time("90 min ago", "2026-11-21T10:30:00Z");
        check_time("30s", "2026-11-21T11:59:30Z");
        check_time("3d", "2026-11-18T12:00:00Z");
        check_time("1w ago", "2026-11-14T12:00:00Z");
        check_time("10:00", "2026-11-21T09:00:00Z");
        check_time("10:00:30", "2026-11-21T09:00:30Z");
        check_time("today", "2026-11-20T23:00:00Z");
        check_time("yesterday", "2026-11-19T23:00:00Z");
        check_time("yesterday 10:00", "2026-11-20T09:00:00Z");
        check_time("2026-11-20", "2026-11-19T23:00:00Z");
        check_time("2026-11-20 10:00", "2026-11-20T09:00:00Z");
        check_time("2026-11-20T10:00:01.5", "2026-11-20T09:00:01.5Z");
        check_time("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z");
        check_time("2026-11-20T10:00:00.123+05:30", "2026-11-20T04:30:00.123Z");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "abc",
            "head~x",
            "tomorrow",
            "25:00",
            "2026-13-01",
            "2h later",
            "-5",
            "5 parsecs",
            "1960-01-01",
        ] {
            assert!(Point::parse(text, &now()).is_err(), "{text}");
        }
    }
}
