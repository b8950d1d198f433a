//! `cargo xtask ci`: the stages of CI, one after the other.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use zmsg_testbed::private::Binaries;

use crate::shell::{cargo, root};
use crate::{test, tidy};

/// A name and what to run. Cheap stages stand first: a missing blank is told in seconds.
type Stage = (&'static str, fn() -> Result<Verdict>);

const STAGES: &[Stage] = &[
    ("fmt", fmt),
    ("tidy", layout),
    ("clippy", clippy),
    ("features", features),
    ("doc", doc),
    ("deny", deny),
    ("test", suite),
    ("feed", feed),
    ("feed, recorded messages", feed_recorded),
    ("feed, killed and started again", feed_killed),
    ("feed (servers)", feed_on_servers),
    ("feed (servers), four processes", feed_of_processes),
    ("faults", faults),
    ("chaos", chaos),
    ("chaos, controls", chaos_controls),
    ("bench (quick)", bench),
];

/// How the commands that talk to servers are called.
pub(crate) const WITH_NET: &str = "run --quiet --package xtask --features net --";

/// A stream of real messages, if somebody put it beside the repository.
const RECORDED: &str = "../shared/data/CollegeMsg.txt";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped(&'static str),
    Failed,
}

/// Runs all stages up to the first that fails, then shows how long each took.
///
/// # Errors
/// That of the stage that failed.
pub(crate) fn run() -> Result<()> {
    let (rows, result) = run_stages(STAGES);
    println!("\n{}", summary(&rows));
    result
}

type Row = (&'static str, Verdict, Duration);

fn run_stages(stages: &[Stage]) -> (Vec<Row>, Result<()>) {
    let mut rows = Vec::new();
    for &(name, stage) in stages {
        println!("\n=== {name}");
        let begin = Instant::now();
        let result = stage();
        let verdict = *result.as_ref().unwrap_or(&Verdict::Failed);
        if let Verdict::Skipped(reason) = verdict {
            println!("skipped: {reason}");
        }
        rows.push((name, verdict, begin.elapsed()));
        if let Err(error) = result {
            return (rows, Err(error.context(format!("stage {name}"))));
        }
    }
    (rows, Ok(()))
}

fn summary(rows: &[Row]) -> String {
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, verdict, took) in rows {
        let verdict = match verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Skipped(reason) => format!("skipped: {reason}"),
            Verdict::Failed => "FAILED".to_owned(),
        };
        let _ = writeln!(text, "{name:width$}  {:>7.1} s  {verdict}", took.as_secs_f64());
    }
    let total: Duration = rows.iter().map(|(.., took)| *took).sum();
    let _ = write!(text, "{:width$}  {:>7.1} s", "total", total.as_secs_f64());
    text
}

fn fmt() -> Result<Verdict> {
    cargo("fmt --all -- --check").at_root().run()?;
    Ok(Verdict::Passed)
}

fn layout() -> Result<Verdict> {
    tidy::run()?;
    Ok(Verdict::Passed)
}

fn clippy() -> Result<Verdict> {
    cargo("clippy --workspace --all-targets --all-features -- -D warnings").at_root().run()?;
    Ok(Verdict::Passed)
}

/// The facade as people build it who want less of it.
fn features() -> Result<Verdict> {
    for features in ["", "--features=postgres", "--features=redis"] {
        let line = format!("clippy -p zmsg --lib --no-default-features {features} -- -D warnings");
        cargo(&line).at_root().run()?;
    }
    Ok(Verdict::Passed)
}

