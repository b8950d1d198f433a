//! The journal of the periodic route: this process's own, and those that others left.

use std::path::Path;
use std::time::Duration;

use zmsg_aggregate::{Journal, JournalOptions, JournalSync, Recovered};
use zmsg_core::{Error, Result};

use crate::Zmsg;
use crate::config::{Config, JournalMode};
use crate::lock::FileLock;
use crate::zmsg::Inner;

/// For how long a recovery tries again what fails for a while: longer than it takes to find an
/// operation that always runs out of its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Bytes of one file of the journal.
const SEGMENT_BYTES: u64 = 32 << 20;

/// Begins this process's journal, if it is to have one.
pub(crate) async fn create(config: &Config, shared: bool) -> Result<Journal> {
    let sync = match config.journal_mode(shared) {
        JournalMode::Off | JournalMode::Auto => {
            tracing::warn!(
                "the periodic route has no journal: what its buffer holds is lost if the process is \
                 killed; set periodic.journal and a directory of its own for each process"
            );
            return Ok(Journal::off());
        }
        JournalMode::Always => JournalSync::Always,
        JournalMode::Interval(every) => JournalSync::Interval(every),
    };
    Journal::create(&JournalOptions {
        root: config.journal_root(),
        sync,
        bytes_max: config.periodic.journal_bytes_max.0,
        segment_bytes: segment_bytes(),
    })
    .await
}

/// Tests make them small, to see many of them.
fn segment_bytes() -> u64 {
    zmsg_core::fail_point!("tune::segment_bytes", |bytes| {
        bytes.and_then(|bytes: String| bytes.parse().ok()).unwrap_or(SEGMENT_BYTES)
    });
    SEGMENT_BYTES
}

impl Inner {
    /// Recovers what earlier processes left in this engine's directory, also if this one is to
    /// have no journal.
    pub(crate) async fn recover(&self) -> Result<()> {
        let Some(root) = &self.journals else { return Ok(()) };
        self.recovery.run(root, self.writer.aggregator.journal()).await.map(drop)
    }
}

impl Zmsg {
    /// Brings into the database what a process that never came back left in the journal of its
    /// directory, and removes it there: counters, slices and maps that it had acknowledged on the
    /// periodic route.
    ///
    /// Both engines must have the same database. Nothing takes effect twice, whoever else adopts the
    /// same directory, now or later.
    ///
    /// # Errors
    /// `Conflict` if an engine has the directory open, or it is this engine's own; `InvalidInput` if
    /// there is no such directory; `Corrupted` if a journal in it is damaged where it was synced, or was
    /// written against another database; `Closed`; else what the store says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves some of its streams adopted; adopt it again for the rest.
    pub async fn adopt(&self, directory: impl AsRef<Path>) -> Result<Recovered> {
        let directory = directory.as_ref();
        self.open_for_calls()?;
        if !directory.is_dir() {
            return Err(Error::invalid_input("there is no such directory to adopt")
                .with_context("directory", directory.display()));
        }
        let _lock = FileLock::directory(directory)?;
        zmsg_core::fail_point!("zmsg::adopt::locked");
        let root = Config::embedded(directory).journal_root();
        let own = self.inner.writer.aggregator.journal();
        self.inner.recovery.run(&root, own).await.map_err(|error| error.during("zmsg.adopt"))
    }
}
