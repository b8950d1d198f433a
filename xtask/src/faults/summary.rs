//! What came of every scenario, as a table.

use std::fmt::Write as _;
use std::time::Duration;

/// A scenario that was played.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) took: Duration,
    pub(super) result: Result<Exact, String>,
}

/// What is worth knowing of a run that ended exact.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exact {
    /// What the fault did, as the servers and the proxies counted it.
    pub(super) struck: String,
    /// Calls that the application repeated.
    pub(super) repeated: u64,
    /// Writes that Redis was told of later.
    pub(super) degraded: u64,
}

impl Exact {
    /// Reads the counts from the line in which `feed` tells what its servers made difficult.
    pub(super) fn of(struck: String, output: &str) -> Self {
        let line = output.lines().rfind(|line| line.starts_with("servers: ")).unwrap_or_default();
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
        let repeated = numbers.next().unwrap_or(0);
        Self { struck, repeated, degraded: numbers.next().unwrap_or(0) }
    }
}

/// One line for each, and one for all.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("scenario".len());
    let mut text = format!(
        "{:width$}  messages     time  result   repeated  degraded  what struck\n",
        "scenario"
    );
    for Row { name, messages, took, result } in rows {
        let took = took.as_secs_f64();
        let _ = write!(text, "{name:width$}  {messages:>8}  {took:>5.1} s  ");
        let _ = match result {
            Ok(Exact { struck, repeated, degraded }) => {
                writeln!(text, "exact    {repeated:>8}  {degraded:>8}  {struck}")
            }
            Err(reason) => {
                let reason = reason.lines().next().unwrap_or_default();
                writeln!(text, "{:<27}  {reason}", "FAILED")
            }
        };
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    let failed = rows.iter().filter(|row| row.result.is_err()).count();
    let _ = write!(text, "{} scenarios, {failed} failed, {:.1} s", rows.len(), total.as_secs_f64());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_what_feed_prints() {
        let output = "4000 messages in 3 s\nservers: 12 calls repeated, 3 writes that the shared \
                      cache was told of later\nevery total\n";
        let exact = Exact::of("x".into(), output);
        assert_eq!((exact.repeated, exact.degraded), (12, 3));
        assert_eq!(Exact::of(String::new(), "4000 messages\n"), Exact::default());
    }

    #[test]
    fn every_scenario_has_a_line_and_the_failures_are_counted() {
        let exact = Exact { struck: "3 answers".into(), repeated: 7, degraded: 0 };
        let second = Duration::from_secs(1);
        let rows = [
            Row { name: "commit", messages: 10, took: second, result: Ok(exact) },
            Row { name: "killed", messages: 10, took: second, result: Err("lost\nmore".into()) },
        ];
        assert_eq!(
            table(&rows),
            "scenario  messages     time  result   repeated  degraded  what struck\n\
             commit          10    1.0 s  exact           7         0  3 answers\n\
             killed          10    1.0 s  FAILED                       lost\n\
             2 scenarios, 1 failed, 2.0 s"
        );
    }
}
