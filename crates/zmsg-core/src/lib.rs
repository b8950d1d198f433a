//! The vocabulary of zmsg: types that three or more of its crates name in public signatures.
//!
//! The door is closed on purpose: nothing here does I/O, spawns or knows tokio. Read it in the
//! order below: what is written ([`Task`]: a [`Statement`] or an [`Op`]), what comes back
//! ([`Receipt`], [`Row`], [`Error`]), and what those are made of.

mod task;
mod statement;
mod op;
mod receipt;
mod error;
mod key;
mod ident;
mod value;
mod row;
mod clock;
mod backoff;
mod failpoint;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, Millis, SystemClock, UnixMillis};
pub use error::{Error, ErrorKind, ErrorStatus, Result};
#[cfg(feature = "failpoints")]
pub use failpoint::fail_point;
pub use ident::{Ident, TableName};
pub use key::Key;
pub use op::{Condition, CounterOp, MapOp, Number, OnMissing, Op, OpKind, SliceOp};
pub use receipt::{DiskSync, Level, Receipt, Settlement, Settler, TaskId};
pub use row::Row;
pub use statement::{KeyScope, Statement};
pub use task::{IntoTask, Task};
pub use value::{Timestamp, Value};
