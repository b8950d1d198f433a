//! What the processes of a run reported.

use std::collections::{BTreeMap, HashSet};

/// What became of a write, as far as its process said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its process was killed, or failed, before there was an answer.
    Unknown,
    Acknowledged,
    /// There was no room: it must not happen.
    Refused,
}

/// How a write shows in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A row of its own, which counts.
    Own,
    /// An element of a list: `tags` are in the order of each task.
    Tag,
    Later,
    /// An entry of a map.
    Mark,
    /// One more in a shared counter: only the sum shows it.
    Count,
    /// A row that another write may delete.
    Victim,
    /// The end of the victim whose number is the row.
    End,
    /// An item of a batch queue, which its handler puts into a table of its own.
    Delivered,
    /// A dead letter.
    Dead,
}

/// A write.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) kind: String,
    pub(super) row: u64,
    pub(super) task: u64,
    /// Which process of the run made it.
    pub(super) round: usize,
    pub(super) answer: Answer,
    /// Its place among the acknowledgements.
    pub(super) level: String,
}

/// What the processes of a run reported.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) ops: BTreeMap<u64, Op>,
    /// What is wrong whatever the tables hold.
    pub(super) problems: Vec<String>,
    /// Writes that were answered by an error.
    pub(super) errors: Vec<String>,
    ids: HashSet<String>,
    /// Processes that killed themselves at a failpoint.
    at_points: HashSet<usize>,
    pub(super) acked: u64,
    /// Everything, for those who look for a cause.
    pub(super) lines: Vec<String>,
}

impl Op {
    pub(super) fn effect(&self) -> Effect {
        match self.kind.as_str() {
            "store-own" | "delayed-own" | "periodic-own" | "periodic-statement" => Effect::Own,
            "store-tag" | "periodic-tag" | "periodic-shown" => Effect::Tag,
            "delayed-tag" => Effect::Later,
            "periodic-mark" => Effect::Mark,
            "store-victim" => Effect::Victim,
            "delayed-end" => Effect::End,
            "periodic-count" => Effect::Count,
            "batch-own" | "lanes-own" | "hybrid-own" => Effect::Delivered,
            _ => Effect::Dead,
        }
    }

    /// `store`, `delayed` or `periodic`; or that of a batch queue: `batch` if it is strict and durable,
    /// `lanes` if ordered by key, `hybrid`.
    pub(super) fn route(&self) -> &str {
        self.kind.split('-').next().unwrap_or_default()
    }

    pub(super) fn is_acked(&self) -> bool {
        self.answer == Answer::Acknowledged
    }

    /// Whether it must outlive its process: what a hybrid queue has in memory alone need not.
    pub(super) fn is_kept(&self) -> bool {
        self.is_acked() && self.level != "Memory"
    }

    /// Whether an acknowledgement is as durable as the route promises, or more: a flush may have been
    /// faster than the answer.
    fn is_kept_by(&self, level: &str) -> bool {
        match self.route() {
            "periodic" => matches!(level, "LocalDisk" | "Database"),
            "batch" | "lanes" => level == "LocalDisk",
            "hybrid" => matches!(level, "LocalDisk" | "Memory"),
            _ => level == "Database",
        }
    }
}

impl History {
    /// Takes a line of the process `round`.
    pub(super) fn take(&mut self, round: usize, line: &str) {
        self.lines.push(format!("{round} {line}"));
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("S"), Some(op)) => {
                let kind = words.next().unwrap_or_default().to_owned();
                let mut number = || words.next().and_then(|word| word.parse().ok());
                let (Ok(op), Some(row), Some(task)) = (op.parse(), number(), number()) else {
                    return self.problems.push(format!("an unreadable line: {line}"));
                };
                let (answer, level) = (Answer::Unknown, String::new());
                let op_is_new =
                    self.ops.insert(op, Op { kind, row, task, round, answer, level }).is_none();
                if !op_is_new {
                    self.problems.push(format!("the number {op} was used twice"));
                }
            }
            (Some("A"), Some(op)) => self.acknowledged(op, words.next().unwrap_or_default()),
            (Some("E"), Some(op)) => {
                let error = line.split_once(' ').map_or(op, |(_, rest)| rest);
                self.errors.push(error.to_owned());
            }
            (Some("N"), Some(op)) => {
                if let Some(it) = op.parse().ok().and_then(|op: u64| self.ops.get_mut(&op)) {
                    it.answer = Answer::Refused;
                }
            }
            (Some("I"), Some(id)) if !self.ids.insert(id.to_owned()) => {
                self.problems.push(format!("the id {id} was given out twice"));
            }
            (Some("K"), Some(_)) => {
                self.at_points.insert(round);
            }
            (Some("W"), Some(_)) => {
                self.problems.push(format!("a wrong read: {}", &line[2..]));
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, op: &str, level: &str) {
        let found = op.parse().ok().and_then(|op: u64| self.ops.get_mut(&op));
        let Some(found) = found else {
            return self.problems.push(format!("{op} was acknowledged and never made"));
        };
        (found.answer, found.level) = (Answer::Acknowledged, level.to_owned());
        self.acked += 1;
        if !found.is_kept_by(level) {
            self.problems.push(format!("{op} ({}) was acknowledged as {level}", found.kind));
        }
    }

    /// Whether this process said that it kills itself.
    pub(super) fn killed_at_point(&self, round: usize) -> bool {
        self.at_points.contains(&round)
    }

    /// The number of the next write.
    pub(super) fn next(&self) -> u64 {
        self.ops.last_key_value().map_or(1, |(op, _)| op + 1)
    }
}
