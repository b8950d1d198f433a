//! One connection, and statements on it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Client, Column, RowStream};
use zmsg_core::{Error, ErrorKind, Result, Row, Statement};
use zmsg_sqlbuilder::{Dialect, render};

use super::bind::Bind;
use super::column::{Raw, decode, is_known};
use super::command::Command;
use super::connector::{Connected, Connector};
use super::error::{Fault, Phase, from_postgres};
use super::statements::{Form, Prepared, Statements};
use super::transaction::Access;
use crate::Outcome;

/// How much longer than the server the client waits for an answer, and for one to being asked to
/// stop.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection's statements may do that do not say so themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// A connection and what is known about its session.
pub(super) struct Connection {
    client: Client,
    connector: Arc<Connector>,
    statements: Arc<Mutex<Statements>>,
    pub(super) mode: Mode,
    /// New sessions are read-only by order or on a standby: writing waits until that is over.
    pub(super) read_only: bool,
    pub(super) pooled: bool,
    limit: Option<Duration>,
    /// The driver looked types up, which leaves named statements behind a pooler.
    pub(super) looked_up: bool,
    stopped: AtomicBool,
    /// A transaction was begun and its end is not known.
    open: AtomicBool,
    /// When it was last given back.
    pub(super) idle_since: Instant,
}

