//! `cargo xtask kills`: the example `feed` killed again and again, and started again each time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use zmsg_testbed::private::{Watchdog, until};

use crate::feed::{self, Profile};

/// For how long one run may go on.
const BOUND: Duration = Duration::from_secs(120);
/// What a message adds to the file of the progress at the very least: ten writes of two lines.
const BYTES_OF_MESSAGE: u64 = 150;

/// How often, and in a run of how many messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills, each while it writes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    kills: u64,
    /// Messages of the whole run
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(500..))]
    messages: u64,
    /// Decides after how many writes it is killed; one of its own for each run if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Compile the example as the tests are compiled, which is faster than for speed
    #[arg(long)]
    dev: bool,
}

/// Kills the example as often as it is told to, and lets it come to its end.
///
/// # Errors
/// If a start after a kill finds a difference, the totals at the end are not exact, or a run comes
/// to its end before it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = feed::build(if args.dev { Profile::Dev } else { Profile::Release })?;
    let scratch = tempfile::tempdir().context("could not make a temporary directory")?;
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{} messages, {} kills, --seed {seed}", args.messages, args.kills);
    let runs = Runs::of(&program, scratch.path(), args.messages);
    let most = args.messages * BYTES_OF_MESSAGE / args.kills;
    let mut random = seed;
    for kill in 0..args.kills {
        // Now and then at its first writes, of which some settle what the last kill left open.
        random = mixed(random);
        let more = 1 + random % if kill % 4 == 3 { 100 } else { most };
        runs.kill(kill, more).with_context(|| format!("kill {} of seed {seed}", kill + 1))?;
    }
    runs.end(args.kills).with_context(|| format!("the end, after the kills of seed {seed}"))
}

/// A step of splitmix64: numbers that a seed gives again.
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The runs on one directory.
struct Runs<'a> {
    program: &'a Path,
    messages: u64,
    directory: PathBuf,
    output: PathBuf,
}

impl<'a> Runs<'a> {
    fn of(program: &'a Path, scratch: &Path, messages: u64) -> Self {
        let (directory, output) = (scratch.join("feed"), scratch.join("output"));
        Self { program, messages, directory, output }
    }

    /// Starts it and kills it once it has written `more` to its progress.
    fn kill(&self, kill: u64, more: u64) -> Result<()> {
        let begin = self.progress();
        let mut running = self.start(kill > 0)?;
        let started = Instant::now();
        while self.progress() < begin + more {
            if let Some(status) = running.child.try_wait()? {
                bail!("it ended before it was killed ({status}):\n{}", self.output());
            }
            ensure!(started.elapsed() < BOUND, "it stands still:\n{}", self.output());
            // Nobody unparks this thread: a pause so short that the kill comes a few writes late.
            std::thread::park_timeout(Duration::from_millis(1));
        }
        running.child.kill().context("could not kill it")?;
        running.child.wait()?;
        print!("killed after {} bytes of progress: {}", self.progress() - begin, self.output());
        Ok(())
    }

    /// Starts it and waits for its exact end.
    fn end(&self, kills: u64) -> Result<()> {
        let mut running = self.start(kills > 0)?;
        let mut status = None;
        until(BOUND, || {
            status = running.child.try_wait().ok().flatten();
            status.is_some()
        });
        let output = self.output();
        let status =
            status.with_context(|| format!("it did not end within {BOUND:?}:\n{output}"))?;
        print!("{output}");
        ensure!(status.success(), "feed is not exact ({status})");
        println!("exact after {kills} kills");
        Ok(())
    }

    fn start(&self, again: bool) -> Result<Running> {
        let file = File::create(&self.output).context("could not make a file for the output")?;
        let mut command = Command::new(self.program);
        command.args(["--no-progress", "--messages", &self.messages.to_string(), "--directory"]);
        command.arg(&self.directory).args(again.then_some("--resume"));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("could not start the example")?;
        let watchdog = Watchdog::start(r#"kill -s KILL "$1""#, [child.id().to_string()])?;
        Ok(Running { child, _watchdog: watchdog })
    }

    /// How long the file of the progress is.
    fn progress(&self) -> u64 {
        fs::metadata(self.directory.join("feed.progress")).map_or(0, |file| file.len())
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }
}

/// The running example. It is killed when the value is dropped, and when this process is.
struct Running {
    child: Child,
    _watchdog: Watchdog,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
