//! The report: what was killed, and what came of it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Args;
use super::html;
use super::points::Points;
use super::state::{Counts, State};

/// What the report says.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) state: &'a State,
    /// The command that does all of it again.
    pub(super) command: String,
    pub(super) machine: String,
    /// Failpoints that no process was killed at.
    pub(super) missed: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn of(state: &'a State, points: &Points, args: &Args) -> Self {
        let reached = |name: &String| state.points.get(name).is_some_and(|hits| hits.reached > 0);
        let wanted = points.all().iter().filter(|_| !args.calls);
        let missed = wanted.filter(|name| !reached(name)).cloned().collect();
        let command = args.command(&format!("--runs {}", state.runs));
        Self { state, command, machine: machine(), missed }
    }

    /// Writes the page and the same as JSON.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let mut all = self.state.to_json();
        all["command"] = json!(self.command);
        all["machine"] = json!(self.machine);
        all["columns"] = json!(COLUMNS);
        all["total"] = json!(self.state.total().columns());
        all["never_reached"] = json!(self.missed);
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
        };
        write("report.json", format!("{all:#}\n"))?;
        write("report.html", html::page(self))
    }

    /// The report in short.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{:24}{}", "", COLUMNS.map(|name| format!("{name:>14}")).concat());
        for (name, counts) in self.by_route() {
            let numbers = counts.columns().map(|number| format!("{number:>14}")).concat();
            let _ = writeln!(text, "{name:24}{numbers}");
        }
        let reached = self.state.points.values().filter(|hits| hits.reached > 0).count();
        let _ = write!(text, "killed at {reached} failpoints");
        if !self.missed.is_empty() {
            let _ = write!(text, "; never at {}", self.missed.join(", "));
        }
        text
    }

    /// The sums of each store and route.
    pub(super) fn by_route(&self) -> Vec<(String, Counts)> {
        let mut sums = std::collections::BTreeMap::<String, Counts>::new();
        for (cell, counts) in &self.state.cells {
            let name = cell.splitn(3, '|').take(2).collect::<Vec<_>>().join(", ");
            sums.entry(name).or_default().add(counts);
        }
        sums.into_iter().collect()
    }

    pub(super) fn took(&self) -> Duration {
        Duration::from_millis(self.state.millis)
    }
}

/// The columns of every table.
pub(super) const COLUMNS: [&str; 6] =
    ["submitted", "acknowledged", "unknown", "applied", "lost", "doubled"];

/// Which machine it was.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gib = memory.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 20;
    format!("{cores} cores {model}, {gib} GiB, {} {}", std::env::consts::OS, kernel.trim())
}
