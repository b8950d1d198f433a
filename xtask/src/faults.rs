//! `cargo xtask faults`: the example `feed` through every fault, its totals exact each time.

mod scenario; // start here: the faults
mod of_postgres;
mod of_redis;
mod of_redises;
mod of_both;
mod stage;
mod servers;
mod redises;
mod process;
mod sql;
mod resp;
mod summary;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use zmsg_testbed::Requirement;
use zmsg_testbed::private::Binaries;

use crate::feed::{self, Profile};
use process::Process;
use redises::Redises;
use scenario::{SCENARIOS, Scenario};
use servers::{Servers, tail};
use sql::Sql;
use stage::Stage;
use summary::{Exact, Row, table};

/// How long `feed` may go on after its fault is over.
const BOUND: Duration = Duration::from_secs(120);

/// What of it is played, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Play only the scenarios whose names contain this
    #[arg(long)]
    only: Vec<String>,
    /// Messages of each run
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(500..))]
    messages: u64,
    /// Compile the example as the tests are compiled, which is faster than `--release`
    #[arg(long, conflicts_with = "release")]
    dev: bool,
    /// Compile the example for speed: the default
    #[arg(long)]
    release: bool,
    /// Tell the scenarios and play none
    #[arg(long)]
    list: bool,
}

/// Plays the scenarios, each on servers of ours, and shows what came of them.
///
/// # Errors
/// If in one of them the totals are not exact, `feed` does not end, or the fault did not strike.
///
/// # Panics
/// If programs of servers are missing and `ZMSG_TEST_REQUIRE` names `binaries`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = chosen(&args.only)?;
    if args.list {
        let width = chosen.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
        chosen.iter().for_each(|Scenario { name, what, .. }| println!("{name:width$}  {what}"));
        return Ok(());
    }
    let binaries = Binaries::find();
    if binaries.postgres.is_none() || binaries.redis.is_none() {
        Requirement::Binaries.leave_out("postgres or redis-server is not on this machine");
        return Ok(());
    }
    let program = feed::build(if args.dev { Profile::Dev } else { Profile::Release })?;
    let mut servers = None;
    let rows: Vec<Row> = chosen
        .into_iter()
        .map(|scenario| row(scenario, &mut servers, &binaries, &program, args.messages))
        .collect();
    println!("\n{}", table(&rows));
    match rows.iter().filter(|row| row.result.is_err()).count() {
        0 => Ok(()),
        1 => bail!("feed did not go through a fault"),
        failed => bail!("feed did not go through {failed} faults"),
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part));
    let chosen: Vec<_> = SCENARIOS.iter().filter(|scenario| wanted(scenario.name)).collect();
    ensure!(!chosen.is_empty(), "no scenario is named so; --list tells their names");
    Ok(chosen)
}

/// Plays a scenario on the servers of the one before; after a failure they are started anew.
fn row(
    scenario: &Scenario,
    servers: &mut Option<Servers>,
    binaries: &Binaries,
    program: &Path,
    messages: u64,
) -> Row {
    println!("{}: {}", scenario.name, scenario.what);
    let begun = Instant::now();
    let played = match servers.take() {
        Some(servers) => Ok(servers),
        None => Servers::start(binaries),
    }
    .and_then(|used| play(scenario, servers.insert(used), program, messages));
    if let Err(error) = &played {
        println!("FAILED: {error:#}");
        if let Some(servers) = servers.take() {
            println!("{}\n", servers.log_tails());
        }
    }
    let result = played.map_err(|error| format!("{error:#}"));
    Row { name: scenario.name, messages, took: begun.elapsed(), result }
}

/// `cache.negative_ttl` by default, with what varies it and a margin.
const NEGATIVE_TTL_SECONDS: u64 = 8;

/// Runs `feed`, strikes in the middle, and waits for an exact end.
fn play(scenario: &Scenario, servers: &Servers, program: &Path, messages: u64) -> Result<Exact> {
    let database = servers.database()?;
    let mut sql = Sql::at(database.url())?;
    (scenario.prepare)(servers, &mut sql)?;
    let scratch = tempfile::tempdir().context("could not make a temporary directory")?;
    let mut args = vec!["--messages".to_owned(), messages.to_string()];
    if scenario.processes > 1 {
        args.extend(["--processes".to_owned(), scenario.processes.to_string()]);
    }
    if scenario.forgets {
        args.extend(["--absent-for".to_owned(), NEGATIVE_TTL_SECONDS.to_string()]);
    }
    let redises = Redises::start(scenario.redis, &servers.redis_server)?;
    let place = servers.place(&database, &redises);
    let feed = Process::start(program, &place, scratch.path(), &args)?;
    let mut stage = Stage { servers, redises: &redises, sql, feed, messages };
    let ended = (scenario.strike)(&mut stage).and_then(|struck| {
        ensure!(stage.feed.is_running(), "feed ended before the fault was over");
        let status = stage.feed.end(BOUND)?;
        ensure!(status.success(), "feed is not exact ({status})");
        Ok(Exact::of(struck, &stage.feed.output()))
    });
    if ended.is_err() {
        println!("feed:\n{}", tail(&stage.feed.output(), 60));
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_a_part_of_their_names() {
        assert_eq!(chosen(&[]).unwrap().len(), SCENARIOS.len());
        let some = chosen(&["redis-full".into(), "commit-lost".into()]).unwrap();
        let names: Vec<_> = some.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["postgres-commit-lost", "redis-full", "nodes-commit-lost"]);
        assert!(chosen(&["no-such".into()]).is_err());
    }
}
