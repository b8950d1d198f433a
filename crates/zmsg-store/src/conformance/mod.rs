//! The promises of [`SqlStore`], as tests that every backend passes.
//!
//! A backend implements [`Harness`] and calls [`conformance!`](crate::conformance!) once.

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking")]

mod lifecycle;
mod refusals;
mod transactions;
mod values;

pub use self::lifecycle::*;
pub use self::refusals::*;
pub use self::transactions::*;
pub use self::values::*;

use std::sync::Arc;

use async_trait::async_trait;
use zmsg_core::{Row, Statement, Value};
use zmsg_sqlbuilder::Dialect;

use crate::SqlStore;

/// A database of one test's own, empty at first.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens the database; again and again if asked.
    async fn open(&self) -> Arc<dyn SqlStore>;
}

/// Makes a test of every promise; the argument makes a fresh [`Harness`].
///
/// `conformance!(optional: ..)` takes an expression that makes an `Option` of one, for a backend
/// whose server may not be there: the tests pass then, and whoever makes the harness says so.
#[macro_export]
macro_rules! conformance {
    (optional: $harness:expr) => {
        $crate::conformance! { @all $harness; }
    };
    ($harness:expr) => {
        $crate::conformance! { @all Some($harness); }
    };
    (@all $harness:expr;) => {
        $crate::conformance! { @each $harness;
            execute_all_is_all_or_nothing,
            a_step_error_names_its_step,
            an_unmet_expectation_aborts_with_a_conflict,
            an_unmet_expectation_runs_its_statements,
            a_query_among_the_steps_is_a_check,
            a_check_that_finds_nothing_rolls_the_batch_back,
            a_query_that_finds_nothing_runs_its_statements,
            a_failing_job_does_not_touch_its_neighbours,
            concurrent_writers_lose_nothing,
            a_dropped_future_leaves_nothing_half_done,
            values_round_trip,
            long_values_round_trip,
            returning_gives_rows,
            changed_counts_the_rows_of_this_statement,
            hostile_values_stay_values_in_every_position,
            hostile_identifiers_stay_names,
            data_that_the_database_refuses_is_invalid_data,
            a_statement_that_cannot_run_is_invalid_input,
            placeholders_and_binds_must_agree,
            fetch_refuses_to_write,
            transaction_control_is_refused,
            errors_never_show_binds,
            an_acknowledged_write_is_read,
            an_acknowledged_write_survives_reopening,
            a_closed_store_says_so,
        }
    };
    (@each $harness:expr; $($promise:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if let Some(harness) = $harness {
                $crate::conformance::$promise(&harness).await;
            }
        }
    )+};
}

/// A store with the table `things(id, note)`: a key, and a text that must not be empty.
async fn with_things(harness: &impl Harness) -> Arc<dyn SqlStore> {
    let store = harness.open().await;
    let integer = match store.dialect() {
        Dialect::Sqlite => "INTEGER",
        Dialect::Postgres => "BIGINT",
    };
    let table = format!(
        "CREATE TABLE things (id {integer} PRIMARY KEY, note TEXT NOT NULL CHECK (note <> ''))"
    );
    store.execute(&Statement::new(table, vec![])).await.unwrap();
    store
}

fn insert(id: i64, note: &str) -> Statement {
    Statement::new("INSERT INTO things (id, note) VALUES (?, ?)", vec![id.into(), note.into()])
}

fn delete(id: i64) -> Statement {
    Statement::new("DELETE FROM things WHERE id = ?", vec![id.into()])
}

/// The ids in the table, in order.
async fn ids(store: &Arc<dyn SqlStore>) -> Vec<i64> {
    rows(store, "SELECT id FROM things ORDER BY id", vec![])
        .await
        .iter()
        .map(|row| row.int(0).unwrap())
        .collect()
}

async fn rows(store: &Arc<dyn SqlStore>, text: &str, binds: Vec<Value>) -> Vec<Row> {
    store.fetch(&Statement::query(text, binds)).await.unwrap()
}
