//! What a run measured, and on what; kept in a file.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figures::{Figure, LeftOut};
use super::targets::metadata;
use crate::shell::program;

/// The results of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Results {
    /// The day, by UTC.
    pub(super) day: String,
    /// The commit, with a mark if more had changed.
    pub(super) commit: String,
    pub(super) quick: bool,
    pub(super) machine: Vec<(String, String)>,
    pub(super) figures: Vec<Figure>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Results {
    /// None yet, of today and of what is checked out.
    ///
    /// # Errors
    /// If the day cannot be asked for.
    pub(super) fn begin(machine: Vec<(String, String)>, quick: bool) -> Result<Self> {
        let text = |output: Vec<u8>| String::from_utf8_lossy(&output).trim().to_owned();
        let day = text(program("date").with(["-u", "+%F"]).read()?);
        let git = program("git").at_root().with(["describe", "--always", "--dirty"]);
        let commit = git.read().map_or("not in a repository".to_owned(), text);
        Ok(Self { day, commit, quick, machine, figures: vec![], left_out: vec![] })
    }

    /// Adds what one target measured.
    pub(super) fn add(&mut self, figures: Vec<Figure>, left_out: Vec<LeftOut>) {
        self.figures.extend(figures);
        self.left_out.extend(left_out);
    }

    /// Says that a target failed, and why.
    pub(super) fn failed(&mut self, target: &str, error: &anyhow::Error) {
        let why = format!("it failed: {error:#}");
        let name = || target.to_owned();
        self.left_out.push(LeftOut { target: name(), left_out: name(), why });
    }

    /// Keeps them under a name, instead of those that had it.
    ///
    /// # Errors
    /// If the name is none, or the file cannot be written.
    pub(super) fn save(&self, name: &str) -> Result<PathBuf> {
        let path = path(name)?;
        fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }

    /// Those that were kept under a name.
    ///
    /// # Errors
    /// If there are none, or another version wrote them.
    pub(super) fn load(name: &str) -> Result<Self> {
        let path = path(name)?;
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "no results at {}: `cargo xtask bench --save {name}` makes them",
                path.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is of another version: measure again", path.display()))
    }
}

/// Beside what cargo builds, wherever that is.
fn path(name: &str) -> Result<PathBuf> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_good = !name.is_empty() && !name.starts_with('.') && name.chars().all(is_name);
    ensure!(is_good, "`{name}` is no name for results: letters, digits, '-', '_' and '.'");
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo names no directory")?;
    Ok(PathBuf::from(target).join("bench").join(format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Unit, figure};
    use super::*;

    #[test]
    fn results_are_kept_under_their_name_and_found_again() {
        let mut results = Results::begin(vec![("CPU".into(), "one".into())], true).unwrap();
        results.add(vec![figure("append", "zmsg", Unit::PerSecond, &[1.25])], vec![]);
        results.failed("wal", &anyhow::anyhow!("no disk").context("it could not be opened"));
        let name = format!("test-{}", std::process::id());
        let path = results.save(&name).unwrap();
        let again = Results::load(&name).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!((again.figures, again.machine), (results.figures, results.machine));
        assert_eq!(again.left_out[0].why, "it failed: it could not be opened: no disk");
        let error = Results::load(&name).unwrap_err().to_string();
        assert!(error.contains("--save"), "{error}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "../x", "a/b", ".hidden"] {
            assert!(path(name).is_err(), "{name}");
        }
    }
}
