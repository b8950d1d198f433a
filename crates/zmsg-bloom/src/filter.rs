//! The promises of a membership filter.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::{Key, Result};

use crate::{FilterStats, Insertion, Rebuild};

/// Knows which keys cannot have a row.
///
/// - An inserted key is never absent, from the moment its `insert` returned.
/// - A row whose key was inserted before the row could exist is never absent, whatever rebuilds
///   begin, end or fail meanwhile: a write in flight when a rebuild begins is waited for.
/// - Nothing is absent before the first rebuild ends, once the filter is over-filled, after
///   `distrust`, or while its backend is away. The answer is then [`Verdict::Unknown`].
/// - A rebuild changes no answer until it ends; the generation before it goes on answering.
///   One that is dropped or fails changes nothing.
/// - Keys are never taken out: a deleted key stays "maybe" until a rebuild leaves it out.
/// - Lookups leave no trace but a count: keys that are asked for take no memory.
/// - A filter that several nodes share gives its insertions a version, which the write's
///   transaction checks: see [`Insertion::version`]. "Inserted" and "written" mean such writes.
#[async_trait]
pub trait MembershipFilter: fmt::Debug + Send + Sync + 'static {
    /// Answers from memory: no I/O, no allocation but once per thread, and no lock but where the
    /// backend says so.
    ///
    /// [`Verdict::Absent`] is acted on only after [`confirm_absent`](Self::confirm_absent).
    fn check(&self, key: &str) -> Verdict;

    /// Whether `key` is absent for certain; called before an absence is acted on.
    ///
    /// A filter of this process looks again. A shared filter asks its backend, because another
    /// node may have inserted the key since: its `check` knows only the keys that passed through
    /// this node, and "absent" from it is a guess that this call confirms or not.
    ///
    /// # Errors
    /// If the backend did not answer; the caller goes on as for "maybe".
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn confirm_absent(&self, key: &Key) -> Result<bool>;

    /// Whether the answering generation was seeded from `scope`, as far as the filter keeps that:
    /// see [`Rebuild::cover`]. One that only this process fills leaves it to its user.
    fn covers(&self, scope: &str) -> bool {
        let _ = scope;
        true
    }

    /// As [`confirm_absent`](Self::confirm_absent), and the generation that rules the key out
    /// [covers](Self::covers) `scope`, although it may have been switched since that was asked.
    ///
    /// # Errors
    /// As [`confirm_absent`](Self::confirm_absent).
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn confirm_absent_in(&self, scope: &str, key: &Key) -> Result<bool> {
        let _ = scope;
        self.confirm_absent(key).await
    }

    /// Adds keys before their rows can exist: before the commit, on every route.
    ///
    /// They go into the generation that answers and into one that is being rebuilt. The caller
    /// keeps the [`Insertion`] until the outcome of its write is known: it tells a rebuild that
    /// begins in between to wait with reading the source.
    ///
    /// # Errors
    /// If a backend did not take the keys; then the filter no longer says "absent", or the
    /// caller must not commit, as the backend documents. A filter of this process never fails.
    ///
    /// # Cancel safety
    /// A dropped call may have added keys. That costs a lookup, never a row.
    async fn insert(&self, keys: &[Key]) -> Result<Insertion>;

    /// Opens a new, empty generation, sized for `expected` keys and room to grow, and waits for
    /// the writes in flight.
    ///
    /// When it returns, every later insert goes into the new generation too, and every write
    /// that was inserted earlier has ended. So a read of the source that starts now sees all
    /// rows that the new generation does not learn from inserts. Who holds an [`Insertion`] must
    /// not wait for this call: it waits for the insertion.
    ///
    /// # Errors
    /// `Conflict` while another rebuild runs; `InvalidConfig` if the generation would be too
    /// large.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the rebuild.
    async fn begin_rebuild(&self, expected: u64) -> Result<Rebuild>;

    /// Adds keys read from the source to the generation of `rebuild`.
    ///
    /// # Errors
    /// `Conflict` if this is not the rebuild that runs.
    ///
    /// # Cancel safety
    /// A dropped call may have added some of the keys; seeding them again is harmless.
    async fn seed(&self, rebuild: &Rebuild, keys: &[Key]) -> Result<()>;

    /// Switches to the generation of `rebuild`; from now on a key may be absent.
    ///
    /// The rebuild is over, whatever comes out.
    ///
    /// # Errors
    /// `Conflict` if this is not the rebuild that runs, or if [`distrust`](Self::distrust) was
    /// called while it ran; `Overloaded` if far more keys came than were expected. The generation
    /// before it stays; a new rebuild is worth trying.
    ///
    /// # Cancel safety
    /// A dropped call has either switched or abandoned the rebuild.
    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<()>;

    /// Says that rows are written whose keys were not inserted: nothing is absent until a rebuild
    /// that begins later has ended, and one that runs now cannot succeed.
    ///
    /// What it returns stands for every key there may be, and is kept and checked like that of
    /// [`insert`](Self::insert): a rebuild that begins meanwhile waits for the write, or its
    /// transaction is refused. Only a write that cannot check it calls this again afterwards,
    /// because a rebuild of another node may have begun in between and missed the rows.
    ///
    /// # Errors
    /// If that cannot be said to all nodes; then the caller must not write.
    ///
    /// # Cancel safety
    /// A dropped call may have taken effect. That costs a rebuild, never a row.
    async fn distrust(&self) -> Result<Insertion>;

    /// What the filter holds and how it answered.
    fn stats(&self) -> FilterStats;
}

/// What a filter knows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// There is no row with this key.
    Absent,
    /// There may be a row; at the configured rate there is none after all.
    Maybe,
    /// The filter cannot tell: not seeded, over-filled, not to be trusted, or its backend is
    /// away. Treated as [`Maybe`](Self::Maybe).
    Unknown,
}
