//! What the example can be told.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Replays a stream of messages as a chat application would, and checks every total.
#[derive(Debug, Parser)]
#[command(name = "feed")]
pub(crate) struct Args {
    /// A file of `SRC DST UNIXTS` lines, or of JSON lines with src, dst, ts and optionally body.
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
    /// Messages that the generator makes without an input (20000 if not given); with one, the
    /// most that are read.
    #[arg(long)]
    pub(crate) messages: Option<usize>,
    /// Users of the generated stream.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) users: u32,
    /// The seed of the generator and of all random choices.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Tasks that write and read at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tasks: u32,
    /// Reads of recent messages for each message written.
    #[arg(long, default_value_t = 4)]
    pub(crate) reads: usize,
    /// A configuration file; without it the embedded defaults.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// The task queue. `auto` is in Redis where the configuration names one, else in the database.
    #[arg(long, value_enum, default_value_t = Queue::Auto)]
    pub(crate) queue: Queue,
    /// Processes that share the stream and the servers of the configuration.
    #[arg(long, default_value_t = 1, requires = "config", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) processes: u32,
    /// Drop the tables of an earlier run first.
    #[arg(long)]
    pub(crate) reset: bool,
    /// For how many seconds a read may miss what is applied. None are needed, unless Redis is made to
    /// forget what keeps late fills out: then an absence may be cached for `cache.negative_ttl`.
    #[arg(long, default_value_t = 0, hide = true)]
    pub(crate) absent_for: u64,
    /// What a process of several does: its number, from 0, and where its count goes.
    #[arg(long, hide = true, requires = "count")]
    pub(crate) part: Option<u32>,
    #[arg(long, hide = true)]
    pub(crate) count: Option<PathBuf>,
    /// Where the embedded engine keeps its files; without it a temporary directory.
    #[arg(long, conflicts_with = "config")]
    pub(crate) directory: Option<PathBuf>,
    /// Go on with a run in the directory that was killed; all other arguments as they were.
    #[arg(long, requires = "directory", conflicts_with = "reset")]
    pub(crate) resume: bool,
    /// Stop at the first malformed line instead of counting it.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show no progress bar.
    #[arg(long, overrides_with = "no_progress")]
    pub(crate) no_progress: bool,
}

/// The task queue of the delayed route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Queue {
    /// In Redis where the configuration names one, unless it names another queue than the default.
    Auto,
    /// In the database.
    Sql,
    /// In Redis. One that forgets its tasks makes totals differ.
    Redis,
    /// In the database, and nodes wake each other through Redis.
    Outbox,
}
