//! What has to happen even if this process is killed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// A shell that waits for the end of this process, however it ends, and then runs a script.
///
/// It reads from a pipe of which only this process holds the other end. Dropping the value calls
/// the shell off without running the script.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts the shell. The script finds the arguments as `$1`, `$2`, …
    ///
    /// # Errors
    /// If there is no shell.
    pub fn start(
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        // Ctrl-C at the terminal ends us and must not end the watchdog: it has a group of its own.
        let script = format!("trap '' INT TERM HUP\nread -r line\n{script}");
        let shell = Command::new("/bin/sh")
            .args(["-c", &script, "watchdog"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::directory::Directory;
    use super::super::until;
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    #[test]
    fn the_script_runs_when_the_other_end_of_the_pipe_closes_and_not_before() {
        let directory = Directory::create(None).unwrap();
        let trace = directory.path().join("trace");
        let mut watchdog = Watchdog::start("echo gone > \"$1\"", [&trace]).unwrap();
        assert!(watchdog.shell.try_wait().unwrap().is_none());
        assert!(!trace.exists());
        drop(watchdog.shell.stdin.take());
        assert!(until(BOUND, || trace.exists()));
    }

    #[test]
    fn a_watchdog_that_is_called_off_does_nothing() {
        let directory = Directory::create(None).unwrap();
        let trace = directory.path().join("trace");
        drop(Watchdog::start("echo gone > \"$1\"", [&trace]).unwrap());
        assert!(!trace.exists());
    }
}
