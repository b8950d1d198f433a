//! Statements of zmsg inside transactions of a program that uses diesel-async.
//!
//! ```no_run
//! # use zmsg_core::Statement;
//! # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), Box<dyn std::error::Error>> {
//! use diesel_async::{AsyncConnection, RunQueryDsl};
//! use zmsg_store::diesel::DieselStatement;
//!
//! let enqueue = Statement::new("INSERT INTO feeds (id, data) VALUES (?, ?)", vec![1.into(), "a".into()]);
//! connection
//!     .transaction(async |connection| {
//!         // Other queries of the program, and with them:
//!         let enqueue = DieselStatement::new(&enqueue).map_err(diesel::result::Error::QueryBuilderError)?;
//!         enqueue.execute(connection).await
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::error::Error as StdError;

use diesel::pg::Pg;
use diesel::pg::data_types::PgTimestamp;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{
    BigInt, Binary, Bool, Double, Jsonb, Text, Timestamptz, Untyped, Uuid as SqlUuid,
};
use uuid::Uuid;
use zmsg_core::{Error, Result, Statement, Timestamp, Value};
use zmsg_sqlbuilder::{Dialect, pieces};

/// PostgreSQL's epoch in microseconds since Unix's.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A [`Statement`] as a query of diesel: `execute` runs it, `load` reads rows that are
/// `QueryableByName`.
///
/// It is prepared once for each text. Its binds have the types of their values, not those that the
/// server would infer for their places: text goes into a place of type `text`, and into `jsonb` or
/// `uuid` only by a cast in the statement. NULL is written into the text.
#[derive(Debug, Clone)]
pub struct DieselStatement {
    pieces: Vec<String>,
    binds: Vec<Bind>,
}

#[derive(Debug, Clone)]
enum Bind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Json(serde_json::Value),
    Timestamp(PgTimestamp),
    Uuid(Uuid),
}

impl DieselStatement {
    /// The query of a statement.
    ///
    /// # Errors
    /// What keeps the statement from being a query: a number of binds other than that of its
    /// placeholders, a text with an open string, an array among the binds, a moment that
    /// PostgreSQL does not know. It is an `Error` of zmsg in the box that diesel's errors take.
    pub fn new(statement: &Statement) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let pieces = pieces(&statement.text, statement.binds.len(), Dialect::Postgres)?;
        let binds: Result<Vec<Bind>> = statement.binds.iter().map(Bind::new).collect();
        Ok(Self { pieces, binds: binds? })
    }
}

impl Bind {
    fn new(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Value::Json(json) => Self::Json(json.clone()),
            Value::Uuid(uuid) => Self::Uuid(*uuid),
            Value::Timestamp(Timestamp(micros)) => {
                let since = micros.checked_sub(EPOCH_MICROS);
                let since = since.ok_or_else(|| Error::invalid_input("a moment out of range"))?;
                Self::Timestamp(PgTimestamp(since))
            }
            Value::Array(_) => {
                return Err(Error::invalid_input("an array cannot be bound by way of diesel"));
            }
        })
    }
}

impl QueryFragment<Pg> for DieselStatement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (index, piece) in self.pieces.iter().enumerate() {
            out.push_sql(piece);
            match self.binds.get(index) {
                None => {}
                Some(Bind::Null) => out.push_sql("NULL"),
                Some(Bind::Bool(value)) => out.push_bind_param::<Bool, _>(value)?,
                Some(Bind::Int(value)) => out.push_bind_param::<BigInt, _>(value)?,
                Some(Bind::Float(value)) => out.push_bind_param::<Double, _>(value)?,
                Some(Bind::Text(text)) => out.push_bind_param::<Text, _>(text)?,
                Some(Bind::Bytes(bytes)) => out.push_bind_param::<Binary, _>(bytes)?,
                Some(Bind::Json(json)) => out.push_bind_param::<Jsonb, _>(json)?,
                Some(Bind::Timestamp(at)) => out.push_bind_param::<Timestamptz, _>(at)?,
                Some(Bind::Uuid(uuid)) => out.push_bind_param::<SqlUuid, _>(uuid)?,
            }
        }
        Ok(())
    }
}

/// Found by its text, which is what makes it prepared once and not anew each time.
impl QueryId for DieselStatement {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for DieselStatement {
    type SqlType = Untyped;
}
