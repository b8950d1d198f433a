//! `cargo xtask bench`: the benchmarks of zmsg beside its peers.

use anyhow::Result;

use crate::shell::cargo;

/// What is passed to criterion.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Part of a benchmark's name, and criterion's own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the benchmarks whose name contains the filter; all of them without one.
///
/// # Errors
/// If one does not build or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    cargo("bench -p zmsg-benches --").at_root().with(args.rest.iter()).run()
}
