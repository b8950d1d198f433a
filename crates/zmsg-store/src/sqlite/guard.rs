//! What statements may not do: end transactions, leave the file, turn safety off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that look at the schema, or that take effect in their own transaction at most.
const PRAGMAS: &[&str] = &[
    "application_id",
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "page_count",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "wal_checkpoint",
];

/// Pragmas that may be read and not set.
const PRAGMAS_TO_READ: &[&str] =
    &["foreign_keys", "journal_mode", "page_size", "synchronous", "trusted_schema"];

/// Lets the store's own statements pass where others are refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    open: Arc<AtomicBool>,
}

impl Guard {
    /// Puts the guard on a connection. SQLite asks it while preparing, so a statement from the
    /// cache costs nothing; and since it asks about meaning, not text, no comment or `EXPLAIN`
    /// gets past.
    pub(super) fn install(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let open = Arc::clone(&self.open);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if open.load(Relaxed) || allowed(&context.action) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        }))
    }

    /// Runs something of the store's own.
    pub(super) fn lifted<T>(&self, run: impl FnOnce() -> T) -> T {
        self.open.store(true, Relaxed);
        let result = run();
        self.open.store(false, Relaxed);
        result
    }
}

/// A group of jobs shares one transaction: a stray COMMIT would make half of a neighbour's job
/// permanent.
fn allowed(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. } => false,
        AuthAction::Function { function_name } => {
            !function_name.eq_ignore_ascii_case("load_extension")
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let listed = |list: &[&str]| list.iter().any(|it| it.eq_ignore_ascii_case(pragma_name));
            listed(PRAGMAS) || (pragma_value.is_none() && listed(PRAGMAS_TO_READ))
        }
        _ => true,
    }
}
