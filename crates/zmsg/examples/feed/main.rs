//! The main job: a chat application on zmsg, from many tasks at once, and every total checked.
//!
//! `cargo run --release --example feed` needs no server. `--input FILE` replays a real stream;
//! `--config zmsg.yaml` runs on the servers that the file names, `--processes 4` from several
//! processes at once. With `--directory DIR` it may be killed at any moment: the same line with
//! `--resume` goes on, and the totals are exact all the same.

mod args;
mod queue;
mod input;
mod workload;
mod worker;
mod sent;
mod effect;
mod expected;
mod progress;
mod resume;
mod patience;
mod processes;
mod zipf;
mod latency;
mod check;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use zmsg::{CloseReport, Config, SchemaDir, Source, Zmsg};

use args::Args;
use expected::Expected;
use input::Stream;
use latency::Latencies;
use progress::Progress;
use workload::Workload;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let stream = input::read(&args)?;
    if stream.messages.is_empty() {
        bail!("there is no message to replay ({} malformed lines)", stream.malformed);
    }
    let scratch = tempfile::tempdir().context("could not make a temporary directory")?;
    let mut config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::embedded(args.directory.as_deref().unwrap_or(scratch.path())),
    };
    queue::choose(&mut config, args.queue);
    if let (Some(part), Some(count)) = (args.part, &args.count) {
        // A journal has one process.
        if config.directory != Config::default().directory {
            config.directory = config.directory.join(format!("process-{part}"));
        }
        let workload = Workload::new(open(&config).await?, &args);
        let (counted, _, closed) = replay(workload, &stream, &args).await?;
        return processes::write(count, &counted, &closed);
    }

    let zmsg = open(&config).await?;
    let workload = begin(&zmsg, &config, &stream, &args).await?;
    println!(
        "{} messages from {} tasks of {} processes into {}, delayed writes by the {:?} queue",
        stream.messages.len(),
        args.tasks,
        args.processes,
        place(&config),
        config.queue.backend
    );
    let started = Instant::now();
    let (expected, closed) = if args.processes > 1 {
        let closed = zmsg.close(Duration::from_secs(60)).await?;
        let expected = processes::run(&args, &config, scratch.path()).await?;
        report::brief(&stream, &expected, started.elapsed());
        (expected, closed)
    } else {
        let (expected, latencies, closed) = replay(workload, &stream, &args).await?;
        let stats = zmsg.stats().await;
        report::print(&stream, &expected, &latencies, &stats, &closed, started.elapsed());
        (expected, closed)
    };
    verify(&config, &expected, &closed).await
}

/// Makes sure that the tables hold what the stream is to come on top of: nothing, or what a killed
/// run had come to.
async fn begin(zmsg: &Zmsg, config: &Config, stream: &Stream, args: &Args) -> Result<Workload> {
    let workload = Workload::new(zmsg.clone(), args);
    let pasts = if args.resume { resume::settle(zmsg, stream, args).await? } else { None };
    if args.reset {
        // What an earlier run left in the queue belongs to its rows.
        check::drained(zmsg).await?;
        schema(zmsg).rollback(1).await?;
        schema(zmsg).migrate().await?;
    }
    if pasts.is_none() && !check::is_empty(zmsg).await? {
        bail!(
            "{} holds the messages of an earlier run, which this run could not tell from its own; \
             name an empty one, or say --reset (or --resume, if it was killed)",
            place(config)
        );
    }
    let Some(directory) = &args.directory else { return Ok(workload) };
    let progress = Progress::open(directory, args, pasts.is_some())?;
    Ok(workload.goes_on(pasts.unwrap_or_default(), progress))
}

/// Replays the stream, or this process's part of it, and closes the engine.
async fn replay(
    workload: Workload,
    stream: &Stream,
    args: &Args,
) -> Result<(Expected, Latencies, CloseReport)> {
    let zmsg = workload.zmsg.clone();
    let (expected, latencies) = Arc::new(workload).run(stream, args).await?;
    let closed = zmsg.close(Duration::from_secs(60)).await?;
    Ok((expected, latencies, closed))
}

/// The database, without what may be secret in its address.
fn place(config: &Config) -> String {
    match config.store.url.split_once("://") {
        Some((_, rest)) => rest.rsplit('@').next().unwrap_or_default().to_owned(),
        None => config.directory.display().to_string(),
    }
}

async fn open(config: &Config) -> Result<Zmsg> {
    let zmsg = Zmsg::open(config.clone()).await?;
    schema(&zmsg).migrate().await?;
    zmsg.register(
        Source::sql("msg", "SELECT body FROM messages WHERE id = ?")
            .keys("SELECT id FROM messages"),
    )?;
    Ok(zmsg)
}

fn schema(zmsg: &Zmsg) -> SchemaDir {
    zmsg.load_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/feed/schema"))
}

/// Opens the directory anew, as the next start of the application would, lets the queue drain,
/// and compares every total with the application's own count.
async fn verify(config: &Config, expected: &Expected, closed: &CloseReport) -> Result<()> {
    let zmsg = open(config).await?;
    check::drained(&zmsg).await?;
    let differences = check::differences(&zmsg, expected, closed).await?;
    let _ = zmsg.close(Duration::from_secs(60)).await?;
    if differences.is_empty() {
        println!("every total in the database equals the application's own count");
        return Ok(());
    }
    check::show(&differences);
    bail!("{} differences between the database and the application's own count", differences.len())
}
