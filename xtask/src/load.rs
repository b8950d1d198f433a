//! `cargo xtask load`: the engine under the load of a workload, on the servers of the tests if it wants some.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use zmsg_testbed::{POSTGRES_URL, Postgres, REDIS_URL};

use crate::feed::executable;
use crate::services::{Install, Services};
use crate::shell::{cargo, program, root};

const DEFAULT: &str = "benches/workloads/feed-servers-open.toml";

/// Which workload.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that describes it; benches/workloads/feed-servers-open.toml without
    file: Option<PathBuf>,
    /// Compile the program as the tests are, for a look whether everything works
    #[arg(long)]
    dev: bool,
    /// Install servers with the package manager, if there is no other way
    #[arg(long)]
    install: bool,
}

/// Compiles the program, brings the servers up that the workload wants, and runs it in a database of its own.
///
/// # Errors
/// If the workload is not right, there is no way to get the servers, or the store does not hold what was
/// written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let load = program(build(args.dev)?.display().to_string());
    let file = args.file.clone().unwrap_or_else(|| root().join(DEFAULT));
    let load = load.with([file.display().to_string()]);
    let wants = load.clone().with(["--check"]).read()?;
    if String::from_utf8_lossy(&wants).trim() != "servers" {
        return load.run();
    }
    let services = Services::up_durable(Install::wanted(args.install))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let database = runtime.block_on(Postgres::at(services.postgres_url()).database());
    let load = load.variable(POSTGRES_URL, database.url());
    load.variable(REDIS_URL, services.redis_url()).run()
}

fn build(dev: bool) -> Result<PathBuf> {
    let line = if dev {
        // With the features that the tests have, so that what is compiled for those is not again.
        cargo("build --workspace --all-features --bin load")
    } else {
        cargo("build --release --package zmsg-benches --bin load")
    };
    let line = line.at_root();
    line.run()?;
    // Nothing is left to build: this asks only where the program went.
    let messages = line.with(["--quiet", "--message-format=json"]).read()?;
    executable("bin", "load", &String::from_utf8_lossy(&messages))
        .context("cargo does not name the program")
}
