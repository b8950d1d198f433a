//! Builders that make statements and foldable operations; pure text, no I/O.
//!
//! What they make are `zmsg-core`'s [`Statement`](zmsg_core::Statement) and
//! [`Op`](zmsg_core::Op), in one portable form: `?` stands for a bind on every database, and a
//! name is always written in quotes. The store turns the text into that of its [`Dialect`].
//!
//! # A statement
//!
//! ```
//! use zmsg_sqlbuilder::{Dialect, render, sql};
//!
//! let (id, data) = ("feed_1", "hello");
//! let insert = sql("INSERT INTO feeds (id, data) VALUES (?, ?)", (id, data))
//!     .on_conflict("id")
//!     .do_update(["data"])
//!     .returning("id")
//!     .statement()?;
//! assert!(insert.returns_rows);
//! assert_eq!(
//!     render(&insert.text, insert.binds.len(), Dialect::Postgres)?,
//!     "INSERT INTO feeds (id, data) VALUES ($1, $2) \
//!      ON CONFLICT (\"id\") DO UPDATE SET \"data\" = excluded.\"data\" RETURNING \"id\""
//! );
//! # Ok::<(), zmsg_core::Error>(())
//! ```
//!
//! An `UPDATE` or `DELETE` without a condition is refused unless it says that it means all rows:
//!
//! ```
//! use zmsg_sqlbuilder::sql;
//!
//! assert!(sql("DELETE FROM feeds", ()).statement().is_err());
//! assert!(sql("DELETE FROM feeds", ()).all_rows().statement().is_ok());
//! ```
//!
//! # Operations that fold
//!
//! ```
//! use zmsg_core::OnMissing;
//! use zmsg_sqlbuilder::{condition, counter, map, slice, table};
//!
//! let like = counter("feed_meta", "like_count")
//!     .inc(1)
//!     .where_eq("id", "feed_1")
//!     .on_missing(OnMissing::Insert)
//!     .op()?;
//! assert_eq!(condition(&like.condition)?.0, r#""id" = ?"#);
//!
//! let join = slice("chats", "members").add("ann").where_eq("id", 7).op()?;
//! assert_eq!(join.column.as_str(), "members");
//!
//! let last = map("chats", "last").set("ann", 42).where_sql("id = ? AND NOT closed", (7,)).op()?;
//! assert_eq!(condition(&last.condition)?.0, "(id = ? AND NOT closed)");
//!
//! // The second spelling gives the same operation.
//! assert_eq!(like.kind, table("feed_meta").column("like_count").counter().inc(1).all_rows().op()?.kind);
//! # Ok::<(), zmsg_core::Error>(())
//! ```
//!
//! # Texts
//!
//! [`render`] writes a portable text for a dialect, [`split_script`] takes a migration apart,
//! [`condition`] writes the condition of an operation, and [`identifiers`] tells which names a
//! text mentions. They share one lexer, which knows strings, comments, dollar quotes and the
//! jsonb operators:
//!
//! ```
//! use zmsg_sqlbuilder::{Dialect, render, split_script};
//!
//! let text = "SELECT data ? 'a?' FROM feeds WHERE id = ?";
//! assert_eq!(
//!     render(text, 1, Dialect::Postgres)?,
//!     "SELECT data ? 'a?' FROM feeds WHERE id = $1"
//! );
//! assert_eq!(split_script("SELECT ';'; -- a; b\nSELECT 2;", Dialect::Sqlite)?.len(), 2);
//! # Ok::<(), zmsg_core::Error>(())
//! ```

mod sql;

mod table;

mod counter;
mod map;
mod slice;

mod op;

mod binds;
mod columns;
mod condition;

mod identifiers;
mod memo;
mod outline;
mod pieces;
mod render;
mod script;
mod shape;

mod dialect;
mod keyword;
mod lexer;
mod token;

pub use binds::IntoBinds;
pub use columns::IntoColumns;
pub use condition::condition;
pub use counter::{Counter, counter};
pub use dialect::Dialect;
pub use identifiers::identifiers;
pub use map::{Map, map};
pub use op::OpBuilder;
pub use outline::outline;
pub use pieces::pieces;
pub use render::render;
pub use script::split_script;
pub use slice::{Slice, slice};
pub use sql::{OnConflict, Sql, sql};
pub use table::{Column, Table, table};
