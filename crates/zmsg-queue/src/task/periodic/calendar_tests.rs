//! Cron expressions: what they mean, in which zone, and what is refused.

use chrono::{DateTime, Utc};
use zmsg_core::{Error, ErrorKind};

use crate::task::periodic::Schedule;

fn at(moment: &str) -> u64 {
    let moment: DateTime<Utc> = moment.parse().expect(moment);
    moment.timestamp_millis().cast_unsigned()
}

fn shown(moment: u64) -> String {
    let moment = DateTime::from_timestamp_millis(moment.cast_signed()).expect("a moment");
    format!("{moment:?}")
}

/// The moments of an expression after one, so many.
fn after(expression: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::cron(expression).expect(expression);
    let mut moment = at(from);
    let mut next = || {
        moment = schedule.next_after(moment).expect("there is always one more");
        shown(moment)
    };
    (0..count).map(|_| next()).collect()
}

fn refused(expression: &str) -> Error {
    let error = Schedule::cron(expression).expect_err(expression);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{expression}: {error}");
    error
}

#[test]
fn an_expression_means_what_asynq_takes_it_for() {
    // A Monday.
    let from = "2026-11-30T03:07:30Z";
    for (expression, expected) in [
        ("* * * * *", ["2026-11-30T03:08:00Z", "2026-11-30T03:09:00Z"]),
        ("*/5 * * * *", ["2026-11-30T03:10:00Z", "2026-11-30T03:15:00Z"]),
        ("7 3 * * *", ["2026-12-01T03:07:00Z", "2026-12-02T03:07:00Z"]),
        ("50/5 * * * *", ["2026-11-30T03:50:00Z", "2026-11-30T03:55:00Z"]),
        ("10-20/10,40 * * * *", ["2026-11-30T03:10:00Z", "2026-11-30T03:20:00Z"]),
        ("0 9 * * mon-fri", ["2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z"]),
        ("0 9 * * SUN", ["2026-12-06T09:00:00Z", "2026-12-13T09:00:00Z"]),
        ("0 9 * * 7", ["2026-12-06T09:00:00Z", "2026-12-13T09:00:00Z"]),
        ("0 0 1 jan,JUL ?", ["2027-01-01T00:00:00Z", "2027-07-01T00:00:00Z"]),
        // Both kinds of days: either suffices.
        ("0 0 3 * wed", ["2026-12-02T00:00:00Z", "2026-12-03T00:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("15,45 * * * * *", ["2026-11-30T03:07:45Z", "2026-11-30T03:08:15Z"]),
        ("@hourly", ["2026-11-30T04:00:00Z", "2026-11-30T05:00:00Z"]),
        ("@daily", ["2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"]),
        ("@midnight", ["2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"]),
        ("@weekly", ["2026-12-06T00:00:00Z", "2026-12-13T00:00:00Z"]),
        ("@monthly", ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("@annually", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("@every 1h30m", ["2026-11-30T04:30:00Z", "2026-11-30T06:00:00Z"]),
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", ["2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"]),
        ("TZ=America/New_York @daily", ["2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z"]),
    ] {
        assert_eq!(after(expression, from, 2), expected, "{expression}");
    }
}

#[test]
fn a_nightly_task_runs_once_where_the_clock_leaps_over_its_time() {
    // On 29 March 2026, 2:00 in Berlin, it is 3:00.
    let nights = after("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T00:00:00Z", 3);
    assert_eq!(nights, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // What was due before the gap is due then and no second time behind it.
    let nights = after("CRON_TZ=Europe/Berlin 59 1 * * *", "2026-03-29T00:00:00Z", 2);
    assert_eq!(nights, ["2026-03-29T00:59:00Z", "2026-03-29T23:59:00Z"]);
    let repeated = after("CRON_TZ=Europe/Berlin */30 2 * * *", "2026-03-28T12:00:00Z", 2);
    assert_eq!(
        repeated,
        ["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"],
        "none of it is made up for"
    );
    let often = after("CRON_TZ=Europe/Berlin */30 * * * *", "2026-03-29T00:00:00Z", 3);
    assert_eq!(often, ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
}

#[test]
fn a_nightly_task_runs_once_where_its_time_comes_twice() {
    // On 25 October 2026, 3:00 in Berlin, it is 2:00 again.
    let nights = after("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T00:30:00Z", 2);
    assert_eq!(nights, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let between = after("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-25T01:00:00Z", 1);
    assert_eq!(between, ["2026-10-26T01:30:00Z"], "also for one that looks in between");
    let often = after("CRON_TZ=Europe/Berlin */30 * * * *", "2026-10-25T00:00:00Z", 4);
    let every_half_hour = ["00:30", "01:00", "01:30", "02:00"];
    assert_eq!(often, every_half_hour.map(|time| format!("2026-10-25T{time}:00Z")));
}

#[test]
fn moments_only_grow_and_the_last_of_a_span_is_one_of_them() {
    let zones =
        ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"];
    let expressions = [
        "30 2 * * *",
        "0 0 * * *",
        "*/20 1-3 * * *",
        "15 1,2,3 * * 0",
        "0 */6 1,15 * *",
        "0 0 31 * *",
    ];
    let (begin, end) = (at("2025-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    for zone in zones {
        for expression in expressions {
            let schedule = Schedule::cron(expression).expect(expression).in_zone(zone).expect(zone);
            let next = |moment: &u64| schedule.next_after(*moment).filter(|next| *next <= end);
            let all: Vec<u64> = std::iter::successors(next(&begin), next).collect();
            assert!(all.len() >= 14, "{zone} {expression}: {}", all.len());
            assert!(all.is_sorted_by(|one, next| one < next), "{zone} {expression}");
            for (at, until) in all.iter().enumerate().step_by(7) {
                let from = all[at.saturating_sub(50)];
                let last = |until| schedule.last_within(from, until);
                let before = at.checked_sub(1).map(|at| all[at]).filter(|before| *before > from);
                assert_eq!(last(*until), Some(*until).filter(|until| *until > from));
                assert_eq!(last(until - 1), before, "{zone} {expression}");
                // A look between two whole seconds finds the same.
                assert_eq!(schedule.next_after(until - 1), Some(*until));
                assert_eq!(schedule.next_after(until - 999), Some(*until));
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_the_name_of_its_field() {
    for (expression, field) in [
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of the month"),
        ("* * * 13 *", "month"),
        ("* * * foo *", "month"),
        ("* * * * 8", "day of the week"),
        ("* * * * fri-mon", "day of the week"),
        ("*/0 * * * *", "minute"),
        ("61 * * * * *", "second"),
        ("* a\u{7} * * *", "hour"),
    ] {
        let said = refused(expression).to_string();
        assert!(said.contains(&format!("field: {field}")), "{expression}: {said}");
    }
    for expression in ["", "* * * *", "* * * * * * *", "@often", "@reboot", "hello"] {
        let said = refused(expression).to_string();
        assert!(said.contains("five fields"), "{expression}: {said}");
    }
    let said = refused("CRON_TZ=Mars/Olympus 0 0 * * *").to_string();
    assert!(said.contains("Mars/Olympus") && said.contains("Europe/Berlin"), "{said}");
    assert!(refused("0 0 30 2 *").to_string().contains("no day ever"));
}
