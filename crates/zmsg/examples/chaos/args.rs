//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// An engine under a mix of writes, for `cargo xtask chaos` to kill.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The engine's directory
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The database: `sqlite:PATH` or `postgres://…`, whose password is for no list of processes
    #[arg(
        long,
        env = "ZMSG_CHAOS_STORE",
        default_value = "sqlite:zmsg.db",
        hide_env_values = true
    )]
    pub(crate) store: String,
    /// Decides what is written
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The number of the first write; those of earlier processes lie below it
    #[arg(long, default_value_t = 1)]
    pub(crate) first: u64,
    /// So many writes at most; then the engine is closed
    #[arg(long, default_value_t = 100_000)]
    pub(crate) writes: u64,
    /// Tasks that write at once
    #[arg(long, default_value_t = 6)]
    pub(crate) tasks: u64,
    /// Which routes the writes take
    #[arg(long, value_enum, default_value_t = Mix::All)]
    pub(crate) mix: Mix,
    /// Milliseconds from flush to flush
    #[arg(long, default_value_t = 8)]
    pub(crate) interval: u64,
    /// Bytes of one file of the journal
    #[arg(long)]
    pub(crate) segment: Option<u64>,
    /// Other processes work on the same database
    #[arg(long)]
    pub(crate) shared: bool,
    /// Which queue the writes of the mix `batch` go to
    #[arg(long, value_enum, default_value_t = Queue::Durable)]
    pub(crate) queue: Queue,
    /// With a second cache tier, in memory
    #[arg(long)]
    pub(crate) remote: bool,
    /// `POINT:HIT`: kill this process there
    #[arg(long)]
    pub(crate) kill_at: Option<String>,
    /// Break this rule
    #[arg(long)]
    pub(crate) sabotage: Option<String>,
    /// Take over the journal of this directory
    #[arg(long)]
    pub(crate) adopt: Vec<PathBuf>,
    /// Make the tables and end
    #[arg(long)]
    pub(crate) create: bool,
    /// Write nothing: recover, drain, close, and show the tables
    #[arg(long, conflicts_with = "create")]
    pub(crate) finish: bool,
}

/// Which routes the writes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    All,
    Store,
    Delayed,
    Periodic,
    /// Items of a batch queue.
    Batch,
}

/// How the batch queue is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Queue {
    /// Everything in the log, in strict order.
    Durable,
    /// The same, in the order of each task.
    Lanes,
    /// Memory first.
    Hybrid,
}

impl Queue {
    /// The route of its writes in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Durable => "batch",
            Self::Lanes => "lanes",
            Self::Hybrid => "hybrid",
        }
    }
}
