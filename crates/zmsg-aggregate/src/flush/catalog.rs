//! What the server says about the tables that are flushed to: which of them many rows can be
//! changed in by one statement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use uuid::Uuid;
use zmsg_core::{
    Error, ErrorKind, ErrorStatus, Ident, Millis, Result, Statement, TableName, Value,
};
use zmsg_store::SqlStore;

/// What is known about tables, asked once and forgotten after a while.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    tables: Mutex<HashMap<TableName, Arc<TableFacts>>>,
}

/// What is known about one table.
#[derive(Debug, Default)]
pub(super) struct TableFacts {
    keys: HashMap<String, KeyType>,
    asked: Millis,
    /// Something was refused that should not have been: the table may have been altered.
    stale: AtomicBool,
    /// A row was missing lately: the dead letters go along with the statement from the start.
    pub(super) careful: AtomicBool,
    /// Others changed the same rows lately: rows are locked in order first.
    pub(super) contended: AtomicBool,
}

/// The type of a column that rows can be looked up by in bulk: where two values that differ
/// never meet one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum KeyType {
    Int,
    Text,
    Uuid,
    Bytes,
    Timestamp,
    Bool,
}

/// So long a table is believed to be as it was, milliseconds.
const BELIEVED: Millis = 300_000;

/// More tables than that are asked about anew; a table costs some hundred bytes.
const TABLES_MAX: usize = 1_024;

impl Catalog {
    /// What is known about a table; the server is asked if it is not known.
    ///
    /// # Errors
    /// As the store.
    pub(super) async fn facts(
        &self,
        store: &dyn SqlStore,
        table: &TableName,
        now: Millis,
    ) -> Result<Arc<TableFacts>> {
        let known = self.lock().get(table).cloned();
        let known = known.filter(|facts| now.saturating_sub(facts.asked) < BELIEVED);
        let facts = match known {
            Some(facts) if !facts.stale.load(Relaxed) => return Ok(facts),
            Some(stale) => {
                let TableFacts { careful, contended, .. } = &*stale;
                let (careful, contended) = (copy(careful), copy(contended));
                TableFacts { careful, contended, ..ask(store, table).await? }
            }
            None => ask(store, table).await?,
        };
        let facts = Arc::new(TableFacts { asked: now, ..facts });
        let mut tables = self.lock();
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.insert(table.clone(), Arc::clone(&facts));
        Ok(facts)
    }

    /// Whether others changed the same rows of a table lately.
    pub(super) fn is_contended(&self, table: &TableName) -> bool {
        self.lock().get(table).is_some_and(|facts| TableFacts::is(&facts.contended))
    }

    /// Asks anew the next time: something was refused that should not have been.
    pub(super) fn doubt(&self, table: &TableName) {
        if let Some(facts) = self.lock().get(table) {
            TableFacts::note(&facts.stale);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TableName, Arc<TableFacts>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(flag: &AtomicBool) -> AtomicBool {
    AtomicBool::new(TableFacts::is(flag))
}

impl TableFacts {
    /// The types by which rows that meet these equalities can be looked up in bulk; `None` if
    /// they cannot.
    pub(super) fn key_types(&self, equalities: &[(Ident, Value)]) -> Option<Vec<KeyType>> {
        let key = |(name, value): &(Ident, Value)| {
            let key = *self.keys.get(name.as_str())?;
            key.takes(value).then_some(key)
        };
        equalities.iter().map(key).collect()
    }

    pub(super) fn note(flag: &AtomicBool) {
        flag.store(true, Relaxed);
    }

    pub(super) fn is(flag: &AtomicBool) -> bool {
        flag.load(Relaxed)
    }
}

impl KeyType {
    /// The type of an array of such keys.
    pub(super) fn array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Text => "text[]",
            Self::Uuid => "uuid[]",
            Self::Bytes => "bytea[]",
            Self::Timestamp => "timestamptz[]",
            Self::Bool => "boolean[]",
        }
    }

    /// The value as an element of the array: equal rows have equal elements.
    pub(super) fn element(self, value: &Value) -> Value {
        match (self, value) {
            (Self::Uuid, Value::Text(text)) => {
                Uuid::parse_str(text).map_or_else(|_| value.clone(), Value::Uuid)
            }
            _ => value.clone(),
        }
    }

    fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Int, Value::Int(_))
            | (Self::Uuid, Value::Uuid(_))
            | (Self::Bytes, Value::Bytes(_))
            | (Self::Timestamp, Value::Timestamp(_))
            | (Self::Bool, Value::Bool(_)) => true,
            (Self::Text, Value::Text(text)) => !text.contains('\0'),
            (Self::Uuid, Value::Text(text)) => Uuid::parse_str(text).is_ok(),
            _ => false,
        }
    }

    /// By the number of the type in the server's catalog, which never changes. A collation that
    /// takes two texts for one is no key.
    fn of(column: &Column) -> Option<Self> {
        Some(match (column.base, column.deterministic) {
            (20 | 21 | 23, _) => Self::Int,
            (25 | 1043, true) => Self::Text,
            (2950, _) => Self::Uuid,
            (17, _) => Self::Bytes,
            (1184, _) => Self::Timestamp,
            (16, _) => Self::Bool,
            _ => return None,
        })
    }
}

/// One column in the answer of the server.
#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    base: u32,
    deterministic: bool,
}

/// One row, of a JSON document, if there is such a table: not a view, whose triggers do what
/// they like, and not a foreign table.
const QUERY: &str = "\
WITH RECURSIVE columns AS (
  SELECT a.attname, a.atttypid AS type, a.attcollation AS coll
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = to_regclass(?::text) AND a.attnum > 0 AND NOT a.attisdropped
), bases AS (
  SELECT attname, type, coll FROM columns
  UNION ALL
  SELECT b.attname, t.typbasetype, b.coll
  FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT
  (SELECT coalesce(json_agg(json_build_object(
      'name', b.attname, 'base', b.type::bigint,
      'deterministic', coalesce(l.collisdeterministic, true))), '[]')
    FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = b.coll)::text
FROM pg_catalog.pg_class c
WHERE c.oid = to_regclass(?::text) AND c.relkind IN ('r', 'p')";

async fn ask(store: &dyn SqlStore, table: &TableName) -> Result<TableFacts> {
    let mut name = String::new();
    table.write_quoted(&mut name);
    let query = Statement::query(QUERY, vec![Value::from(&name), Value::from(&name)]);
    let rows = match store.fetch(&query).await {
        Ok(rows) => rows,
        // Whoever may not look into the catalog changes its rows group by group.
        Err(error) if error.status() == ErrorStatus::Permanent => Vec::new(),
        Err(error) => return Err(error),
    };
    let Some(row) = rows.first() else { return Ok(TableFacts::default()) };
    let unread = |cause| {
        Error::new(ErrorKind::Unexpected, "the server's catalog could not be read")
            .with_source(cause)
    };
    let columns: Vec<Column> = serde_json::from_str(row.text(0)?).map_err(unread)?;
    let keys = columns.into_iter().filter_map(|column| {
        let key = KeyType::of(&column)?;
        Some((column.name, key))
    });
    Ok(TableFacts { keys: keys.collect(), ..TableFacts::default() })
}