fn doc() -> Result<Verdict> {
    let line = cargo("doc --workspace --all-features --no-deps").at_root();
    line.variable("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(Verdict::Passed)
}

/// Advisories and licences, where the tool is installed: a fresh machine has none.
fn deny() -> Result<Verdict> {
    if !root().join("deny.toml").exists() {
        return Ok(Verdict::Skipped("there is no deny.toml"));
    }
    if !cargo("deny --version").at_root().succeeds() {
        return Ok(Verdict::Skipped("cargo-deny is not installed"));
    }
    cargo("deny check").at_root().run()?;
    Ok(Verdict::Passed)
}

fn suite() -> Result<Verdict> {
    test::run(&test::Args::default())?;
    Ok(Verdict::Passed)
}

/// The README's first command, on a short generated stream: it checks its own totals.
fn feed() -> Result<Verdict> {
    let line = cargo("run --release --example feed -p zmsg --").at_root();
    line.with(["--messages", "20000", "--no-progress"]).run()?;
    Ok(Verdict::Passed)
}

fn feed_recorded() -> Result<Verdict> {
    if !is_file(&root().join(RECORDED)) {
        return Ok(Verdict::Skipped("there is no recording beside the repository"));
    }
    let line = cargo("run --release --example feed -p zmsg --").at_root();
    line.with(["--input", RECORDED, "--no-progress"]).run()?;
    Ok(Verdict::Passed)
}

fn feed_killed() -> Result<Verdict> {
    cargo(WITH_NET).at_root().with(["kills"]).run()?;
    Ok(Verdict::Passed)
}

/// On PostgreSQL and Redis: the recording, if there is one.
fn feed_on_servers() -> Result<Verdict> {
    let line = cargo(WITH_NET).at_root().with(["feed"]);
    let recorded = is_file(&root().join(RECORDED));
    let stream = if recorded { ["--input", RECORDED] } else { ["--messages", "20000"] };
    line.with(stream).run()?;
    Ok(Verdict::Passed)
}

fn feed_of_processes() -> Result<Verdict> {
    let line = cargo(WITH_NET).at_root().with(["feed", "--messages", "20000"]);
    line.with(["--processes", "4"]).run()?;
    Ok(Verdict::Passed)
}

/// Only with servers of our own: those of somebody else are not killed.
fn faults() -> Result<Verdict> {
    let binaries = Binaries::find();
    if binaries.postgres.is_none() || binaries.redis.is_none() {
        return Ok(Verdict::Skipped("the programs of servers are not on this machine"));
    }
    cargo(WITH_NET).at_root().with(["faults"]).run()?;
    Ok(Verdict::Passed)
}

/// On SQLite, and on PostgreSQL where its programs are.
fn chaos() -> Result<Verdict> {
    cargo(WITH_NET).at_root().with(["chaos", "--kills", "200"]).run()?;
    Ok(Verdict::Passed)
}

fn chaos_controls() -> Result<Verdict> {
    cargo(WITH_NET).at_root().with(["chaos", "--controls"]).run()?;
    Ok(Verdict::Passed)
}

/// That every target runs to its end and its figures can be read; no time is asserted.
fn bench() -> Result<Verdict> {
    cargo(WITH_NET).at_root().with(["bench", "--quick", "--save", "ci"]).run()?;
    Ok(Verdict::Passed)
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let stages: &[Stage] = &[
            ("one", || Ok(Verdict::Passed)),
            ("two", || anyhow::bail!("broken")),
            ("three", || Ok(Verdict::Passed)),
        ];
        let (rows, result) = run_stages(stages);
        let verdicts: Vec<_> = rows.iter().map(|(name, verdict, _)| (*name, *verdict)).collect();
        assert_eq!(verdicts, [("one", Verdict::Passed), ("two", Verdict::Failed)]);
        assert_eq!(format!("{:#}", result.unwrap_err()), "stage two: broken");
    }

    #[test]
    fn a_skipped_stage_does_not_fail_the_run_and_says_why() {
        let (rows, result) = run_stages(&[("deny", || Ok(Verdict::Skipped("not installed")))]);
        assert!(result.is_ok());
        assert!(summary(&rows).contains("skipped: not installed"));
    }

    #[test]
    fn the_summary_gives_each_stage_and_the_total() {
        let second = Duration::from_secs(1);
        let rows = [("fmt", Verdict::Passed, second), ("clippy", Verdict::Failed, 90 * second)];
        assert_eq!(
            summary(&rows),
            "fmt         1.0 s  passed\nclippy     90.0 s  FAILED\ntotal      91.0 s"
        );
    }
}
