//! Rules broken on purpose: who does not notice that would notice nothing.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::child::Program;
use super::plan::{Kill, Place, Plan, Random, SMALL_BYTES, Store};
use super::points::Points;
use super::run::{Done, play};

/// A rule, and the run in which its breach shows.
struct Control {
    /// The failpoint `sabotage::…`.
    rule: &'static str,
    shows: Symptom,
    /// Where processes are killed, if their acknowledgements are not what decides.
    point: Option<(&'static str, u64)>,
    mix: &'static str,
    /// Milliseconds from flush to flush: long where what waits is to be lost.
    interval: u64,
    remote: bool,
    segment: Option<u64>,
}

/// As what a breach has to be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symptom {
    Lost,
    Doubled,
    /// In the wrong order.
    Order,
    /// The engine refuses to go on rather than lose or double anything.
    Refused,
}

use Symptom::{Doubled, Lost, Order, Refused};

const fn control(rule: &'static str, shows: Symptom, mix: &'static str, interval: u64) -> Control {
    Control { rule, shows, point: None, mix, interval, remote: false, segment: None }
}

impl Control {
    const fn at(self, point: &'static str, hit: u64) -> Self {
        Self { point: Some((point, hit)), ..self }
    }
}

const CONTROLS: &[Control] = &[
    control("forget_journal", Lost, "periodic", 200),
    control("acknowledge_early", Lost, "periodic", 200).at("zmsg-wal::write::before", 3),
    Control {
        segment: Some(SMALL_BYTES),
        ..control("trim_early", Lost, "periodic", 30).at("zmsg-aggregate::trim::trimmed", 1)
    },
    control("skip_replay", Lost, "periodic", 200),
    control("ignore_ledger", Doubled, "periodic", 8).at("zmsg-aggregate::flush::committed", 2),
    control("reuse_stream", Refused, "periodic", 8),
    control("drop_group", Lost, "periodic", 8),
    control("double_statement", Doubled, "periodic", 8),
    control("swap_order", Order, "periodic", 200),
    control("ledger_apart", Doubled, "periodic", 8).at("zmsg-aggregate::flush::committed", 2),
    control("acknowledge_before_commit", Lost, "store", 8)
        .at("zmsg-store::sqlite::before_commit", 5),
    control("acknowledge_before_enqueue", Lost, "delayed", 8).at("zmsg-queue::enqueue::before", 30),
    control("complete_first", Lost, "delayed", 8).at("zmsg-queue::attempt::begin", 20),
    Control {
        remote: true,
        ..control("ignore_inbox", Doubled, "delayed", 8).at("zmsg-queue::attempt::handled", 20)
    },
    control("batch_acknowledge_early", Lost, "batch", 30).at("zmsg-wal::write::before", 12),
    control("batch_confirm_first", Lost, "batch", 30),
    Control {
        segment: Some(SMALL_BYTES),
        ..control("batch_trim_early", Lost, "batch", 8).at("zmsg-queue::batch::trim::trimmed", 1)
    },
    control("batch_swap_order", Order, "batch", 30),
    control("batch_drop_letter", Lost, "batch", 8),
    control("batch_rename_stream", Doubled, "batch", 8)
        .at("zmsg-queue::batch::deliver::answered", 5),
];

/// A breach that shows by chance gets so many runs.
const RUNS_MAX: u64 = 20;

/// Kills of a run.
const KILLS: usize = 5;

/// Breaks every rule, and demands that each breach is noticed as what it is, and that the same runs
/// are as they should be while the rule holds.
///
/// # Errors
/// If one is not, or a rule that can be broken is not among them.
pub(super) fn run(program: &Program, seed: u64) -> Result<()> {
    let points = Points::find()?;
    let is_there = |rule: &String| CONTROLS.iter().any(|control| control.rule == *rule);
    let forgotten: Vec<_> = points.sabotages().iter().filter(|rule| !is_there(rule)).collect();
    ensure!(forgotten.is_empty(), "nobody looks whether these are noticed: {forgotten:?}");
    let mut wrong = Vec::new();
    for control in CONTROLS {
        let (begun, rule) = (Instant::now(), control.rule);
        let noticed = control.noticed(program, seed)?;
        let held = play(&control.plan(seed, 0, None), program, None)?.problems;
        let took = begun.elapsed().as_secs_f64();
        match (noticed, held.first()) {
            (Some(it), None) => println!("{rule:28}{:8} {took:4.1} s  {it}", control.shows.name()),
            (None, _) => {
                println!("{rule:28}NOT NOTICED in {RUNS_MAX} runs");
                wrong.push(rule);
            }
            (_, Some(problem)) => {
                println!("{rule:28}WRONG while the rule holds: {problem}");
                wrong.push(rule);
            }
        }
    }
    ensure!(wrong.is_empty(), "the harness does not tell whether these rules hold: {wrong:?}");
    println!("{} rules were broken, and each was noticed", CONTROLS.len());
    Ok(())
}

impl Symptom {
    fn name(self) -> &'static str {
        match self {
            Lost => "lost",
            Doubled => "doubled",
            Order => "order",
            Refused => "refused",
        }
    }

    /// The problem of a run that is this symptom.
    fn of(self, done: &Done) -> Option<&String> {
        let word = match self {
            Lost => "lost",
            Doubled => "times",
            Order => "stands before",
            Refused => "ended with an error",
        };
        done.problems.iter().find(|problem| problem.contains(word))
    }
}

impl Control {
    /// As what the breach was noticed.
    fn noticed(&self, program: &Program, seed: u64) -> Result<Option<String>> {
        for number in 0..RUNS_MAX {
            let done = play(&self.plan(seed, number, Some(self.rule)), program, None)?;
            if let Some(problem) = self.shows.of(&done) {
                return Ok(Some(problem.clone()));
            }
        }
        Ok(None)
    }

    fn plan(&self, seed: u64, number: u64, rule: Option<&str>) -> Plan {
        let random = &mut Random::of(seed, number);
        let kill = |at: usize| {
            let place = match self.point {
                Some((name, hit)) => Place::Point(name.to_owned(), hit + at as u64),
                None => Place::Acks(40 + 30 * at as u64, 500),
            };
            let kill = Kill::new(place, self.mix, random);
            Kill { interval: self.interval, adopts: false, ..kill }
        };
        Plan {
            store: Store::Sqlite,
            remote: self.remote,
            companion: false,
            queue: "durable",
            segment: self.segment,
            kills: (0..KILLS).map(kill).collect(),
            sabotage: rule.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_can_be_broken_has_a_control_and_its_failpoint_is_there() {
        let points = Points::find().unwrap();
        assert!(CONTROLS.len() >= 10);
        for control in CONTROLS {
            assert!(points.sabotages().iter().any(|rule| rule == control.rule), "{}", control.rule);
            if let Some((point, _)) = control.point {
                assert!(points.all().iter().any(|name| name == point), "{point}");
            }
        }
        for rule in points.sabotages() {
            assert!(CONTROLS.iter().any(|control| control.rule == rule), "{rule}");
        }
    }
}
