//! This process lives no longer than the one that started it.

use std::io::Read;

use anyhow::{Context, Result};
use rustix::process::{Signal, getpid, kill_process};

/// Ends this process, as a kill does, when its stdin ends. A thread of its own waits for that.
pub(crate) fn follow() -> Result<()> {
    let wait = || {
        let mut nothing = [0; 64];
        while matches!(std::io::stdin().read(&mut nothing), Ok(read) if read > 0) {}
        let _ = kill_process(getpid(), Signal::KILL);
    };
    let thread = std::thread::Builder::new().name("parent".to_owned()).spawn(wait);
    thread.map(drop).context("could not wait for the end of the parent")
}
