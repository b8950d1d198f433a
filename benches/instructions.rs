//! Instructions of one call, as valgrind counts them: a change of a few shows where time drowns it in noise.
//!
//! Each subject runs in a process of its own, under callgrind, which counts inside of one function and
//! writes its count down whenever that returns. What other threads do meanwhile is not counted.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod subjects;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use subjects::{SUBJECTS, Subject};
use zmsg_benches::{Case, Figures, Unit, is_quick};

/// Names the subject, in the process that is counted.
const SUBJECT: &str = "ZMSG_BENCH_SUBJECT";

const COUNTED: [&str; 8] = [
    "get, hit in L1",
    "cache_only",
    "cache_and_periodic_store, no value",
    "next id",
    "build an upsert",
    "fold a counter",
    "append to a log",
    "check of a filter",
];

const ROUNDS: usize = 7;

fn main() {
    if let Ok(subject) = std::env::var(SUBJECT) {
        return run(&subject);
    }
    let Some(mut figures) = Figures::of("instructions") else { return };
    if let Err(why) = valgrind() {
        return figures.left_out("instructions", &why);
    }
    for subject in SUBJECTS.iter().filter(|it| COUNTED.contains(&it.what)) {
        let case = Case::new(subject.what);
        match count(subject) {
            Ok(counts) => figures.record(&case, subject.who, Unit::Instructions, counts),
            Err(why) => figures.left_out(&format!("instructions, {}", title(subject)), &why),
        }
    }
}

/// Whether it is there.
fn valgrind() -> Result<(), String> {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match asked {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("valgrind does not run here ({status})")),
        Err(error) => Err(format!("valgrind is not there: {error}")),
    }
}

fn title(subject: &Subject) -> String {
    format!("{} by {}", subject.what, subject.who)
}

fn calls() -> u64 {
    if is_quick() { 200 } else { 10_000 }
}

/// Instructions of one call, round by round.
fn count(subject: &Subject) -> Result<Vec<f64>, String> {
    let place = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*calls_that_count"])
        .arg("--dump-after=*calls_that_count")
        .arg(format!("--callgrind-out-file={}", place.path().join("counts").display()))
        .arg(std::env::current_exe().unwrap())
        .env(SUBJECT, title(subject))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("it fails under valgrind ({}): {last}", output.status));
    }
    let counts: Vec<f64> = (1..=ROUNDS)
        .filter_map(|round| total(&place.path().join(format!("counts.{round}"))))
        .map(|total| total as f64 / calls() as f64)
        .collect();
    if counts.len() == ROUNDS { Ok(counts) } else { Err("valgrind counted nothing".into()) }
}

/// What one part of callgrind's output adds up to.
fn total(part: &Path) -> Option<u64> {
    let text = fs::read_to_string(part).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}

/// The process that is counted.
fn run(name: &str) {
    let subject = SUBJECTS.iter().find(|subject| title(subject) == name).unwrap();
    let mut call = subject.warm();
    for _ in 0..ROUNDS {
        calls_that_count(calls(), &mut *call);
    }
}

/// Callgrind knows it by its name.
#[inline(never)]
fn calls_that_count(calls: u64, call: &mut dyn FnMut()) {
    for _ in 0..calls {
        call();
    }
}
