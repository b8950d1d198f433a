//! One connection: opened as zmsg needs it, and the statements that run on it.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};
use zmsg_core::{Error, ErrorKind, Result, Row, Statement, Value};
use zmsg_sqlbuilder::{Dialect, render};

use super::error::{Phase, from_sqlite, is_busy};
use super::functions::{Raised, register};
use super::guard::Guard;
use super::options::SqliteOptions;
use super::value::{Bind, from_storage};
use crate::Outcome;
use crate::counters::{Counters, count};

/// Statements kept prepared on each connection, by their text.
const PREPARED_MAX: usize = 256;

/// A connection, the guard on it, and what its functions raised.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    guard: Guard,
    raised: Raised,
    counters: Arc<Counters>,
}

impl Session {
    /// Opens the connection that writes, and the file if it is not there yet.
    pub(super) fn writer(options: &SqliteOptions, counters: &Arc<Counters>) -> Result<Self> {
        create_file(&options.path)?;
        let connection = connect(options, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        switch_to_wal(&connection, options.busy_timeout)?;
        let pragmas = format!(
            "PRAGMA synchronous = {}; PRAGMA cache_size = -16384; \
             PRAGMA journal_size_limit = 67108864;",
            options.synchronous.word()
        );
        connection.execute_batch(&pragmas).map_err(|error| from_sqlite(error, Phase::Open))?;
        Self::ready(connection, options, counters)
    }

    /// Opens a connection that cannot write. The writer's comes first: it creates the file and
    /// its log.
    pub(super) fn reader(options: &SqliteOptions, counters: &Arc<Counters>) -> Result<Self> {
        let connection = connect(options, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Self::ready(connection, options, counters)
    }

    fn ready(
        mut connection: Connection,
        options: &SqliteOptions,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let (guard, raised) = (Guard::default(), Raised::default());
        connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
        let prepare = |connection: &mut Connection| {
            for function in &options.functions {
                register(connection, *function, &raised)?;
            }
            guard.install(connection)
        };
        prepare(&mut connection).map_err(|error| from_sqlite(error, Phase::Open))?;
        Ok(Self { connection, guard, raised, counters: Arc::clone(counters) })
    }

    /// Runs a statement to its end and returns what it did.
    pub(super) fn execute(&self, statement: &Statement) -> Result<Outcome> {
        let mut prepared = self.prepare(statement)?;
        let before = self.connection.total_changes();
        let rows = self.step_through(&mut prepared)?;
        // SQLite leaves the count of the last INSERT, UPDATE or DELETE standing when another
        // kind of statement runs.
        let counted = self.connection.total_changes() - before;
        // A view is changed by its triggers alone, whose rows are not in `changes`.
        let changed = match self.connection.changes() {
            _ if counted == 0 => 0,
            0 => counted,
            changed => changed,
        };
        count(&self.counters.rows_changed, changed);
        Ok(Outcome { changed, rows })
    }

    /// Runs a statement that only reads.
    pub(super) fn query(&self, query: &Statement) -> Result<Vec<Row>> {
        let mut prepared = self.prepare(query)?;
        if !prepared.readonly() {
            return Err(Error::invalid_input("the statement would write"));
        }
        self.step_through(&mut prepared)
    }

    /// Runs a statement of the store's own that controls the transaction.
    ///
    /// It is prepared each time (a microsecond): from the cache, a caller's `COMMIT` of the same
    /// text would get the one that the guard let pass.
    pub(super) fn control(&self, text: &'static str) -> rusqlite::Result<()> {
        self.guard.lifted(|| self.connection.prepare(text)?.raw_execute().map(drop))
    }

    /// Runs a statement of the caller's that the guard would take for the store's business.
    pub(super) fn execute_unguarded(&self, statement: &Statement) -> Result<Outcome> {
        self.guard.lifted(|| self.execute(statement))
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> &Connection {
        &self.connection
    }

    #[cfg(test)]
    pub(super) fn lifted<T>(&self, run: impl FnOnce() -> T) -> T {
        self.guard.lifted(run)
    }

    /// True outside of a transaction, also if SQLite ended it by itself.
    pub(super) fn is_autocommit(&self) -> bool {
        self.connection.is_autocommit()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Closes the connection; the last one to close writes the log back into the file.
    pub(super) fn close(self) -> Result<()> {
        self.connection.close().map_err(|(_, error)| from_sqlite(error, Phase::Commit))
    }

    fn prepare(&self, statement: &Statement) -> Result<CachedStatement<'_>> {
        let text = render(&statement.text, statement.binds.len(), Dialect::Sqlite)?;
        let mut prepared = self
            .connection
            .prepare_cached(&text)
            .map_err(|error| from_sqlite(error, Phase::Prepare))?;
        // `?1` and `:name` are placeholders to SQLite and not to zmsg.
        if prepared.parameter_count() != statement.binds.len() {
            return Err(Error::invalid_input("placeholders and binds differ in number")
                .with_context("placeholders", prepared.parameter_count())
                .with_context("binds", statement.binds.len()));
        }
        for (index, value) in statement.binds.iter().enumerate() {
            let at = |error: Error| error.with_context("bind", index + 1);
            let bind = Bind::new(value).map_err(at)?;
            prepared
                .raw_bind_parameter(index + 1, bind)
                .map_err(|error| at(from_sqlite(error, Phase::Step)))?;
        }
        Ok(prepared)
    }

    /// Steps to the end even if nobody wants the rows: the effect of `RETURNING` is complete
    /// only then.
    fn step_through(&self, prepared: &mut CachedStatement<'_>) -> Result<Vec<Row>> {
        self.raised.take();
        count(&self.counters.statements, 1);
        let mut found = Vec::new();
        let mut columns: Option<Arc<[String]>> = None;
        let mut rows = prepared.raw_query();
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => return Err(self.failed(error)),
            };
            // Asked for after the first step, since stepping prepares anew if the schema changed.
            let columns = columns
                .get_or_insert_with(|| row.as_ref().column_names().map(str::to_owned).collect());
            let values: Result<Vec<Value>> = (0..columns.len())
                .map(|index| match row.get_ref(index) {
                    Ok(stored) => Ok(from_storage(stored)),
                    Err(error) => Err(from_sqlite(error, Phase::Step)),
                })
                .collect();
            found.push(Row::new(Arc::clone(columns), values?));
        }
        count(&self.counters.rows_read, found.len() as u64);
        Ok(found)
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        self.raised.take().unwrap_or_else(|| from_sqlite(error, Phase::Step))
    }
}

/// Creates the file for its owner alone; SQLite gives its log the same permissions.
fn create_file(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(Error::invalid_config("a sqlite store needs a file")
            .with_context("path", path.display()));
    }
    let failed = |cause: std::io::Error| {
        Error::invalid_config("could not create the database file")
            .with_context("path", path.display())
            .with_source(cause)
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => {
            // A file whose name is lost by a power cut loses what was acknowledged in it.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))
                .and_then(|dir| dir.sync_all())
                .map_err(failed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn connect(options: &SqliteOptions, access: OpenFlags) -> Result<Connection> {
    // Each connection stays on one thread, so SQLite needs no mutex around it.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(&options.path, flags)?;
        connection.busy_timeout(options.busy_timeout)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        Ok(connection)
    };
    open().map_err(|error| {
        from_sqlite(error, Phase::Open).with_context("path", options.path.display())
    })
}

/// Switches the file to WAL mode. SQLite does not wait for the lock of another opener here, so
/// this does.
fn switch_to_wal(connection: &Connection, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode.map(|mode: String| mode.eq_ignore_ascii_case("wal")) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the file system of the database does not support WAL mode",
                ));
            }
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Err(error) => return Err(from_sqlite(error, Phase::Open)),
        }
    }
}
