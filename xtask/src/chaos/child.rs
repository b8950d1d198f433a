//! The process that is killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// The example `chaos`.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    _directory: TempDir,
}

/// One process. It is killed when the value is dropped, and ends by itself when we do: its stdin ends
/// then.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    stdin: Option<ChildStdin>,
    is_traced: bool,
}

/// How long a traced process may take to see that its stdin has ended.
const TRACED_END: Duration = Duration::from_secs(10);

/// What comes next from a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Line(String),
    /// There is none yet.
    Nothing,
    /// It has ended, and everything it wrote was read.
    Ended,
}

impl Program {
    /// The program as it is now: who compiles it anew meanwhile must not change a run of hours.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub(super) fn kept(path: &Path) -> Result<Self> {
        let directory = tempfile::tempdir().context("could not make a temporary directory")?;
        let own = directory.path().join("chaos");
        if std::fs::hard_link(path, &own).is_err() {
            std::fs::copy(path, &own).context("could not copy the program")?;
        }
        Ok(Self { path: own, _directory: directory })
    }

    /// Starts it, behind a tracer if there is one; what it complains of goes to the end of
    /// `complaints`. The place of the database is no argument: it may hold a password.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(
        &self,
        args: &[String],
        store: &str,
        complaints: &Path,
        tracer: &[String],
    ) -> Result<Process> {
        let complaints = File::options().create(true).append(true).open(complaints);
        let complaints = complaints.context("could not make a file for complaints")?;
        let mut command = match tracer.split_first() {
            Some((tracer, options)) => {
                let mut command = Command::new(tracer);
                command.args(options).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        command.args(args).env("ZMSG_CHAOS_STORE", store);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        let started = command.spawn();
        let mut child =
            started.with_context(|| format!("could not start {}", self.path.display()))?;
        let out = child.stdout.take().context("the process has no output")?;
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                // Each line is one short write to the pipe, so that a kill cuts none of them.
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Process { child, lines, reader: Some(reader), stdin, is_traced: !tracer.is_empty() })
    }
}

impl Process {
    /// The next line, waited for until `until`.
    pub(super) fn next(&self, until: Instant) -> Next {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }

    /// The code with which it has ended by itself, if it has.
    pub(super) fn code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// Kills it, waits for its end, and gives what it had still written.
    pub(super) fn kill(mut self) -> Vec<String> {
        if self.is_traced {
            // Not the tracer first: the calls of what it traced would fail from then on. The end of its
            // stdin reaches the process itself.
            drop(self.stdin.take());
            let _ = self.end(TRACED_END);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.lines.try_iter().collect()
    }

    /// Waits for the end of one that closed its output.
    ///
    /// # Errors
    /// If it does not end within `bound`.
    pub(super) fn end(&mut self, bound: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().context("the process is lost")? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("the process did not end within {bound:?}");
            }
            // Nobody unparks this thread: it is a pause between two looks.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
