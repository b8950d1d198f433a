//! `cargo xtask migrate`, `dead-letters`, `queue`, `nodes`, `distrust-filters`, `adopt` and `doctor`: the
//! commands that need the engine.

use anyhow::Result;

use crate::shell::cargo;

/// What is passed to `zmsg-admin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Everything behind the command, as it stands
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) rest: Vec<String>,
}

/// Runs `zmsg-admin COMMAND ARGS` in the caller's directory, so that relative paths and URLs mean
/// what the caller sees.
///
/// # Errors
/// If it does not build or fails.
pub(crate) fn run(command: &str, args: &Args) -> Result<()> {
    cargo("run --quiet --package zmsg --features cli --bin zmsg-admin --")
        .with([command])
        .with(&args.rest)
        .run()
}
