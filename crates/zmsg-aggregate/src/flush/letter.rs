//! Dead letters: what the database refused, kept until somebody retries or drops it.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Key, Result, Row, Statement, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{SqlStore, Step};

use super::group::Origin;
use super::ledger::number;
use super::payload::Payload;

/// The dead letters of the periodic route, in the table `zmsg_dead_letters`.
///
/// - A letter is written in the transaction in which its flush took effect without it.
/// - Retrying applies a letter and removes it in one transaction: it takes effect once, however
///   often it is tried and by whomever.
/// - A letter whose rows are still missing stays.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Arc<dyn SqlStore>,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id, ordered by time.
    pub id: Uuid,
    /// The stream of the process that wrote it.
    pub stream: Uuid,
    /// The shard of that stream.
    pub shard: u16,
    /// The first and the last of its operations by the sequence of the shard.
    pub seq: (u64, u64),
    /// Where the order of its operations was kept.
    pub batch_key: String,
    /// What it does, for a person.
    pub summary: String,
    /// Why it is here.
    pub cause: String,
    /// The cache keys of its operations: what to invalidate after a retry.
    pub keys: Vec<Key>,
    /// When it was written, by the wall clock of its process.
    pub created: UnixMillis,
}

/// What [`DeadLetters::retry_all`] did.
#[derive(Debug, Clone, Default)]
pub struct RetryReport {
    /// The letters that took effect and are gone.
    pub applied: Vec<DeadLetter>,
    /// The letters that were refused again and stay, each with the reason.
    pub refused: Vec<(DeadLetter, Error)>,
}

pub(super) const COLUMNS: &str =
    "id, stream, shard, seq_from, seq_to, batch_key, summary, cause, payload, created_ms";
const PAGE: usize = 256;

/// What the cause of a letter begins with that is only waiting to be tried: nothing was found wrong
/// with it yet. Its flush takes it up, and after the end of its process a recovery.
pub(super) const PARKED: &str = "kept while";

impl DeadLetters {
    /// The dead letters in this store.
    pub fn new(store: Arc<dyn SqlStore>) -> Self {
        Self { store }
    }

    /// At most `limit` letters in the order they were written, from the one after `after`.
    ///
    /// # Errors
    /// As the store; `Corrupted` for a letter that cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the result and nothing else.
    pub async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>> {
        let rows = self.rows(after, limit).await?;
        Ok(rows.into_iter().map(|(letter, _)| letter).collect())
    }

