//! Administration from the command line: migrations, dead letters, queues, nodes, filters, and what
//! is wrong with servers.

mod database;
mod migrate;
mod dead;
mod queue;
mod nodes;
mod adopt;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use zmsg::{Config, distrust_filters};

use crate::database::Database;
use crate::dead::Dead;
use crate::migrate::Migrate;
use crate::nodes::Nodes;
use crate::queue::Queue;

#[derive(Debug, Parser)]
#[command(
    name = "zmsg-admin",
    about = "Migrations, dead letters, queues, nodes and servers of zmsg"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, apply, take back and show migrations: zmsg's own tables, then those of --dir.
    Migrate {
        #[command(subcommand)]
        action: Migrate,
    },
    /// List, retry or drop what the database refused for good.
    DeadLetters {
        #[command(subcommand)]
        action: Dead,
    },
    /// Show task queues and their tasks, act on single tasks, pause and resume queues.
    Queue {
        #[command(subcommand)]
        action: Queue,
    },
    /// List and free the node numbers of ids that processes hold in the database.
    Nodes {
        #[command(subcommand)]
        action: Nodes,
    },
    /// Take the trust from the filters that nodes share, before and after rows are written by
    /// other programs; nodes build them anew.
    DistrustFilters {
        #[command(flatten)]
        database: Database,
    },
    /// Bring into the database what a process that never came back left in the journal of its
    /// directory: what it had acknowledged on the periodic route. Nothing takes effect twice.
    Adopt {
        /// The directory of the engine that is gone.
        directory: PathBuf,
        /// The configuration of an engine on the same servers.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check the settings of the servers and the directory; fails if a promise does not hold.
    Doctor {
        /// The configuration of the engine; variables of the environment count as they do there.
        #[arg(long)]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Migrate { action } => migrate::run(action).await,
        Command::DeadLetters { action } => dead::run(action).await,
        Command::Queue { action } => queue::run(action).await,
        Command::Nodes { action } => nodes::run(action).await,
        Command::DistrustFilters { database } => distrust(&database).await,
        Command::Adopt { directory, config } => adopt::run(&directory, &config).await,
        Command::Doctor { config, json } => match doctor(&config, json).await {
            Ok(false) => Ok(()),
            // It has said already why.
            Ok(true) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", said_once(&error));
            ExitCode::FAILURE
        }
    }
}

async fn distrust(database: &Database) -> Result<()> {
    let opened = database.open().await?;
    println!(
        "shared filters that rule nothing out for now: {}",
        distrust_filters(&opened.store).await?
    );
    opened.close().await
}

/// Prints what was found; whether a promise does not hold.
async fn doctor(config: &Path, json: bool) -> Result<bool> {
    let diagnosis = zmsg::doctor::examine(&Config::load(config)?).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&diagnosis)?);
    } else {
        println!("{diagnosis}");
    }
    Ok(diagnosis.has_errors())
}

/// The chain of causes; one that its effect quotes already is not said again.
fn said_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
