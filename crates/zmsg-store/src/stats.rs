//! What a store has done.

/// Counts since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Statements executed, reads and writes, failed ones too; the control of transactions is
    /// not counted.
    pub statements: u64,
    /// Writing jobs (calls of `execute` and `execute_all`) whose effect was committed.
    pub jobs: u64,
    /// Transactions committed; jobs that waited together may share one.
    pub commits: u64,
    /// Queries answered by `fetch`.
    pub queries: u64,
    /// Rows returned by queries and `RETURNING`.
    pub rows_read: u64,
    /// Rows changed, those of jobs that were rolled back later included.
    pub rows_changed: u64,
}