    /// How many letters there are.
    ///
    /// # Errors
    /// As the store.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the result and nothing else.
    pub async fn count(&self) -> Result<u64> {
        let query = Statement::query("SELECT COUNT(*) FROM zmsg_dead_letters", Vec::new());
        let rows = self.store.fetch(&query).await?;
        let count = rows.first().map_or(Ok(0), |row| row.int(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Applies a letter and removes it. `None` if there is no such letter (any more).
    ///
    /// # Errors
    /// Why it was refused again; it stays then. `Conflict` if its rows are still missing.
    ///
    /// # Cancel safety
    /// Dropping the future does not abort it: the letter takes effect and goes, or stays.
    pub async fn retry(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        self.retry_checked(id, Vec::new()).await
    }

    /// As [`retry`](Self::retry), with `checks` as the last steps of the transaction: what a check
    /// refuses has not happened.
    ///
    /// # Errors
    /// As for [`retry`](Self::retry), and that of a check that failed.
    ///
    /// # Cancel safety
    /// As for [`retry`](Self::retry).
    pub async fn retry_checked(&self, id: Uuid, checks: Vec<Step>) -> Result<Option<DeadLetter>> {
        let Some((letter, payload)) = self.row(id).await? else { return Ok(None) };
        self.retry_read(letter, &payload, checks).await
    }

    /// One letter, or `None` if there is no such letter.
    ///
    /// # Errors
    /// As the store; `Corrupted` for a letter that cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the result and nothing else.
    pub async fn find(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        Ok(self.row(id).await?.map(|(letter, _payload)| letter))
    }

    /// Applies every letter that can be applied, in the order they were written, each in a
    /// transaction of its own.
    ///
    /// # Errors
    /// As the store, if it cannot be reached; what was applied until then stays applied.
    ///
    /// # Cancel safety
    /// Dropping the future leaves some letters applied and the others untouched.
    pub async fn retry_all(&self) -> Result<RetryReport> {
        let mut report = RetryReport::default();
        let mut after = None;
        loop {
            let page = self.rows(after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(report) };
            after = Some(last.id);
            for (letter, payload) in page {
                match self.retry_read(letter.clone(), &payload, Vec::new()).await {
                    Ok(Some(letter)) => report.applied.push(letter),
                    Ok(None) => {}
                    Err(error) if error.is_temporary() || error.kind() == ErrorKind::Closed => {
                        return Err(error);
                    }
                    Err(error) => report.refused.push((letter, error)),
                }
            }
        }
    }

    /// Drops a letter for good. False if there is no such letter.
    ///
    /// # Errors
    /// As the store.
    ///
    /// # Cancel safety
    /// Dropping the future does not abort it.
    pub async fn drop(&self, id: Uuid) -> Result<bool> {
        let statement =
            Statement::new("DELETE FROM zmsg_dead_letters WHERE id = ?", vec![Value::Uuid(id)]);
        Ok(self.store.execute(&statement).await?.changed > 0)
    }

    /// The first letters of a stream that are only waiting to be tried, in the order of their
    /// operations.
    pub(super) async fn parked(&self, stream: Uuid) -> Result<Vec<DeadLetter>> {
        let query = Statement::query(
            format!(
                "SELECT {COLUMNS} FROM zmsg_dead_letters WHERE stream = ? AND cause LIKE ? \
                 ORDER BY shard, seq_from, seq_to, id LIMIT ?"
            ),
            vec![
                Value::Uuid(stream),
                format!("{PARKED}%").into(),
                i64::try_from(PAGE).unwrap_or(i64::MAX).into(),
            ],
        );
        let rows = self.store.fetch(&query).await?;
        rows.iter().map(|row| Ok(read(row)?.0)).collect()
    }

    /// Says of a letter why it was refused.
    pub(super) async fn blame(&self, id: Uuid, cause: &Error) -> Result<()> {
        self.store.execute(&set_cause(id, cause)).await.map(drop)
    }

    async fn retry_read(
        &self,
        letter: DeadLetter,
        payload: &Payload,
        checks: Vec<Step>,
    ) -> Result<Option<DeadLetter>> {
        let mut steps = payload.retry_steps(letter.id);
        steps.extend(checks);
        match self.store.execute_all(steps).await {
            Ok(_) => Ok(Some(letter)),
            Err(failed) if failed.step == Some(0) && is_conflict(&failed.error) => Ok(None),
            Err(failed) if failed.error.is_outcome_unknown() => {
                if exists(&*self.store, letter.id).await? {
                    return Err(Error::from(failed).temporary());
                }
                Ok(Some(letter))
            }
            Err(failed) => Err(failed.into()),
        }
    }

    async fn row(&self, id: Uuid) -> Result<Option<(DeadLetter, Payload)>> {
        let query = Statement::query(
            format!("SELECT {COLUMNS} FROM zmsg_dead_letters WHERE id = ?"),
            vec![Value::Uuid(id)],
        );
        self.store.fetch(&query).await?.first().map(read).transpose()
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<(DeadLetter, Payload)>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = Statement::query(
            format!("SELECT {COLUMNS} FROM zmsg_dead_letters WHERE id > ? ORDER BY id LIMIT ?"),
            vec![Value::Uuid(after.unwrap_or_default()), Value::Int(limit)],
        );
        self.store.fetch(&query).await?.iter().map(read).collect()
    }
}

/// A letter as a flush writes it.
#[derive(Debug)]
pub(super) struct LetterRow {
    pub(super) id: Uuid,
    pub(super) origin: Origin,
    pub(super) seq: (u64, u64),
    pub(super) batch_key: String,
    pub(super) summary: String,
    pub(super) cause: String,
    pub(super) payload: Bytes,
    pub(super) now: UnixMillis,
}

impl LetterRow {
    pub(super) fn insert(self) -> Statement {
        Statement::new(
            format!(
                "INSERT INTO zmsg_dead_letters ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            self.values().into(),
        )
    }

    /// In the order of the columns.
    fn values(self) -> [Value; 10] {
        [
            Value::Uuid(self.id),
            Value::Uuid(self.origin.stream),
            Value::Int(self.origin.shard.into()),
            number(self.seq.0),
            number(self.seq.1),
            text(&self.batch_key),
            text(&self.summary),
            text(&self.cause),
            Value::Bytes(self.payload),
            number(self.now),
        ]
    }
}

/// Many letters as the rows of `unnest`, for PostgreSQL: its text, whose columns are those of the
/// table, and its binds.
pub(super) fn letters_as_rows(rows: Vec<LetterRow>) -> (&'static str, Vec<Value>) {
    let mut columns: [Vec<Value>; 10] = Default::default();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row.values()) {
            column.push(value);
        }
    }
    let text = "unnest(?::uuid[], ?::uuid[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], \
                ?::text[], ?::text[], ?::bytea[], ?::bigint[])";
    (text, columns.into_iter().map(Value::from).collect())
}

/// The statements that write many letters.
pub(super) fn insert_all(rows: Vec<LetterRow>, dialect: Dialect) -> Vec<Statement> {
    match dialect {
        Dialect::Sqlite => rows.into_iter().map(LetterRow::insert).collect(),
        Dialect::Postgres => {
            let (rows, binds) = letters_as_rows(rows);
            let text = format!("INSERT INTO zmsg_dead_letters ({COLUMNS}) SELECT * FROM {rows}");
            vec![Statement::new(text, binds)]
        }
    }
}

/// Text that every database can hold: PostgreSQL has none with NUL.
fn text(text: &str) -> Value {
    Value::Text(text.replace('\0', "\u{2400}"))
}

/// Whether a letter exists, read under its lock.
pub(super) async fn exists(store: &dyn SqlStore, letter: Uuid) -> Result<bool> {
    let read = Statement::query(
        "UPDATE zmsg_dead_letters SET cause = cause WHERE id = ? RETURNING 1",
        vec![Value::Uuid(letter)],
    );
    Ok(!store.execute(&read).await?.rows.is_empty())
}

/// Which letters a flush wrote.
pub(super) async fn written_by(
    store: &dyn SqlStore,
    origin: Origin,
    from: u64,
    to: u64,
) -> Result<Vec<Uuid>> {
    let query = Statement::query(
        "SELECT id FROM zmsg_dead_letters \
         WHERE stream = ? AND shard = ? AND seq_to > ? AND seq_to <= ?",
        vec![Value::Uuid(origin.stream), Value::Int(origin.shard.into()), number(from), number(to)],
    );
    store.fetch(&query).await?.iter().map(|row| uuid_at(row, 0)).collect()
}

/// The statement that says why a letter was refused again.
pub(super) fn set_cause(letter: Uuid, cause: &Error) -> Statement {
    Statement::new(
        "UPDATE zmsg_dead_letters SET cause = ? WHERE id = ?",
        vec![text(&cause.to_string()), Value::Uuid(letter)],
    )
}

pub(super) fn is_conflict(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && !error.is_temporary() && !error.is_outcome_unknown()
}

fn read(row: &Row) -> Result<(DeadLetter, Payload)> {
    let payload = Payload::decode(row.bytes(8)?)?;
    let unsigned = |index| Ok::<u64, Error>(u64::try_from(row.int(index)?).unwrap_or_default());
    let letter = DeadLetter {
        id: uuid_at(row, 0)?,
        stream: uuid_at(row, 1)?,
        shard: u16::try_from(row.int(2)?).unwrap_or(u16::MAX),
        seq: (unsigned(3)?, unsigned(4)?),
        batch_key: row.text(5)?.to_owned(),
        summary: row.text(6)?.to_owned(),
        cause: row.text(7)?.to_owned(),
        keys: payload.keys.iter().map(Key::new).collect::<Result<_>>()?,
        created: unsigned(9)?,
    };
    Ok((letter, payload))
}

/// A UUID as a database gives it back: as such, or as its 16 bytes.
pub(super) fn uuid_at(row: &Row, index: usize) -> Result<Uuid> {
    match row.at(index)? {
        Value::Uuid(id) => Ok(*id),
        _ => Uuid::from_slice(row.bytes(index)?).map_err(|cause| {
            Error::new(ErrorKind::Corrupted, "a dead letter's id is no uuid").with_source(cause)
        }),
    }
}
