//! The targets of `benches/`: which there are, and what one of them measures.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::criterion;
use super::figures::{self, Figure, LeftOut};
use crate::feed::executable;
use crate::services::Services;
use crate::shell::{cargo, root};

const PACKAGE: &str = "zmsg-benches";

/// A program that measures.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    program: PathBuf,
}

/// What cargo knows of the workspace.
///
/// # Errors
/// If it does not tell.
pub(super) fn metadata() -> Result<Value> {
    let output = cargo("metadata --format-version 1 --no-deps").at_root().read()?;
    Ok(serde_json::from_slice(&output)?)
}

/// The names of all targets that contain one of these; of all without any.
///
/// # Errors
/// If cargo does not tell.
pub(super) fn names(only: &[String]) -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let package = packages.iter().find(|package| package["name"] == PACKAGE);
    let targets = package.and_then(|package| package["targets"].as_array());
    let is_bench = |target: &&Value| target["kind"][0] == "bench";
    let names = targets.into_iter().flatten().filter(is_bench).filter_map(|it| it["name"].as_str());
    let is_wanted = |name: &&str| only.is_empty() || only.iter().any(|part| name.contains(part));
    Ok(names.filter(is_wanted).map(str::to_owned).collect())
}

/// Compiles these targets: as they are measured, or as the tests are.
///
/// # Errors
/// If one does not compile.
pub(super) fn build(names: &[String], quick: bool) -> Result<Vec<Target>> {
    let line = if quick {
        // With the features that the tests have, so that what is compiled for those is not again.
        cargo("bench --no-run --workspace --all-features --profile dev")
    } else {
        cargo("bench --no-run --package").with([PACKAGE])
    };
    let line = names.iter().fold(line.at_root(), |line, name| line.with(["--bench", name]));
    line.run()?;
    // Nothing is left to build: this asks only where the programs went.
    let messages = line.with(["--quiet", "--message-format=json"]).read()?;
    let messages = String::from_utf8_lossy(&messages);
    names
        .iter()
        .map(|name| {
            let program = executable("bench", name, &messages);
            let program = program.context("cargo does not name the program")?;
            Ok(Target { name: name.clone(), program })
        })
        .collect()
}

impl Target {
    /// Runs it and gives what it measured. `told` gets each of its lines.
    ///
    /// # Errors
    /// If it fails, or measures nothing and does not say why.
    pub(super) fn measure(
        &self,
        services: &Services,
        quick: bool,
        told: impl Fn(&str),
    ) -> Result<(Vec<Figure>, Vec<LeftOut>)> {
        let place = tempfile::tempdir().context("could not make a temporary directory")?;
        let (file, by_criterion) = (place.path().join("figures"), place.path().join("criterion"));
        let mut command = Command::new(&self.program);
        command.arg("--bench").current_dir(root().join("benches")).stdout(Stdio::piped());
        command.env("ZMSG_BENCH_FIGURES", &file).env("CRITERION_HOME", &by_criterion);
        if quick {
            command.env("ZMSG_BENCH_QUICK", "1");
        }
        services.add_to(&mut command);
        let mut child =
            command.spawn().with_context(|| format!("could not start {}", self.name))?;
        let output = child.stdout.take().context("it has an output")?;
        BufReader::new(output).lines().map_while(Result::ok).for_each(|line| told(&line));
        let status = child.wait()?;
        ensure!(status.success(), "target {} failed ({status})", self.name);

        let written = fs::read_to_string(&file).unwrap_or_default();
        let (mut figures, left_out) = figures::read(&written)?;
        figures.extend(criterion::read(&by_criterion)?);
        let is_empty = figures.is_empty() && left_out.is_empty();
        ensure!(!is_empty, "target {} measured nothing", self.name);
        Ok((figures, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_parts_of_their_names() {
        let all = names(&[]).unwrap();
        assert!(all.len() >= 12 && all.contains(&"wal".to_owned()), "{all:?}");
        assert_eq!(names(&["l1_".into(), "l2_".into()]).unwrap(), ["l1_get", "l2_get"]);
        assert!(names(&["no such".into()]).unwrap().is_empty());
    }
}