impl Connection {
    pub(super) fn new(
        connected: Connected,
        connector: Arc<Connector>,
        statements: Arc<Mutex<Statements>>,
        statement_timeout: Duration,
        pooled: bool,
    ) -> Self {
        let Connected { client, read_only } = connected;
        Self {
            client,
            connector,
            statements,
            mode: if read_only { Mode::Read } else { Mode::Write },
            read_only,
            pooled,
            limit: (!statement_timeout.is_zero()).then_some(statement_timeout + GRACE),
            looked_up: false,
            stopped: AtomicBool::new(false),
            open: AtomicBool::new(false),
            idle_since: Instant::now(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the server answers.
    pub(super) async fn answers(&self) -> bool {
        matches!(timeout(GRACE, self.client.check_connection()).await, Ok(Ok(())))
    }

    /// Waits for what is going on and ends a transaction that may be open. True if the connection
    /// is idle then; what takes long is stopped.
    pub(super) async fn settle(&self) -> bool {
        // Without a transaction the server would warn about a ROLLBACK, each time, in its log.
        let end = if self.open.load(Relaxed) { "ROLLBACK" } else { "" };
        let idle = matches!(timeout(GRACE, self.client.batch_execute(end)).await, Ok(Ok(())));
        if !idle {
            self.stop().await;
        }
        idle
    }

    /// Whether the connection is not to be used again: something may still be under way to it,
    /// or stay with it.
    pub(super) fn is_spent(&self) -> bool {
        self.stopped.load(Relaxed) || self.looked_up || self.read_only || self.is_closed()
    }

    /// Asks the server to stop what is going on. The request travels on its own and could arrive
    /// during a later statement, so the connection is not used for another job.
    async fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.connector.cancel(&self.client.cancel_token()).await;
    }

    /// What begins a transaction, to be sent now.
    pub(super) fn begin(&self, access: Access) -> &str {
        self.open.store(true, Relaxed);
        self.connector.begin(access)
    }

    /// What ends a transaction, to be sent now. Where the driver looked types up, what it prepared for that goes
    /// with it, since the next transaction may find another connection of the server.
    pub(super) fn end(&self, commits: bool) -> &'static str {
        match (commits, self.pooled && self.looked_up) {
            (true, false) => "COMMIT",
            (true, true) => "COMMIT; DEALLOCATE ALL",
            (false, false) => "ROLLBACK",
            (false, true) => "ROLLBACK; DEALLOCATE ALL",
        }
    }

    /// The statement if it is prepared.
    pub(super) fn known(&self, statement: &Statement) -> Option<Arc<Prepared>> {
        self.statements().get(&statement.text, statement.binds.len())
    }

    /// Forgets what was prepared of a statement.
    pub(super) fn forget(&self, statement: &Statement) {
        self.statements().forget(&statement.text);
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares a statement. Behind a pooler this has to happen in a transaction,
    /// which keeps the server's connection the same meanwhile.
    async fn prepare(
        &mut self,
        statement: &Statement,
        phase: Phase,
    ) -> Result<Arc<Prepared>, Fault> {
        let command = Command::of(&statement.text)?;
        let mut text =
            render(&statement.text, statement.binds.len(), Dialect::Postgres)?.into_owned();
        let mut made = self.make(&text, phase).await?;
        if !made.columns().iter().all(|column| self.can_read(column.type_())) {
            text = self.with_text_columns(&text, made.columns());
            made = self.make(&text, phase).await?;
        }
        if made.params().len() != statement.binds.len() {
            return Err(Error::invalid_input("placeholders and binds differ in number").into());
        }
        let prepared = Arc::new(self.prepared(command, text, made));
        self.statements().put(&statement.text, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Prepares a statement and encodes its binds.
    ///
    /// A bind that does not fit what is remembered may fit what the server says today: the type
    /// of a column can change under a prepared statement.
    pub(super) async fn fit<'a>(
        &mut self,
        statement: &'a Statement,
        phase: Phase,
    ) -> Result<(Arc<Prepared>, Vec<Bind<'a>>), Fault> {
        if let Some(prepared) = self.known(statement) {
            match Bind::all(&statement.binds, &prepared.kinds) {
                Ok(binds) => return Ok((prepared, binds)),
                Err(_) => self.forget(statement),
            }
        }
        let prepared = self.prepare(statement, phase).await?;
        let binds = Bind::all(&statement.binds, &prepared.kinds)?;
        Ok((prepared, binds))
    }

    async fn make(&mut self, text: &str, phase: Phase) -> Result<tokio_postgres::Statement, Fault> {
        let prepare = async {
            let made = self.client.prepare(text).await;
            made.map_err(|error| from_postgres(error, phase))
        };
        let made = self.in_time(phase, prepare).await;
        let looked_up = made.as_ref().is_ok_and(|made| {
            let columns = made.columns().iter().map(Column::type_);
            !made.params().iter().chain(columns).all(is_builtin)
        });
        self.looked_up |= self.pooled && looked_up;
        made
    }

    fn prepared(
        &self,
        command: Command,
        text: String,
        statement: tokio_postgres::Statement,
    ) -> Prepared {
        let kinds = statement.params().to_vec();
        let form = if self.pooled {
            Form::Unnamed { text }
        } else {
            let columns = statement.columns().iter().map(|column| column.name().to_owned());
            Form::Named { columns: columns.collect(), statement }
        };
        Prepared { command, kinds, form }
    }

    /// Whether a column can be read as it comes. Behind a pooler the driver must not look types
    /// up, so there only those that it knows by itself.
    fn can_read(&self, kind: &Type) -> bool {
        is_known(kind) && (!self.pooled || is_builtin(kind))
    }

    /// The statement with every column that cannot be read as it comes cast to text by the
    /// server.
    fn with_text_columns(&self, text: &str, columns: &[Column]) -> String {
        let names: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
        let shown: Vec<String> = columns
            .iter()
            .zip(&names)
            .map(|(column, name)| {
                let cast = match column.type_() {
                    kind if self.can_read(kind) => "",
                    // An array that could be read stays one.
                    kind if is_known(kind) && matches!(kind.kind(), Kind::Array(_)) => "::text[]",
                    _ => "::text",
                };
                format!("{name}{cast} AS \"{}\"", column.name().replace('"', "\"\""))
            })
            .collect();
        // The line break ends a comment at the end of the text.
        format!(
            "WITH zmsg_rows ({}) AS ({}\n) SELECT {} FROM zmsg_rows",
            names.join(", "),
            text.trim_end().trim_end_matches(';'),
            shown.join(", ")
        )
    }

    /// Sends a statement when first polled, and collects what comes back. Statements that are
    /// polled one after the other follow each other without waiting.
    pub(super) async fn run(
        &self,
        prepared: Arc<Prepared>,
        binds: Vec<Bind<'_>>,
        phase: Phase,
    ) -> Result<Outcome, Fault> {
        let sent = match &prepared.form {
            Form::Named { statement, .. } => self.client.query_raw(statement, binds).await,
            Form::Unnamed { text } => {
                let typed = binds.into_iter().zip(prepared.kinds.iter().cloned());
                self.client.query_typed_raw(text, typed).await
            }
        };
        let stream = sent.map_err(|error| from_postgres(error, phase))?;
        collect(stream, &prepared, phase).await
    }

    /// Sends a statement of the store's own when first polled.
    pub(super) async fn control(&self, text: &str, phase: Phase) -> Result<(), Fault> {
        let sent = self.client.batch_execute(text).await;
        sent.map_err(|error| from_postgres(error, phase))
    }

    /// Runs a statement without binds by itself, neither prepared nor in a transaction.
    pub(super) async fn run_alone(&self, text: &str) -> Result<Outcome, Fault> {
        let text = render(text, 0, Dialect::Postgres)?;
        self.control(&text, Phase::Commit).await.map(|()| Outcome::default())
    }

    /// The transaction that was begun has ended, one way or the other.
    pub(super) fn ended(&self) {
        self.open.store(false, Relaxed);
    }

    /// What brings the session into a mode, unless it is in it or is a pooler's.
    pub(super) fn switch_to(&mut self, mode: Mode) -> Option<&'static str> {
        if self.pooled || self.mode == mode {
            return None;
        }
        self.mode = mode;
        Some(match mode {
            Mode::Read => "SET default_transaction_read_only = on",
            Mode::Write => "SET default_transaction_read_only = off",
        })
    }

    /// Waits for an answer, a little longer than the server may take; then asks it to stop.
    pub(super) async fn in_time<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let Some(limit) = self.limit else { return work.await };
        let mut work = pin!(work);
        if let Ok(done) = timeout(limit, &mut work).await {
            return done;
        }
        self.stop().await;
        timeout(GRACE, work).await.unwrap_or_else(|_| Err(Fault::silent(phase)))
    }
}

/// Whether the driver knows a type without asking the server.
fn is_builtin(kind: &Type) -> bool {
    Type::from_oid(kind.oid()).is_some()
}

/// Reads to the end, also if a row cannot be read: the effect is complete only then.
async fn collect(stream: RowStream, prepared: &Prepared, phase: Phase) -> Result<Outcome, Fault> {
    let mut stream = pin!(stream);
    let mut columns = match &prepared.form {
        Form::Named { columns, .. } => Some(Arc::clone(columns)),
        Form::Unnamed { .. } => None,
    };
    let mut rows = Vec::new();
    let mut unreadable = None;
    loop {
        let next = stream.try_next().await.map_err(|error| from_postgres(error, phase))?;
        let Some(row) = next else { break };
        match read(&row, &mut columns) {
            Ok(row) => rows.push(row),
            Err(error) => unreadable = Some(error),
        }
    }
    if let Some(error) = unreadable {
        return Err(Fault::unreadable(error, phase));
    }
    let Some(affected) = stream.as_ref().get_ref().rows_affected() else {
        return Err(Error::invalid_input("the text holds no statement").into());
    };
    let changed = if prepared.command == Command::Change { affected } else { 0 };
    Ok(Outcome { changed, rows })
}

fn read(row: &tokio_postgres::Row, columns: &mut Option<Arc<[String]>>) -> Result<Row> {
    let columns = columns.get_or_insert_with(|| {
        row.columns().iter().map(|column| column.name().to_owned()).collect()
    });
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let raw: Raw<'_> = row.try_get(index).map_err(|cause| {
            Error::new(ErrorKind::Unexpected, "postgres sent a row in an unknown form")
                .with_source(cause)
        })?;
        values.push(match raw.0 {
            None => zmsg_core::Value::Null,
            Some(raw) => decode(column.type_(), raw)?,
        });
    }
    Ok(Row::new(Arc::clone(columns), values))
}
