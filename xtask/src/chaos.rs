//! `cargo xtask chaos`: a process is killed again and again, and nothing acknowledged is lost or
//! happens twice.
//!
//! A run is one directory and one database: several processes on it, one after the other, each
//! killed at a failpoint or at a random moment, and one more that drains, closes and shows the
//! tables. What each process reported is then compared with those.

mod points; // start here: where processes are killed
mod plan;
mod child;
mod run;
mod history;
mod tables;
mod check;
mod state;
mod controls;
mod postgres;
mod report;
mod html;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::feed::{self, Profile};
use child::Program;
use plan::{Plan, Store, Stores};
use points::Points;
use postgres::Server;
use report::Report;
use run::Done;
use state::State;

/// What is killed, how often, and where the report goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Decides everything: with the number of a run it repeats that run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many runs; each has several kills
    #[arg(long)]
    runs: Option<u64>,
    /// Stop after the run with this kill: the default is 200, if no number of runs is given
    #[arg(long)]
    kills: Option<u64>,
    /// Go on after the last run that the report's directory tells of
    #[arg(long)]
    resume: bool,
    /// This run alone, as a failure names it
    #[arg(long, conflicts_with_all = ["runs", "kills", "resume"])]
    only_run: Option<u64>,
    /// Only failpoints whose names contain this
    #[arg(long)]
    only: Vec<String>,
    /// Which databases: `both` takes PostgreSQL where its programs are on this machine
    #[arg(long, value_enum, default_value_t = Stores::Both)]
    store: Stores,
    /// Kill at calls of the system instead of failpoints: needs `strace`, and takes longer
    #[arg(long, conflicts_with = "controls")]
    calls: bool,
    /// Break one rule after the other, and demand that each is noticed
    #[arg(long)]
    controls: bool,
    /// Where the report and the state go: `target/chaos` by default
    #[arg(long)]
    report: Option<PathBuf>,
    /// Compile the process for speed instead of as the tests are compiled
    #[arg(long)]
    release: bool,
    /// Tell the failpoints and kill nothing
    #[arg(long)]
    list: bool,
}

/// How many kills there are if nobody says so.
const KILLS: u64 = 200;

/// How often the progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Kills, compares, and writes the report.
///
/// # Errors
/// If anything acknowledged was lost or happened twice, or a rule was broken and nobody noticed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let points = Points::find()?;
    if args.list {
        points.all().iter().for_each(|point| println!("{point}"));
        return Ok(());
    }
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let program = Program::kept(&feed::build_example("chaos", &["failpoints"], profile)?)?;
    if args.controls {
        return controls::run(&program, args.seed);
    }
    let server = args.store.server()?;
    let stores = args.store.on_this_machine(server.is_some());
    let points = points.only(&args.only, &stores)?;
    match args.only_run {
        Some(number) => one(&program, server.as_ref(), &points, &stores, args, number),
        None => many(&program, server.as_ref(), &points, &stores, args),
    }
}

fn many(
    program: &Program,
    server: Option<&Server>,
    points: &Points,
    stores: &[Store],
    args: &Args,
) -> Result<()> {
    let directory =
        args.report.clone().unwrap_or_else(|| crate::shell::root().join("target/chaos"));
    std::fs::create_dir_all(&directory).context("could not make the directory of the report")?;
    let mut state = if args.resume { State::load(&directory)? } else { State::new(args.seed) };
    ensure!(state.seed == args.seed, "the report there is of seed {}", state.seed);
    let kills = args.kills.or_else(|| args.runs.is_none().then_some(KILLS)).unwrap_or(u64::MAX);
    let runs = args.runs.unwrap_or(u64::MAX);
    let mut told = Instant::now();
    while state.runs < runs && state.kills() < kills {
        let (number, begun) = (state.runs, Instant::now());
        let plan = args.plan(number, points, stores);
        let done = run::play(&plan, program, server)?;
        if !done.problems.is_empty() {
            tell_failure(args, number, &done);
        }
        state.add(number, &plan, done, begun.elapsed());
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            state.save(&directory)?;
            println!("{}", state.line());
        }
    }
    state.save(&directory)?;
    let report = Report::of(&state, points, args);
    report.write(&directory)?;
    println!("{}\n{}", state.line(), report.text());
    println!("report: {}", directory.join("report.html").display());
    match state.failures.len() {
        0 => Ok(()),
        failed => bail!("{failed} runs of {} were not as they should be", state.runs),
    }
}

/// Plays one run loudly.
fn one(
    program: &Program,
    server: Option<&Server>,
    points: &Points,
    stores: &[Store],
    args: &Args,
    number: u64,
) -> Result<()> {
    let plan = args.plan(number, points, stores);
    println!("{plan:#?}");
    let done = run::play(&plan, program, server)?;
    println!("{:#?}", done.totals);
    if done.problems.is_empty() {
        return Ok(());
    }
    tell_failure(args, number, &done);
    bail!("the run is not as it should be");
}

fn tell_failure(args: &Args, number: u64, done: &Done) {
    println!("run {number} FAILED:");
    done.problems.iter().take(20).for_each(|problem| println!("  {problem}"));
    done.left.iter().for_each(|left| println!("  what is left: {}", left.display()));
    println!("  again: {}", args.command(&format!("--only-run {number}")));
}

impl Args {
    fn plan(&self, number: u64, points: &Points, stores: &[Store]) -> Plan {
        if self.calls {
            return Plan::of_calls(self.seed, number, stores);
        }
        Plan::of(self.seed, number, points, stores)
    }

    /// The command that has this seed and these choices.
    fn command(&self, what: &str) -> String {
        let only: String = self.only.iter().map(|part| format!(" --only {part}")).collect();
        let (store, calls) = (self.store.name(), if self.calls { " --calls" } else { "" });
        format!("cargo xtask chaos --seed {} --store {store}{calls}{only} {what}", self.seed)
    }
}
