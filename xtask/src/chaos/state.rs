//! What was done so far, in a file: a run of many hours goes on where it stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value as Json, json};

use super::plan::Plan;
use super::run::Done;

/// The file in the directory of the report.
const NAME: &str = "state.json";

/// What became of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) submitted: u64,
    pub(super) acknowledged: u64,
    /// Their process was killed before it said so.
    pub(super) unknown: u64,
    /// They are in the tables.
    pub(super) applied: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
}

/// Kills that were to be at a failpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits {
    pub(super) planned: u64,
    pub(super) reached: u64,
}

/// A run that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) run: u64,
    pub(super) problems: Vec<String>,
}

/// What was done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) seed: u64,
    /// Runs that are done: the next has this number.
    pub(super) runs: u64,
    pub(super) millis: u64,
    /// By store.
    pub(super) kills: BTreeMap<String, u64>,
    /// By store, route, and where the process was killed, parted by `|`.
    pub(super) cells: BTreeMap<String, Counts>,
    /// By failpoint.
    pub(super) points: BTreeMap<String, Hits>,
    pub(super) failures: Vec<Failure>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds what came of a run.
    pub(super) fn add(&mut self, run: u64, plan: &Plan, done: Done, took: Duration) {
        let store = plan.store.name();
        self.runs = run + 1;
        self.millis += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        *self.kills.entry(store.to_owned()).or_default() += done.kills;
        for ((route, place), counts) in done.totals {
            self.cells.entry(format!("{store}|{route}|{place}")).or_default().add(&counts);
        }
        for (name, reached) in done.planned {
            let hits = self.points.entry(name).or_default();
            hits.planned += 1;
            hits.reached += u64::from(reached);
        }
        if !done.problems.is_empty() {
            let problems = done.problems.into_iter().take(PROBLEMS_MAX).collect();
            self.failures.push(Failure { run, problems });
        }
    }

    pub(super) fn kills(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Everything together.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.cells.values().for_each(|counts| total.add(counts));
        total
    }

    /// How far it has come, in a line.
    pub(super) fn line(&self) -> String {
        let Counts { submitted, acknowledged, lost, doubled, .. } = self.total();
        format!(
            "{} kills in {} runs, {:.0} s: {submitted} writes, {acknowledged} acknowledged, \
             {lost} lost, {doubled} doubled; {} runs failed",
            self.kills(),
            self.runs,
            Duration::from_millis(self.millis).as_secs_f64(),
            self.failures.len(),
        )
    }

    /// Reads what an earlier command left.
    ///
    /// # Errors
    /// If there is nothing, or it cannot be read.
    pub(super) fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(NAME);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("nothing to go on with: {}", path.display()))?;
        let json: Json = serde_json::from_str(&text).context("the state is no JSON")?;
        Self::from_json(&json).context("the state was written by another version")
    }

    /// Writes it in place of the one before: a kill leaves one of the two.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn save(&self, directory: &Path) -> Result<()> {
        let (path, unfinished) = (directory.join(NAME), directory.join("state.json.new"));
        fs::write(&unfinished, format!("{:#}\n", self.to_json()))
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("could not write {}", path.display()))
    }

    pub(super) fn to_json(&self) -> Json {
        let cells = self.cells.iter().map(|(name, it)| (name.clone(), it.to_json()));
        let points =
            self.points.iter().map(|(name, it)| (name.clone(), json!([it.planned, it.reached])));
        let failures =
            self.failures.iter().map(|it| json!({"run": it.run, "problems": it.problems}));
        json!({
            "seed": self.seed,
            "runs": self.runs,
            "millis": self.millis,
            "kills": self.kills,
            "cells": cells.collect::<serde_json::Map<_, _>>(),
            "points": points.collect::<serde_json::Map<_, _>>(),
            "failures": failures.collect::<Vec<_>>(),
        })
    }

    fn from_json(json: &Json) -> Option<Self> {
        let entries = |name: &str| json[name].as_object();
        let failure = |it: &Json| {
            let problems = it["problems"].as_array()?.iter();
            let problems =
                problems.map(|it| it.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            Some(Failure { run: it["run"].as_u64()?, problems })
        };
        let hits = |it: &Json| Some(Hits { planned: it[0].as_u64()?, reached: it[1].as_u64()? });
        Some(Self {
            seed: json["seed"].as_u64()?,
            runs: json["runs"].as_u64()?,
            millis: json["millis"].as_u64()?,
            kills: entries("kills")?
                .iter()
                .map(|(name, it)| Some((name.clone(), it.as_u64()?)))
                .collect::<Option<_>>()?,
            cells: entries("cells")?
                .iter()
                .map(|(name, it)| Some((name.clone(), Counts::from_json(it)?)))
                .collect::<Option<_>>()?,
            points: entries("points")?
                .iter()
                .map(|(name, it)| Some((name.clone(), hits(it)?)))
                .collect::<Option<_>>()?,
            failures: json["failures"].as_array()?.iter().map(failure).collect::<Option<_>>()?,
        })
    }
}

/// So many problems of a run are kept.
const PROBLEMS_MAX: usize = 20;

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.applied += other.applied;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }

    /// In the order of the columns of the report.
    pub(super) fn columns(&self) -> [u64; 6] {
        let Self { submitted, acknowledged, unknown, applied, lost, doubled } = *self;
        [submitted, acknowledged, unknown, applied, lost, doubled]
    }

    fn to_json(self) -> Json {
        json!(self.columns())
    }

    fn from_json(json: &Json) -> Option<Self> {
        let at = |index: usize| json[index].as_u64();
        Some(Self {
            submitted: at(0)?,
            acknowledged: at(1)?,
            unknown: at(2)?,
            applied: at(3)?,
            lost: at(4)?,
            doubled: at(5)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Store;
    use super::*;

    fn done(lost: u64) -> Done {
        let counts =
            Counts { submitted: 10, acknowledged: 8, unknown: 2, applied: 9, lost, doubled: 0 };
        let problems = if lost > 0 { vec!["7 is lost".to_owned()] } else { vec![] };
        Done {
            problems,
            totals: BTreeMap::from([(
                ("store".to_owned(), "zmsg::store::held".to_owned()),
                counts,
            )]),
            planned: vec![("zmsg::store::held".to_owned(), true), ("x".to_owned(), false)],
            kills: 3,
            left: None,
        }
    }

    #[test]
    fn what_was_done_is_read_again_as_it_was_written_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        assert!(State::load(directory.path()).is_err());
        let plan = Plan {
            store: Store::Sqlite,
            remote: false,
            companion: false,
            queue: "durable",
            segment: None,
            kills: vec![],
            sabotage: None,
        };
        let mut state = State::new(7);
        state.add(0, &plan, done(0), Duration::from_millis(20));
        state.add(1, &plan, done(1), Duration::from_millis(30));
        state.save(directory.path()).unwrap();
        let mut again = State::load(directory.path()).unwrap();
        assert_eq!(again, state);
        assert_eq!((again.runs, again.kills(), again.millis), (2, 6, 50));
        again.add(2, &plan, done(0), Duration::from_millis(1));
        assert_eq!(again.points["zmsg::store::held"], Hits { planned: 3, reached: 3 });
        assert_eq!(again.points["x"], Hits { planned: 3, reached: 0 });
        assert_eq!(again.total().columns(), [30, 24, 6, 27, 1, 0]);
        assert_eq!(again.failures, [Failure { run: 1, problems: vec!["7 is lost".to_owned()] }]);
    }
}
