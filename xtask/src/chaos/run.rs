//! A run: processes that are killed, one that finishes, and the comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use zmsg_testbed::Database;

use super::check::{Verdict, check};
use super::child::{Next, Process, Program};
use super::history::{Effect, History};
use super::plan::{Kill, Place, Plan, Store, is_at_end};
use super::postgres::Server;
use super::state::Counts;
use super::tables::Tables;

/// How long a process may take to open its engine, with all that it has to recover.
const OPEN_BOUND: Duration = Duration::from_secs(60);

/// How long the last process may take, leases of killed workers included.
const FINISH_BOUND: Duration = Duration::from_secs(120);

/// After so many acknowledgements, or so long, a process that does not come to its failpoint is killed
/// all the same.
const ACKS_MAX: u64 = 1_500;
const WORK_BOUND: Duration = Duration::from_millis(1_500);

/// The numbers of the second process's writes begin so far above those of the first, and what it
/// reports is told by rounds from here on.
const NUMBERS: u64 = 1_000_000;
pub(super) const COMPANIONS: usize = 1_000;

/// Where the kills at no failpoint are counted.
pub(super) const ANYWHERE: &str = "a random moment";

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What is not as it should be.
    pub(super) problems: Vec<String>,
    /// By route and by where the process that made the writes was killed.
    pub(super) totals: BTreeMap<(String, String), Counts>,
    /// Kills that were planned at a failpoint, and whether the process came to it.
    pub(super) planned: Vec<(String, bool)>,
    pub(super) kills: u64,
    /// What is left of a run that was not as it should be: its files, what its processes complained
    /// of, and what they reported.
    pub(super) left: Option<PathBuf>,
}

/// A run while it is played.
struct Run<'a> {
    plan: &'a Plan,
    program: &'a Program,
    dir: PathBuf,
    store: String,
    history: History,
    /// Directories whose journals were left by processes that never come back.
    orphans: Vec<PathBuf>,
    /// Where each process was killed.
    places: Vec<String>,
    done: Done,
}

/// Plays a run.
///
/// # Errors
/// If processes or files cannot be used; what is wrong with the engine is among the problems.
pub(super) fn play(plan: &Plan, program: &Program, server: Option<&Server>) -> Result<Done> {
    let scratch = tempfile::tempdir().context("could not make a temporary directory")?;
    let database = match plan.store {
        Store::Sqlite => None,
        Store::Postgres => Some(server.context("there is no PostgreSQL")?.database()),
    };
    // One file for all engines, whatever directory they have.
    let file = || format!("sqlite:{}", scratch.path().join("tables.db").display());
    let mut run = Run {
        plan,
        program,
        dir: scratch.path().join("engine"),
        store: database.as_ref().map_or_else(file, |database| database.url().to_owned()),
        history: History::default(),
        orphans: Vec::new(),
        places: Vec::new(),
        done: Done::default(),
    };
    run.whole(scratch.path(), server.zip(database.as_ref()))?;
    if !run.done.problems.is_empty() && plan.sabotage.is_none() {
        let reported = run.history.lines.join("\n");
        std::fs::write(scratch.path().join("history"), reported).context("could not write")?;
        run.done.left = Some(scratch.keep());
    }
    Ok(run.done)
}

