//! Results as text for a terminal.

use std::fmt::Write as _;

use super::figures::{Figure, Unit};
use super::pairs::{Pair, pairs, speed};
use super::results::Results;
use super::statistics::{Middle, Verdict};

/// zmsg beside its peers, one line a pair, one block a target; then what was left out.
pub(super) fn peers(results: &Results) -> String {
    let mut text = String::new();
    if results.quick {
        text.push_str("A quick run shows that everything works. Its figures mean nothing.\n\n");
    }
    let (mut target, pairs) = ("", pairs(&results.figures));
    for Pair { own, peer, ratio } in &pairs {
        if own.target != target {
            target = &own.target;
            let _ = writeln!(text, "{target}");
        }
        let _ = writeln!(
            text,
            "  {}: {} {}, {} {}: {}",
            own.title(),
            own.who,
            middle(own),
            peer.who,
            middle(peer),
            said(own.unit, *ratio),
        );
    }
    for left_out in &results.left_out {
        let _ = writeln!(text, "left out: {}: {}", left_out.left_out, left_out.why);
    }
    text
}

/// Ours beside what it was before.
pub(super) fn baseline(results: &Results, before: &Results) -> String {
    let mut text = format!("beside {} of {}\n", before.commit, before.day);
    if results.machine != before.machine {
        text.push_str(
            "  on another machine, or with other settings: ratios to peers count, these do not\n",
        );
    }
    for own in &results.figures {
        let is_same = |it: &&Figure| own.is_beside(it) && own.who == it.who;
        let Some(old) = before.figures.iter().find(is_same) else { continue };
        // Taken at another time: its rounds are not beside ours.
        let (now, old) = (apart(own), apart(old));
        let Some(ratio) = speed(&now, &old) else { continue };
        let title = format!("{}, {}", own.target, own.title());
        let _ = writeln!(text, "  {title}: {} {}: {}", own.who, middle(own), said(own.unit, ratio));
    }
    text
}

fn apart(figure: &Figure) -> Figure {
    Figure { in_turns: false, ..figure.clone() }
}

/// The facts, one a line.
pub(super) fn machine(results: &Results) -> String {
    let facts = results.machine.iter().map(|(name, value)| format!("{name}: {value}\n"));
    format!("{}commit {}, {}", facts.collect::<String>(), results.commit, results.day)
}

/// A median in its unit.
pub(super) fn middle(figure: &Figure) -> String {
    let Some(Middle { median, .. }) = Middle::of(&figure.samples) else { return "nothing".into() };
    match figure.unit {
        Unit::PerSecond => format!("{}/s", number(median)),
        Unit::Nanoseconds if median >= 10_000.0 => format!("{} µs", number(median / 1_000.0)),
        Unit::Nanoseconds => format!("{} ns", number(median)),
        Unit::Percent | Unit::Wrong => format!("{median:.2} %"),
        Unit::Allocations if median == 1.0 => "1 allocation".into(),
        Unit::Allocations => format!("{} allocations", count(median)),
        Unit::Bytes | Unit::Held => format!("{} bytes", count(median)),
        Unit::Instructions => format!("{} instructions", count(median)),
    }
}

/// Three digits that count, and thousands apart.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As [`number`], without digits behind the point where they would be zeros.
fn count(value: f64) -> String {
    let text = number(value);
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// What a ratio allows to say.
pub(super) fn said(unit: Unit, ratio: Middle) -> String {
    let Middle { median, low, high, .. } = ratio;
    let (what, less) = match unit {
        Unit::PerSecond | Unit::Nanoseconds => ("as fast", "slower"),
        Unit::Percent => ("as many", "fewer"),
        Unit::Allocations | Unit::Bytes | Unit::Held | Unit::Wrong | Unit::Instructions => {
            ("as few", "more")
        }
    };
    if median.is_infinite() && low.is_infinite() {
        return "none beside some".to_owned();
    }
    let figures = format!("{median:.2} × {what} ({low:.2} to {high:.2})");
    match Verdict::of(ratio) {
        Verdict::Better => figures,
        Verdict::Worse => format!("{figures}, {less}"),
        Verdict::Equal => "equal".to_owned(),
        Verdict::Same => format!("{figures}, inside the noise"),
        Verdict::TooFew => format!("{figures}, too few rounds to tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{LeftOut, figure};
    use super::*;

    fn results(own: &[f64]) -> Results {
        Results {
            day: "2026-11-30".into(),
            commit: "abc".into(),
            quick: false,
            machine: vec![("CPU".into(), "2 × fast".into())],
            figures: vec![
                figure("append", "zmsg", Unit::PerSecond, own),
                figure("append", "okaywal", Unit::PerSecond, &[1_000.0; 7]),
            ],
            left_out: vec![LeftOut {
                target: "x".into(),
                left_out: "Go".into(),
                why: "away".into(),
            }],
        }
    }

    #[test]
    fn a_pair_has_a_line_with_what_may_be_said() {
        let text = peers(&results(&[12_345.0; 7]));
        assert_eq!(
            text,
            "wal\n  append: zmsg 12,345/s, okaywal 1,000/s: 12.35 × as fast (12.35 to 12.35)\n\
             left out: Go: away\n"
        );
        let noisy = peers(&results(&[900.0, 1_000.0, 1_100.0, 990.0, 1_010.0, 950.0, 1_050.0]));
        assert!(noisy.contains("1.00 × as fast (0.90 to 1.10), inside the noise"), "{noisy}");
    }

    #[test]
    fn a_baseline_of_the_same_name_is_compared_and_another_machine_is_told() {
        let before = results(&[500.0; 7]);
        let text = baseline(&results(&[1_000.0; 7]), &before);
        assert!(text.contains("wal, append: zmsg 1,000/s: 2.00 × as fast"), "{text}");
        assert!(!text.contains("another machine"), "{text}");
        let elsewhere = Results { machine: vec![], ..before };
        assert!(baseline(&results(&[1.0; 7]), &elsewhere).contains("another machine"));
    }

    #[test]
    fn counts_are_whole_and_none_is_no_number_to_divide_by() {
        let of = |own, peer| {
            let figures = [("zmsg", own), ("moka", peer)]
                .map(|(who, count)| figure("get", who, Unit::Allocations, &[count; 7]));
            peers(&Results { figures: figures.into(), left_out: vec![], ..results(&[]) })
        };
        for (own, peer, line) in [
            (0.0, 0.0, "zmsg 0 allocations, moka 0 allocations: equal"),
            (0.0, 2.5, "zmsg 0 allocations, moka 2.5 allocations: none beside some"),
            (1.0, 0.0, "zmsg 1 allocation, moka 0 allocations: 0.00 × as few (0.00 to 0.00), more"),
            (1.0, 3.0, "zmsg 1 allocation, moka 3 allocations: 3.00 × as few (3.00 to 3.00)"),
        ] {
            assert_eq!(of(own, peer), format!("wal\n  get: {line}\n"));
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (value, shown) in
            [(3.44, "3.4"), (99.96, "100.0"), (123.4, "123"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(number(value), shown);
        }
    }
}
