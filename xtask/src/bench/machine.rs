//! What was measured on: without it a figure says nothing.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::services::Services;
use crate::shell::{program, root};

/// Facts and what they are, in the order in which they are shown.
///
/// # Errors
/// If a server does not tell its settings.
pub(super) fn facts(services: &Services) -> Result<Vec<(String, String)>> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let said = |name: &str, args: &[&str]| {
        let output = program(name).at_root().with(args.iter().copied()).read();
        output.map_or("unknown".to_owned(), |it| String::from_utf8_lossy(&it).trim().to_owned())
    };
    let mut facts = vec![
        ("CPU", format!("{cpus} × {}", line_of("/proc/cpuinfo", "model name"))),
        ("memory", line_of("/proc/meminfo", "MemTotal")),
        ("kernel", said("uname", &["-sr"])),
        ("file system", file_system(root())),
        ("Rust", said("rustc", &["--version"])),
    ];
    let go = program("go").with(["version"]);
    if go.succeeds() {
        facts.push(("Go", said("go", &["version"])));
    }
    let mut facts: Vec<_> =
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    facts.extend(services.facts()?);
    Ok(facts)
}

/// What stands behind a name and a colon in a file of the kernel.
fn line_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
    value.unwrap_or("unknown").to_owned()
}

/// The kind and the options of the file system that a path is on.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of_path = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind, options) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(place).then(|| (place.len(), format!("{kind} ({options})")))
    });
    of_path.max().map_or("unknown".to_owned(), |(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        assert_ne!(line_of("/proc/meminfo", "MemTotal"), "unknown");
        assert_ne!(file_system(root()), "unknown");
        assert_eq!(line_of("/nowhere", "x"), "unknown");
    }
}
