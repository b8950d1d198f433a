//! The main job: a chat application on zmsg, from many tasks at once, and every total checked.
//!
//! `cargo run --release --example feed` needs no server. `--input FILE` replays a real stream.

mod args;
mod input;
mod workload;
mod expected;
mod zipf;
mod latency;
mod check;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use zmsg::{CloseReport, Config, Source, Zmsg};

use args::Args;
use expected::Expected;
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
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::embedded(args.directory.as_deref().unwrap_or(scratch.path())),
    };

    let zmsg = open(&config).await?;
    if !check::is_empty(&zmsg).await? {
        bail!(
            "{} holds the messages of an earlier run, which this run could not tell from its own; \
             name an empty directory",
            config.directory.display()
        );
    }
    println!(
        "{} messages from {} tasks into {}",
        stream.messages.len(),
        args.tasks,
        config.directory.display()
    );
    let workload = Arc::new(Workload::new(zmsg.clone(), &args));
    let started = Instant::now();
    let (expected, latencies) = workload.run(&stream, &args).await?;
    let elapsed = started.elapsed();
    let stats = zmsg.stats().await;
    let closed = zmsg.close(Duration::from_secs(60)).await?;
    report::print(&stream, &expected, &latencies, &stats, &closed, elapsed);

    verify(&config, &expected, &closed).await
}

async fn open(config: &Config) -> Result<Zmsg> {
    let zmsg = Zmsg::open(config.clone()).await?;
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/feed/schema");
    zmsg.load_dir(schema).migrate().await?;
    zmsg.register(
        Source::sql("msg", "SELECT body FROM messages WHERE id = ?")
            .keys("SELECT id FROM messages"),
    )?;
    Ok(zmsg)
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
    for difference in differences.iter().take(20) {
        eprintln!("difference: {difference}");
    }
    bail!("{} differences between the database and the application's own count", differences.len())
}
