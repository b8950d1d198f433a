//! Moments by the calendar, in a time zone.

use std::str::FromStr as _;

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use zmsg_core::{Error, Result, UnixMillis};

/// A cron expression that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    expression: String,
    cron: Cron,
    zone: Tz,
}

/// The fields of an expression, and what each may hold.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of the week", "0-7 or sun-sat"),
];

impl Calendar {
    /// Reads an expression, in UTC.
    pub(super) fn read(expression: &str) -> Result<Self> {
        let cron = match named(expression) {
            Some(meant) => parse(meant).map_err(|cause| refusal(expression, &cause))?,
            None => read_fields(expression)?,
        };
        let calendar = Self { expression: expression.to_owned(), cron, zone: Tz::UTC };
        if calendar.next_after(0).is_none() {
            let why = "no day ever meets this cron expression: look at its day of the month and its month";
            return Err(Error::invalid_input(why).with_context("expression", expression));
        }
        Ok(calendar)
    }

    pub(super) fn expression(&self) -> &str {
        &self.expression
    }

    pub(super) fn in_zone(self, zone: &str) -> Result<Self> {
        let zone = Tz::from_str(zone).map_err(|_| {
            let why =
                "this time zone is not known: name one of the IANA database, such as Europe/Berlin";
            Error::invalid_input(why).with_context("zone", zone.escape_debug())
        })?;
        Ok(Self { zone, ..self })
    }

    pub(super) fn next_after(&self, moment: UnixMillis) -> Option<UnixMillis> {
        // Moments are whole seconds: the first after this second is the first after this millisecond.
        let second = i64::try_from(moment / 1_000).ok()?;
        let from: DateTime<Tz> = self.zone.timestamp_opt(second, 0).single()?;
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        u64::try_from(next.timestamp_millis()).ok()
    }
}

/// What a name stands for.
fn named(expression: &str) -> Option<&'static str> {
    Some(match expression {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return None,
    })
}

fn parse(expression: &str) -> Result<Cron, CronError> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
    // `3/5`, as robfig's parser takes it.
    parser.sloppy_ranges(true).build().parse(expression)
}

fn read_fields(expression: &str) -> Result<Cron> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let names = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        _ => {
            let why = "a cron expression has five fields, minute, hour, day of the month, month, day of the week, \
                or six with the second before them; or is @hourly, @daily, @weekly, @monthly, @yearly or @every 1h30m";
            return Err(
                Error::invalid_input(why).with_context("expression", expression.escape_debug())
            );
        }
    };
    parse(expression).map_err(|cause| {
        // The parser does not say where it stopped: each field is read by itself.
        let is_bad = |at: usize| {
            let alone = (0..fields.len()).map(|other| if other == at { fields[at] } else { "*" });
            parse(&alone.collect::<Vec<_>>().join(" ")).is_err()
        };
        let error = refusal(expression, &cause);
        match (0..fields.len()).find(|at| is_bad(*at)) {
            Some(at) => error
                .with_context("field", names[at].0)
                .with_context("value", fields[at].escape_debug())
                .with_context("allowed", names[at].1),
            None => error,
        }
    })
}

fn refusal(expression: &str, cause: &CronError) -> Error {
    let why = "a field of a cron expression is *, a value, a range 1-5, a list 1,3 or a step */5";
    let error = Error::invalid_input(why).with_context("expression", expression.escape_debug());
    error.with_context("cause", cause)
}
