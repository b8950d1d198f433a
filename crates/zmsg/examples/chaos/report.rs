//! Lines for whoever started this process.

use std::fmt;
use std::io::Write;

/// Writes a line to stdout at once and in one piece: what was written reaches the reader also if the
/// process is killed right behind it.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    // Formatted first: the lock is held for one write.
    let text = format!("{text}\n");
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the process is about to be killed.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
