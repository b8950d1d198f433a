//! What a target measured: shown to whoever runs it, and written down for `cargo xtask bench`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;

use serde_json::json;

/// Names the file that `cargo xtask bench` reads: one figure a line, in JSON.
const FILE: &str = "ZMSG_BENCH_FIGURES";
/// Set for a run that only shows that everything works.
const QUICK: &str = "ZMSG_BENCH_QUICK";

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Calls, records or tasks per second; more is better.
    PerSecond,
    /// Nanoseconds for one; fewer are better.
    Nanoseconds,
    /// Of a hundred; more is better.
    Percent,
    /// Allocations of one call; fewer are better.
    Allocations,
    /// Bytes that one call allocates; fewer are better.
    Bytes,
    /// Bytes that something holds; fewer are better.
    Held,
    /// Answers of a hundred that are wrong; fewer are better.
    Wrong,
    /// Instructions of one call; fewer are better.
    Instructions,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::Nanoseconds => "ns",
            Self::Percent => "%",
            Self::Allocations => "allocations",
            Self::Bytes => "bytes",
            Self::Held => "bytes held",
            Self::Wrong => "% wrong",
            Self::Instructions => "instructions",
        }
    }
}

/// What was done, and at which point of an axis if it was done at several.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    at: Option<(&'static str, u64)>,
}

impl Case {
    /// Something that is measured once.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), at: None }
    }

    /// One of several points: `("tasks", 256)`.
    #[must_use]
    pub fn at(self, axis: &'static str, point: u64) -> Self {
        Self { at: Some((axis, point)), ..self }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.at.map_or(Ok(()), |(axis, point)| write!(f, ", {point} {axis}"))
    }
}

/// A way to do what a case says: a name, and what gives the figure of one round.
pub type Way<'a> = (&'a str, &'a mut dyn FnMut() -> f64);

/// The figures of one target.
#[derive(Debug)]
pub struct Figures {
    target: &'static str,
    rounds: usize,
    file: Option<File>,
}

impl Figures {
    /// Of this target; `None` if the command line asks for others.
    pub fn of(target: &'static str) -> Option<Self> {
        let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        if filter.is_some_and(|filter| !target.contains(&filter)) {
            return None;
        }
        let open = |path| OpenOptions::new().create(true).append(true).open(path).ok();
        let rounds = if is_quick() { 2 } else { 7 };
        Some(Self { target, rounds, file: std::env::var_os(FILE).and_then(open) })
    }

    /// How many rounds count; one before them is to be dropped.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Measures all ways in turns, so that what else the machine does meets each alike: a round that is
    /// dropped, then those that count. The first way is ours.
    pub fn turns(&mut self, case: &Case, unit: Unit, ways: &mut [Way<'_>]) {
        let mut samples = vec![Vec::with_capacity(self.rounds); ways.len()];
        for round in 0..=self.rounds {
            for ((_, way), samples) in ways.iter_mut().zip(&mut samples) {
                let figure = way();
                if round > 0 {
                    samples.push(figure);
                }
            }
        }
        for ((who, _), samples) in ways.iter().zip(samples) {
            self.record(case, who, unit, samples);
        }
    }

    /// Notes the samples of one way, in the order in which they were taken.
    ///
    /// # Panics
    /// If the file of the figures cannot be written: a figure that is missing must not go unnoticed.
    pub fn record(&mut self, case: &Case, who: &str, unit: Unit, samples: Vec<f64>) {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        if let [low, .., high] = sorted[..] {
            let (median, unit) = (sorted[sorted.len() / 2], unit.name());
            println!("{case}: {who} {median:.1} {unit} ({low:.1} to {high:.1})");
        }
        let axis = case.at.map(|(axis, point)| json!({ "name": axis, "point": point }));
        self.note(&json!({
            "target": self.target, "case": case.name, "axis": axis, "who": who,
            "unit": unit.name(), "samples": samples,
        }));
    }

    /// Says that something was not measured, and why.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    pub fn left_out(&mut self, what: &str, why: &str) {
        println!("left out: {what}: {why}");
        self.note(&json!({ "target": self.target, "left_out": what, "why": why }));
    }

    fn note(&mut self, line: &serde_json::Value) {
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").expect("the file of the figures can be written");
        }
    }
}

/// Whether the run only has to show that everything works.
pub fn is_quick() -> bool {
    std::env::var_os(QUICK).is_some()
}