impl Run<'_> {
    fn whole(&mut self, scratch: &Path, server: Option<(&Server, &Database)>) -> Result<()> {
        let complaints = scratch.join("complaints");
        let played = self.processes(scratch, &complaints);
        let tables = match played {
            Ok(tables) => tables,
            Err(error) => {
                let said = std::fs::read_to_string(&complaints).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(12).collect();
                self.done.problems.push(format!("{error:#}"));
                self.done.problems.extend(last.into_iter().rev().map(|line| format!("  {line}")));
                return Ok(());
            }
        };
        if let Some((server, database)) = server
            && !server.tables(database)?.has_rows_of(&tables)
        {
            self.done.problems.push("the engine reads other rows than are there".to_owned());
        }
        let dirs = [&self.dir, &self.companion_dir()].map(|dir| dir.join("journal"));
        let left: usize =
            dirs.iter().map(|dir| std::fs::read_dir(dir).map_or(0, Iterator::count)).sum();
        if left > 0 {
            self.done.problems.push(format!("{left} streams stay behind in the journal"));
        }
        self.done.problems.extend(self.history.errors.iter().map(|it| format!("an error: {it}")));
        let verdict = check(&self.history, &tables);
        self.count(&verdict);
        self.done.problems.extend(verdict.problems);
        Ok(())
    }

    fn processes(&mut self, scratch: &Path, complaints: &Path) -> Result<Tables> {
        let mut create = self.start(&["--create".to_owned()], complaints, &[])?;
        ensure!(create.end(OPEN_BOUND)?.success(), "the tables could not be made");
        for (round, kill) in self.plan.kills.iter().enumerate() {
            if kill.adopts {
                self.orphan(&scratch.join(format!("orphan-{round}")))?;
            }
            let companion = self.companion(kill, complaints)?;
            let args = self.args(kill);
            let process = self.start(&args, complaints, &tracer(&kill.at))?;
            let place = self.kill(round, kill, process)?;
            self.places.push(place);
            if let Some(companion) = companion {
                self.kill_companion(round, companion)?;
            }
        }
        // It may have been killed each time before it made its directory.
        self.orphans.extend(Some(self.companion_dir()).filter(|dir| dir.exists()));
        let finish = self.start(&["--finish".to_owned()], complaints, &[])?;
        self.finish(finish)
    }

    /// Starts the second process, on its own directory.
    fn companion(&self, kill: &Kill, complaints: &Path) -> Result<Option<Process>> {
        if !self.plan.companion {
            return Ok(None);
        }
        let mut args = self.shape();
        args.extend([
            format!("--dir={}", self.companion_dir().display()),
            format!("--first={}", self.history.next() + NUMBERS),
            format!("--seed={}", kill.seed ^ 1),
            format!("--mix={}", kill.mix),
            format!("--interval={}", kill.interval),
        ]);
        self.program.start(&args, &self.store, complaints, &[]).map(Some)
    }

    fn companion_dir(&self) -> PathBuf {
        self.dir.with_file_name("companion")
    }

    fn kill_companion(&mut self, round: usize, mut companion: Process) -> Result<()> {
        let code = companion.code();
        for line in companion.kill() {
            self.history.take(round + COMPANIONS, &line);
        }
        ensure!(code.is_none(), "the second process ended by itself");
        self.done.kills += 1;
        Ok(())
    }

    /// Moves what was left in the journal to another directory, as if its machine's disk was brought
    /// to another one.
    fn orphan(&mut self, orphan: &Path) -> Result<()> {
        let journal = self.dir.join("journal");
        if journal.exists() {
            std::fs::create_dir(orphan).context("could not make a directory")?;
            let moved = std::fs::rename(&journal, orphan.join("journal"));
            moved.context("could not move the journal")?;
            self.orphans.push(orphan.to_owned());
        }
        Ok(())
    }

    fn start(&self, args: &[String], complaints: &Path, tracer: &[String]) -> Result<Process> {
        let mut all = vec!["--dir".to_owned(), self.dir.display().to_string()];
        all.extend_from_slice(args);
        let orphans = self.orphans.iter();
        all.extend(orphans.flat_map(|it| ["--adopt".to_owned(), it.display().to_string()]));
        all.extend(self.shape());
        self.program.start(&all, &self.store, complaints, tracer)
    }

    /// What all processes of the run have in common.
    fn shape(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(bytes) = self.plan.segment {
            all.extend(["--segment".to_owned(), bytes.to_string()]);
        }
        if let Some(rule) = &self.plan.sabotage {
            all.extend(["--sabotage".to_owned(), rule.clone()]);
        }
        all.push(format!("--queue={}", self.plan.queue));
        if self.plan.remote {
            all.push("--remote".to_owned());
        }
        if self.plan.companion {
            all.push("--shared".to_owned());
        }
        all
    }

    fn args(&self, kill: &Kill) -> Vec<String> {
        let mut args = vec![
            format!("--seed={}", kill.seed),
            format!("--first={}", self.history.next()),
            format!("--mix={}", kill.mix),
            format!("--interval={}", kill.interval),
        ];
        if let Place::Point(name, hit) = &kill.at {
            args.push(format!("--kill-at={name}:{hit}"));
            if is_at_end(name) {
                args.push("--writes=60".to_owned());
            }
        }
        args
    }

    /// Reads what a process reports until it is killed, and says where that was.
    fn kill(&mut self, round: usize, kill: &Kill, process: Process) -> Result<String> {
        let before = self.history.acked;
        let (mut until, mut open) = (Instant::now() + OPEN_BOUND, false);
        if let Place::Start(micros) = kill.at {
            (until, open) = (Instant::now() + Duration::from_micros(micros), true);
        }
        loop {
            let line = match process.next(until) {
                Next::Line(line) => line,
                Next::Nothing if !open => bail!("an engine was not open within {OPEN_BOUND:?}"),
                Next::Nothing => break,
                Next::Ended => return self.ended(kill, process),
            };
            self.history.take(round, &line);
            if line == "R" && !open {
                (until, open) = (Instant::now() + WORK_BOUND, true);
            }
            let acks = self.history.acked - before;
            match kill.at {
                Place::Acks(wanted, micros) if acks >= wanted => {
                    let until = Instant::now() + Duration::from_micros(micros);
                    while let Next::Line(line) = process.next(until) {
                        self.history.take(round, &line);
                    }
                    break;
                }
                Place::Point(..) | Place::Call(..) if acks >= ACKS_MAX => break,
                _ => {}
            }
        }
        for line in process.kill() {
            self.history.take(round, &line);
        }
        self.done.kills += 1;
        // It may have come to its failpoint in the last moment.
        Ok(self.killed_at(kill, self.history.killed_at_point(round)))
    }

    /// A process that has ended: killed where it should be, or closed, or unable to go on.
    fn ended(&mut self, kill: &Kill, mut process: Process) -> Result<String> {
        let status = process.end(OPEN_BOUND)?;
        match status.code() {
            None => self.done.kills += 1,
            Some(0) => {}
            Some(_) => bail!("a process, to be killed at {}, ended with an error", kill.at),
        }
        Ok(self.killed_at(kill, status.code().is_none()))
    }

    /// Notes whether a process came to its failpoint, and says where it was killed.
    fn killed_at(&mut self, kill: &Kill, reached: bool) -> String {
        let Some(name) = kill.at.name() else { return ANYWHERE.to_owned() };
        self.done.planned.push((name.clone(), reached));
        if reached { name } else { ANYWHERE.to_owned() }
    }

    fn finish(&mut self, mut process: Process) -> Result<Tables> {
        let until = Instant::now() + FINISH_BOUND;
        let round = self.places.len();
        let mut tables = Tables::default();
        let mut complete = false;
        loop {
            match process.next(until) {
                Next::Line(line) => match line.strip_prefix("T ") {
                    Some(row) => tables.take(row)?,
                    None => {
                        complete |= line == "Z";
                        self.history.take(round, &line);
                    }
                },
                Next::Ended => break,
                Next::Nothing => bail!("the last process took longer than {FINISH_BOUND:?}"),
            }
        }
        ensure!(process.end(OPEN_BOUND)?.success() && complete, "the last process failed");
        Ok(tables)
    }

    fn count(&mut self, verdict: &Verdict) {
        for (op, it) in &self.history.ops {
            let place = self.places.get(it.round).map_or(ANYWHERE, String::as_str);
            let key = (it.route().to_owned(), place.to_owned());
            let counts = self.done.totals.entry(key).or_default();
            counts.submitted += 1;
            if it.is_acked() {
                counts.acknowledged += 1
            } else {
                counts.unknown += 1
            }
            // Which of those that share a counter took effect cannot be told.
            let shown = verdict.times.get(op).copied();
            let times = shown.unwrap_or(u64::from(it.effect() == Effect::Count && it.is_acked()));
            counts.applied += times.min(1);
            counts.lost += verdict.lost.get(op).copied().unwrap_or_default();
            counts.doubled += verdict.doubled.get(op).copied().unwrap_or_default();
        }
    }
}

/// What starts a process that is to be killed as it enters a call of the system.
fn tracer(place: &Place) -> Vec<String> {
    let Place::Call(name, hit) = place else { return Vec::new() };
    let words = [
        "strace".to_owned(),
        "--follow-forks".to_owned(),
        "--quiet=all".to_owned(),
        "--seccomp-bpf".to_owned(),
        format!("--trace={name}"),
        "--output=/dev/null".to_owned(),
        format!("--inject={name}:signal=KILL:when={hit}"),
    ];
    words.to_vec()
}
