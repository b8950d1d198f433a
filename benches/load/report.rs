//! What a run measured, as a person reads it.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;

use super::measure::{Measured, OfKind};
use super::workload::{Drive, Workload};

/// Where the generator itself takes a visible part of the latencies.
const LATE: Duration = Duration::from_millis(5);
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A table of the kinds of calls, what failed, and how late the generator was.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What was to be done.
    pub workload: &'a Workload,
    /// What was measured.
    pub measured: &'a Measured,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.calls())?;
        for failures in self.measured.failures() {
            writeln!(f, "errors: {failures}")?;
        }
        let seconds = self.measured.elapsed().as_secs_f64();
        let made: u64 = self.measured.kinds.values().map(|it| it.latency.len()).sum();
        let rate = made as f64 / seconds;
        match self.workload.drive {
            Drive::Closed { tasks } => {
                write!(
                    f,
                    "closed loop: {tasks} tasks made {made} calls in {seconds:.2} s: {rate:.0}/s"
                )
            }
            Drive::Open { rate: wanted, .. } => {
                writeln!(
                    f,
                    "open loop: {made} calls in {seconds:.2} s: {rate:.0}/s of {wanted:.0}/s; latencies count from \
                     when each call was to begin"
                )?;
                self.behind(f)
            }
        }
    }
}

impl Report<'_> {
    fn calls(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        let heads =
            ["call", "calls", "errors", "per second", "MB/s", "p50", "p90", "p99", "p99.9", "max"];
        table.set_header(heads);
        let seconds = self.measured.elapsed().as_secs_f64();
        for (kind, of_kind) in &self.measured.kinds {
            table.add_row(row(kind.name(), of_kind, seconds));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// An overloaded generator must not look like a slow engine.
    fn behind(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = &self.measured.behind;
        let [p50, _, p99, _] = quantiles(behind);
        write!(f, "behind schedule: p50 {p50}, p99 {p99}, max {}", nanos(behind.max()))?;
        if u128::from(behind.value_at_quantile(0.99)) > LATE.as_nanos() {
            write!(
                f,
                "\nwarning: calls began late, because too many were under way or the machine was too busy: the rate is \
                 more than it bears"
            )?;
        }
        Ok(())
    }
}

fn row(name: &str, of_kind: &OfKind, seconds: f64) -> Vec<String> {
    let OfKind { latency, bytes, errors } = of_kind;
    let failed: u64 = errors.values().sum();
    let begin = [
        name.to_owned(),
        latency.len().to_string(),
        failed.to_string(),
        format!("{:.0}", latency.len() as f64 / seconds),
        format!("{:.2}", *bytes as f64 / 1e6 / seconds),
    ];
    let end = [nanos(latency.max())];
    begin.into_iter().chain(quantiles(latency)).chain(end).collect()
}

fn quantiles(histogram: &Histogram<u64>) -> [String; 4] {
    QUANTILES.map(|quantile| nanos(histogram.value_at_quantile(quantile)))
}

/// In the unit that a person would take.
fn nanos(nanos: u64) -> String {
    let value = nanos as f64;
    match nanos {
        0 => "–".to_owned(),
        1..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::measure::{Ended, Failure};
    use super::super::mix::Kind;
    use super::*;

    fn shown(behind: Duration) -> String {
        let text = "backend = 'embedded'\nduration_s = 1\n[open]\nrate = 2\n[keys]\nrows = 1\n[mix]\nget = 1";
        let workload = Workload::parse(text).unwrap();
        let due = Instant::now();
        let mut measured = Measured::from(due);
        for outcome in [Ok(500_000), Err(Failure::of("Timeout"))] {
            let (began, ended) = (due + behind, due + Duration::from_secs(1));
            measured.note(Ended { kind: Kind::Get, due, began, ended, outcome });
        }
        Report { workload: &workload, measured: &measured }.to_string()
    }

    #[test]
    fn calls_errors_and_rates_are_told() {
        let shown = shown(Duration::ZERO);
        assert!(shown.contains("errors: 1 of get: Timeout"), "{shown}");
        assert!(shown.contains("1 calls in 1.00 s: 1/s of 2/s"), "{shown}");
        assert!(shown.contains("1.00 s") && shown.contains("0.50"), "{shown}");
        assert!(!shown.contains("warning"), "{shown}");
    }

    #[test]
    fn a_generator_that_is_late_is_told_of() {
        let shown = shown(Duration::from_millis(40));
        assert!(
            shown.contains("behind schedule: p50 40.0") && shown.contains("warning"),
            "{shown}"
        );
    }

    #[test]
    fn times_have_the_unit_that_a_person_would_take() {
        let shown = [0, 999, 1_500, 2_500_000, 3_000_000_000].map(nanos);
        assert_eq!(shown, ["–", "999 ns", "1.5 µs", "2.50 ms", "3.00 s"]);
    }
}
