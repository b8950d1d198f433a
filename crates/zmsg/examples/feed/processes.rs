//! Several processes on the same servers: each replays its share, and one adds up their counts.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use zmsg::{CloseReport, Config};

use crate::args::Args;
use crate::expected::Expected;
use crate::queue;

/// Starts the processes, waits for all of them and adds up what they counted.
pub(crate) async fn run(args: &Args, config: &Config, scratch: &Path) -> Result<Expected> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut running = Vec::new();
    for part in 0..args.processes {
        let count = scratch.join(format!("count-{part}.json"));
        let mut command = Command::new(&program);
        // The same words once more: both have to cut the same stream.
        command.args(std::env::args_os().skip(1).filter(|word| word != "--reset"));
        command.args(["--no-progress", "--part", &part.to_string(), "--count"]).arg(&count);
        if let Some(secret) = &config.queue.secret {
            command.env(queue::SECRET, secret.expose());
        }
        command.kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("could not start process {part}"))?;
        running.push((part, count, child));
    }
    let mut all = Expected::default();
    for (part, count, mut child) in running {
        let ended = child.wait().await?;
        if !ended.success() {
            bail!("process {part} failed: {ended}");
        }
        all.merge(read(&count)?);
    }
    Ok(all)
}

/// Leaves what this process counted for the one that adds up.
pub(crate) fn write(count: &Path, expected: &Expected, closed: &CloseReport) -> Result<()> {
    if !closed.is_clean() {
        bail!("close left something behind: {closed:?}");
    }
    let file =
        File::create(count).with_context(|| format!("could not make {}", count.display()))?;
    Ok(serde_json::to_writer(BufWriter::new(file), expected)?)
}

fn read(count: &Path) -> Result<Expected> {
    let file = File::open(count).with_context(|| format!("{} is missing", count.display()))?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}
