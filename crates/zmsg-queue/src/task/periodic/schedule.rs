//! When something happens again.

use std::fmt;
use std::time::Duration;

use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

#[cfg(feature = "cron")]
use super::calendar::Calendar;

/// The moments at which something is to happen, the same on every node: nothing depends on when it was made.
///
/// ```
/// use std::time::Duration;
/// use zmsg_queue::Schedule;
///
/// let quarters = Schedule::every(Duration::from_secs(900))?;
/// assert_eq!(quarters.next_after(1_000_000), Some(1_800_000));
/// # #[cfg(feature = "cron")]
/// let nightly = Schedule::cron("30 3 * * *")?.in_zone("Europe/Berlin")?;
/// # Ok::<(), zmsg_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    /// As asynq's tools show it.
    text: String,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// Multiples of so many milliseconds since the epoch.
    Every(u64),
    #[cfg(feature = "cron")]
    Calendar(Box<Calendar>),
}

impl Schedule {
    /// The shortest pause between two moments.
    pub const PAUSE_MIN: Duration = Duration::from_secs(1);

    /// Every so often, counted from the beginning of 1970 in UTC: every day is at midnight, every week on Thursday.
    ///
    /// # Errors
    /// `InvalidInput` for less than a [second](Self::PAUSE_MIN), or for parts of a millisecond.
    pub fn every(pause: Duration) -> Result<Self> {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let is_whole = pause.subsec_nanos().is_multiple_of(1_000_000);
        if pause < Self::PAUSE_MIN || !is_whole || millis > crate::task::record::FAR.cast_unsigned()
        {
            let why = "a schedule repeats after a second or more, in whole milliseconds";
            let error = Error::invalid_input(why).with_context("every", format!("{pause:?}"));
            return Err(error);
        }
        Ok(Self { text: format!("@every {}", short(millis)), kind: Kind::Every(millis) })
    }

    /// At the moments that a cron expression names, in UTC unless it begins with `CRON_TZ=` and a
    /// [zone](Self::in_zone), as in `CRON_TZ=Europe/Berlin 30 3 * * *`.
    ///
    /// Five fields: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday); or six, with
    /// the second before them. Each is `*`, a value, a range `1-5`, a list `1,3`, a step `*/5`, `1-30/5`, `3/5`
    /// (from 3 on); months and days have names (`jan`, `mon`). If both kinds of days are restricted, either
    /// suffices. Or `@hourly`, `@daily` (`@midnight`), `@weekly` (on Sunday), `@monthly`, `@yearly` (`@annually`); or
    /// `@every 1h30m`, which is [`every`](Self::every). That is what asynq takes, and its users bring.
    ///
    /// All but `@every` is of the feature `cron`.
    ///
    /// # Errors
    /// `InvalidInput` that names the field, or for an expression that no day ever meets; `Unsupported` without
    /// the feature.
    pub fn cron(expression: &str) -> Result<Self> {
        let expression = expression.trim();
        if let Some(pause) = expression.strip_prefix("@every") {
            let pause = read_pause(pause.trim()).ok_or_else(|| {
                let why = "a pause is written as 1h30m, 10s or 1500ms: hours, minutes, seconds, milliseconds";
                Error::invalid_input(why).with_context("expression", expression.escape_debug())
            })?;
            return Self::every(pause);
        }
        let zone = ["CRON_TZ=", "TZ="].iter().find_map(|prefix| expression.strip_prefix(prefix));
        match zone.map(|rest| rest.split_once(char::is_whitespace).unwrap_or((rest, ""))) {
            Some((zone, expression)) => Self::calendar(expression.trim())?.in_zone(zone),
            None => Self::calendar(expression),
        }
    }

    #[cfg(feature = "cron")]
    fn calendar(expression: &str) -> Result<Self> {
        let calendar = Calendar::read(expression)?;
        Ok(Self { text: expression.to_owned(), kind: Kind::Calendar(Box::new(calendar)) })
    }

    #[cfg(not(feature = "cron"))]
    fn calendar(expression: &str) -> Result<Self> {
        let why = "cron expressions need the feature `cron` of zmsg-queue; without it there is `@every 10m`";
        let error = Error::new(ErrorKind::Unsupported, why);
        Err(error.with_context("expression", expression.escape_debug()))
    }

