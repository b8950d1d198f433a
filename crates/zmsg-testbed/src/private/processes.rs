//! Signals to processes that we started, and to their children.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

/// A signal, by the name that `kill` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Int,
    Quit,
    Term,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// Sends a signal to these processes; those that are gone already do not matter.
///
/// std cannot send signals, and the shell's own `kill` is on every machine.
pub(super) fn send(signal: Signal, processes: &[u32]) -> io::Result<()> {
    if processes.is_empty() {
        return Ok(());
    }
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "for p; do kill -\"$0\" \"$p\"; done; :", signal.name()]);
    shell.args(processes.iter().map(u32::to_string));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

/// The children of a process, where the system has `/proc`.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|&process| stat(process).is_some_and(|(_, of)| of == parent)).collect()
}

/// Whether a process runs or could run again: one that waits to be reaped cannot.
pub(super) fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::until;
    use super::*;

    #[test]
    fn a_child_is_found_stopped_continued_and_killed() {
        let bound = Duration::from_secs(10);
        let mut shell = Command::new("/bin/sh");
        let mut child = shell.args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let id = child.id();
        assert!(children(std::process::id()).contains(&id));
        send(Signal::Stop, &[id]).unwrap();
        assert!(until(bound, || stat(id).is_some_and(|(state, _)| state == 'T')));
        send(Signal::Continue, &[id]).unwrap();
        assert!(until(bound, || stat(id).is_some_and(|(state, _)| state != 'T')));
        assert!(is_alive(id));
        send(Signal::Kill, &[id]).unwrap();
        assert!(until(bound, || !is_alive(id)));
        child.wait().unwrap();
    }
}
