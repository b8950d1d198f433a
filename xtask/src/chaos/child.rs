//! The process that is killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The example `chaos`.
#[derive(Debug, Clone)]
pub(super) struct Program(PathBuf);

/// One process. It is killed when the value is dropped, and ends by itself when we do: its stdin ends
/// then.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    _stdin: Option<ChildStdin>,
}

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
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Starts it; what it complains of goes to the end of `complaints`. The place of the database is
    /// no argument: it may hold a password.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(&self, args: &[String], store: &str, complaints: &Path) -> Result<Process> {
        let complaints = File::options().create(true).append(true).open(complaints);
        let complaints = complaints.context("could not make a file for complaints")?;
        let mut command = Command::new(&self.0);
        command.args(args).env("ZMSG_CHAOS_STORE", store);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        let started = command.spawn();
        let mut child = started.with_context(|| format!("could not start {}", self.0.display()))?;
        let out = child.stdout.take().context("the process has no output")?;
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                // A last line without its end was cut by the kill, and says nothing.
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Process { child, lines, reader: Some(reader), _stdin: stdin })
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

    /// Kills it, waits for its end, and gives what it had still written.
    pub(super) fn kill(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.lines.try_iter().collect()
    }

    /// Whether it ended by itself, and then whether it succeeded.
    pub(super) fn has_ended(&mut self) -> Option<bool> {
        let status = self.child.try_wait().ok().flatten()?;
        status.code().map(|code| code == 0)
    }

    /// Waits for the end of one that wrote its last line. Whether it succeeded.
    ///
    /// # Errors
    /// If it does not end within `bound`.
    pub(super) fn end(&mut self, bound: Duration) -> Result<bool> {
        let until = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().context("the process is lost")? {
                return Ok(status.success());
            }
            if Instant::now() > until {
                bail!("the process closed its output and did not end within {bound:?}");
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
