//! The example as a process of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use zmsg_testbed::private::{Watchdog, until};

use crate::feed::Place;

/// A worker that leased tasks and never heard of it leaves them until their lease ends: after
/// seconds here, so that a run does not wait for half a minute.
const LEASES: [(&str, &str); 2] =
    [("ZMSG__QUEUE__LEASE", "6s"), ("ZMSG__QUEUE__TASK_TIMEOUT", "4s")];

/// Ends the process with those that it started.
const KILL: &str = r#"kill -s KILL -- "-$1""#;

/// The running example. It is killed when the value is dropped, and when this process is.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: PathBuf,
    _watchdog: Watchdog,
}

impl Process {
    /// Starts it in a directory of its own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(
        program: &Path,
        place: &Place,
        directory: &Path,
        args: &[String],
    ) -> Result<Self> {
        let (config, passwords) = place.write(directory)?;
        let output = directory.join("output");
        let file = File::create(&output).context("could not make a file for the output")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config).arg("--no-progress").args(args);
        // Redis is made to forget what it has. Tasks in it would be lost, as it says of them.
        command.args(["--queue", "sql"]);
        command.envs(passwords).envs(LEASES);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("could not start {}", program.display()))?;
        let watchdog = Watchdog::start(KILL, [child.id().to_string()])?;
        Ok(Self { child, output, _watchdog: watchdog })
    }

    /// Whether it has not ended yet.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `bound`.
    pub(super) fn end(&mut self, bound: Duration) -> Result<ExitStatus> {
        let mut ended = None;
        until(bound, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        ended.with_context(|| format!("feed did not end within {bound:?}"))
    }

    /// All that it wrote.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let group = self.child.id().to_string();
            let _ = Command::new("/bin/sh").args(["-c", KILL, "sh", &group]).status();
        }
        let _ = self.child.wait();
    }
}
