//! How a SQLite file is opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::ScalarFunction;

/// The file, its durability, and the bounds of a [`SqliteStore`](super::SqliteStore).
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; created, readable by its owner alone, if it is not there. Its folder
    /// must exist and be on a local disk: WAL mode shares memory between processes.
    pub path: PathBuf,
    /// Connections for `fetch`, each on a thread of its own.
    pub readers: usize,
    /// When a commit is acknowledged.
    pub synchronous: Synchronous,
    /// Functions that statements may call, registered on every connection.
    pub functions: Vec<ScalarFunction>,
    /// How long a statement waits for a lock that another process holds.
    pub busy_timeout: Duration,
    /// Jobs that may wait for the writer, and as many for the readers; beyond, a call is
    /// `Overloaded` at once.
    pub queue_max: usize,
    /// Jobs that may share one commit.
    pub group_max: usize,
}

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Survives a power cut: the log is synced before a commit is acknowledged.
    #[default]
    Full,
    /// Survives the death of the process, not a power cut: the log is synced at checkpoints
    /// only. The file stays consistent, but the latest commits may be missing from it.
    Normal,
}

impl SqliteOptions {
    /// The defaults for a file: four readers, full durability, five seconds of patience with
    /// other processes, 4,096 waiting jobs, 256 of them to a commit.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 4,
            synchronous: Synchronous::Full,
            functions: Vec::new(),
            busy_timeout: Duration::from_secs(5),
            queue_max: 4096,
            group_max: 256,
        }
    }
}

impl Default for SqliteOptions {
    /// The defaults for `zmsg.db` in the working directory.
    fn default() -> Self {
        Self::new("zmsg.db")
    }
}

impl Synchronous {
    /// The word that `PRAGMA synchronous` takes.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}
