//! `cargo xtask test`: all tests of the workspace, with the servers they need.

use anyhow::Result;

use crate::services::{Install, Services};
use crate::shell::{Line, cargo};

/// What is passed to cargo, and behind `--` to the test runner.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Run with cargo-nextest, which has to be installed
    #[arg(long)]
    pub(crate) nextest: bool,
    /// Install servers with the package manager, if there is no other way; as root on Debian
    #[arg(long)]
    pub(crate) install: bool,
    /// Arguments of cargo: `-p PACKAGE`, `--release`, the name of a test
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) cargo: Vec<String>,
    /// Arguments of the test runner, given behind `--`
    #[arg(skip)]
    pub(crate) runner: Vec<String>,
}

/// Runs the tests. What was started for them is stopped, however they end.
///
/// # Errors
/// If one fails, or there is no way to get the servers.
pub(crate) fn run(args: &Args) -> Result<()> {
    let services = Services::up(Install::wanted(args.install))?;
    lines(args).into_iter().try_for_each(|line| services.around(line).run())
}

fn lines(args: &Args) -> Vec<Line> {
    // `cargo test` builds the examples and runs the doctests; nextest does neither.
    if !args.nextest {
        return vec![scoped("test", args, true)];
    }
    vec![
        scoped("build --examples", args, false),
        scoped("nextest run", args, true),
        scoped("test --doc", args, false),
    ]
}

fn scoped(command: &str, args: &Args, runner: bool) -> Line {
    let mut line = cargo(command).at_root();
    if !names_a_package(&args.cargo) {
        // All features: `zmsg-admin` is built behind one.
        line = line.with(["--workspace", "--all-features"]);
    }
    line = line.with(args.cargo.iter());
    if runner && !args.runner.is_empty() {
        line = line.with(["--"]).with(args.runner.iter());
    }
    line
}

/// Beside `--workspace`, cargo silently ignores `-p`.
fn names_a_package(args: &[String]) -> bool {
    args.iter().any(|arg| {
        (arg.starts_with("-p") && !arg.starts_with("--")) || arg.starts_with("--package")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nextest: bool, cargo: &[&str], runner: &[&str]) -> Vec<String> {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let args = Args { nextest, install: false, cargo: own(cargo), runner: own(runner) };
        lines(&args).iter().map(Line::to_string).collect()
    }

    #[test]
    fn without_arguments_everything_is_tested() {
        assert_eq!(shown(false, &[], &[]), ["cargo test --workspace --all-features"]);
    }

    #[test]
    fn a_named_package_takes_the_place_of_the_workspace() {
        assert_eq!(
            shown(false, &["-p", "zmsg-core", "fold"], &["--nocapture"]),
            ["cargo test -p zmsg-core fold -- --nocapture"]
        );
        assert_eq!(shown(false, &["--package=zmsg"], &[]), ["cargo test --package=zmsg"]);
    }

    #[test]
    fn with_nextest_examples_and_doctests_are_not_forgotten() {
        assert_eq!(
            shown(true, &[], &[]),
            [
                "cargo build --examples --workspace --all-features",
                "cargo nextest run --workspace --all-features",
                "cargo test --doc --workspace --all-features"
            ]
        );
    }
}