    /// The same in another time zone, by its name in the IANA database as it was when this program was built.
    ///
    /// Where second, minute and hour are single values, as in `30 2 * * *`, it happens once every day: at the end
    /// of the gap, if clocks go forward over it, and the first time, if they go back and it comes twice. All others,
    /// such as `*/10 * * * *`, happen whenever the clock on the wall shows it: not in a gap, and twice where it
    /// does so twice.
    ///
    /// # Errors
    /// `InvalidInput` for a zone that nobody knows, or if this is `@every`, which counts from the epoch.
    pub fn in_zone(self, zone: &str) -> Result<Self> {
        match self.kind {
            Kind::Every(_) => {
                let why = "a schedule that counts from the epoch is the same in every zone: leave the zone out";
                Err(Error::new(ErrorKind::InvalidInput, why)
                    .with_context("zone", zone.escape_debug()))
            }
            #[cfg(feature = "cron")]
            Kind::Calendar(calendar) => {
                let expression = calendar.expression().to_owned();
                let calendar = Box::new(calendar.in_zone(zone)?);
                let text = format!("CRON_TZ={zone} {expression}");
                Ok(Self { text, kind: Kind::Calendar(calendar) })
            }
        }
    }

    /// The first moment after this one. `None`: there is none that anybody lives to see.
    pub fn next_after(&self, moment: UnixMillis) -> Option<UnixMillis> {
        match &self.kind {
            Kind::Every(pause) => (moment / pause + 1).checked_mul(*pause),
            #[cfg(feature = "cron")]
            Kind::Calendar(calendar) => calendar.next_after(moment),
        }
    }

    /// The last moment after `from` up to `until`.
    pub(super) fn last_within(&self, from: UnixMillis, until: UnixMillis) -> Option<UnixMillis> {
        let comes_after = |moment| self.next_after(moment).filter(|next| *next <= until);
        let mut last = comes_after(from)?;
        // Of all moments after which there is another one, the latest: it is halved down.
        let mut none_after = until;
        while none_after - last > 1 {
            let middle = last + (none_after - last) / 2;
            match comes_after(middle) {
                Some(later) => last = later,
                None => none_after = middle,
            }
        }
        Some(comes_after(last).unwrap_or(last))
    }
}

/// A pause as Go writes it: whole numbers with units.
fn read_pause(text: &str) -> Option<Duration> {
    let (mut rest, mut pause) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|next: char| !next.is_ascii_digit())?);
        let end = behind.find(|next: char| next.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let millis: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        pause = pause.checked_add(part)?;
        rest = behind;
    }
    Some(pause)
}

/// A pause as short as it can be written.
fn short(millis: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut left = millis;
    let part = |(unit, name): (u64, &str)| {
        let count = left / unit;
        left %= unit;
        if count == 0 { String::new() } else { format!("{count}{name}") }
    };
    units.map(part).concat()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schedule").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(seconds: u64) -> Schedule {
        Schedule::every(Duration::from_secs(seconds)).expect("a schedule")
    }

    #[test]
    fn a_pause_is_counted_from_the_epoch() {
        let schedule = every(60);
        for (moment, next) in [(0, 60_000), (1, 60_000), (59_999, 60_000), (60_000, 120_000)] {
            assert_eq!(schedule.next_after(moment), Some(next));
        }
        assert_eq!(schedule.next_after(u64::MAX), None);
    }

    #[test]
    fn the_last_moment_is_found_in_any_span() {
        let schedule = every(7);
        for from in (0..50_000).step_by(499) {
            for until in (from..200_000).step_by(997) {
                let last = until / 7_000 * 7_000;
                let expected = (last > from).then_some(last);
                assert_eq!(schedule.last_within(from, until), expected, "{from} {until}");
            }
        }
    }

    #[test]
    fn a_pause_is_read_and_written() {
        for (text, written) in [
            ("@every 1h30m", "@every 1h30m"),
            ("@every 90s", "@every 1m30s"),
            (" @every  1500ms ", "@every 1s500ms"),
            ("@every 24h", "@every 24h"),
        ] {
            let schedule = Schedule::cron(text).expect(text);
            assert_eq!(schedule.to_string(), written);
            assert_eq!(Schedule::cron(written).expect(written), schedule);
        }
    }

    #[test]
    fn what_is_no_pause_is_refused() {
        for text in ["@every", "@every 5", "@every 1.5h", "@every 999ms", "@every h", "@every -5s"]
        {
            let error = Schedule::cron(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        for pause in [Duration::ZERO, Duration::from_micros(1_500_001), Duration::MAX] {
            Schedule::every(pause).expect_err("no schedule");
        }
        every(1).in_zone("Europe/Berlin").expect_err("there is no zone in it");
    }
}
