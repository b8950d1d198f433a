//! The promises of a membership filter, as tests that every backend signs.
//!
//! A backend's test file is one line: `zmsg_bloom::conformance!(MyHarness);`.

#![expect(clippy::unwrap_used, reason = "a suite panics where a promise is broken")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::task::{JoinSet, yield_now};
use zmsg_core::{ErrorKind, Key, Result};

use crate::{FilterState, MembershipFilter, Rebuild, Verdict};

/// Makes filters for the suite.
pub trait Harness: Send + Sync {
    /// A new filter that was never rebuilt, for `capacity` keys at 1 %.
    fn filter(&self, capacity: u64) -> impl Future<Output = Arc<dyn MembershipFilter>> + Send;

    /// Whether its filters rule keys out at all; [`crate::OpenFilter`] never does, and is held only
    /// to the promises about absence.
    fn rules_out(&self) -> bool {
        true
    }

    /// How many rebuilds are made under concurrent writes; fewer where each takes long.
    fn rebuilds(&self) -> usize {
        150
    }
}

/// Makes a test of every promise, for the harness that the expression gives; after `maybe`, for the
/// one that it may give: a backend whose server is not there is left out.
#[macro_export]
macro_rules! conformance {
    (maybe $harness:expr) => {
        $crate::conformance!(@each $harness;
            an_inserted_key_is_never_absent
            a_seeded_key_is_never_absent
            nothing_is_absent_before_the_first_rebuild_ends
            a_finished_rebuild_rules_unknown_keys_out
            a_rebuild_changes_no_answer_until_it_ends
            a_key_inserted_during_a_rebuild_is_never_absent
            a_write_in_flight_when_a_rebuild_begins_is_never_absent
            concurrent_inserts_are_never_absent_across_switches
            a_rebuild_leaves_deleted_keys_out
            a_dropped_rebuild_changes_nothing
            a_cancelled_begin_leaves_no_rebuild_behind
            one_rebuild_runs_at_a_time
            a_rebuild_of_another_filter_is_refused
            nothing_is_absent_once_over_filled
            a_rebuild_makes_room_for_more_keys
            a_rebuild_that_met_too_many_keys_keeps_what_was_there
            nothing_is_absent_after_distrust
            distrust_spoils_the_rebuild_that_runs
            distrust_before_a_rebuild_does_not_spoil_it
            a_rebuild_waits_for_writes_behind_its_back_that_are_on_their_way
            an_absence_that_no_longer_holds_is_not_confirmed
            answers_are_counted_by_verdict
            lookups_leave_nothing_behind
        );
    };
    (@each $harness:expr; $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                if let Some(harness) = $harness {
                    $crate::conformance::$promise(&harness).await;
                }
            }
        )*
    };
    ($harness:expr) => {
        $crate::conformance!(maybe Some($harness));
    };
}

/// An inserted key is never absent, from the moment its insert returned.
pub async fn an_inserted_key_is_never_absent(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &[]).await.unwrap();
    for key in keys(0..1_000) {
        insert(&*filter, std::slice::from_ref(&key)).await;
        assert_ne!(filter.check(key.as_str()), Verdict::Absent, "{key}");
        assert!(!filter.confirm_absent(&key).await.unwrap(), "{key}");
    }
    assert_none_absent(&*filter, &keys(0..1_000));
}

/// A key of the source that a finished rebuild was given is never absent.
pub async fn a_seeded_key_is_never_absent(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..1_000)).await.unwrap();
    assert_none_absent(&*filter, &keys(0..1_000));
}

/// Nothing is absent before the first rebuild ends, neither inserted keys nor others.
pub async fn nothing_is_absent_before_the_first_rebuild_ends(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    assert_none_absent(&*filter, &keys(0..100));
    insert(&*filter, &keys(0..10)).await;
    assert_none_absent(&*filter, &keys(0..100));
    let rebuild = filter.begin_rebuild(100).await.unwrap();
    filter.seed(&rebuild, &keys(10..20)).await.unwrap();
    assert_none_absent(&*filter, &keys(0..100));
    assert!(!filter.confirm_absent(&key(99)).await.unwrap());
    drop(rebuild);
    assert_none_absent(&*filter, &keys(0..100));
}

/// After a rebuild, keys that nobody inserted are absent, but for the configured rate.
pub async fn a_finished_rebuild_rules_unknown_keys_out(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    assert!(filter.stats().wants_rebuild);
    rebuild_from(&*filter, &keys(0..1_000)).await.unwrap();
    let absent = count_absent(&*filter, 1_000..11_000);
    assert!(absent > 9_500, "{absent} of 10000 were ruled out");
    let stats = filter.stats();
    assert_eq!((stats.state, stats.rebuilding), (FilterState::Ready, false));
    assert_eq!((stats.rebuilds, stats.wants_rebuild), (1, false));
}

/// While a rebuild runs, the generation before it answers.
pub async fn a_rebuild_changes_no_answer_until_it_ends(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..100)).await.unwrap();
    let before = count_absent(&*filter, 100..1_100);
    let rebuild = filter.begin_rebuild(100).await.unwrap();
    filter.seed(&rebuild, &keys(100..500)).await.unwrap();
    assert!(filter.stats().rebuilding);
    assert_none_absent(&*filter, &keys(0..100));
    assert_eq!(count_absent(&*filter, 100..1_100), before);
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(100..500));
}

/// A key inserted while a rebuild runs is in the generation that answers and in the next one.
pub async fn a_key_inserted_during_a_rebuild_is_never_absent(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &[]).await.unwrap();
    let rebuild = filter.begin_rebuild(10).await.unwrap();
    // Not in what the source showed: its row was written after the read.
    insert(&*filter, &keys(0..10)).await;
    assert_none_absent(&*filter, &keys(0..10));
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(0..10));
}

/// A key inserted before a rebuild began, whose row was committed only later, is never absent.
pub async fn a_write_in_flight_when_a_rebuild_begins_is_never_absent(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &[]).await.unwrap();
    let insertion = filter.insert(&keys(0..1)).await.unwrap();
    let mut begin = filter.begin_rebuild(10);
    let begun = tokio::select! {
        biased;
        rebuild = &mut begin => Some(rebuild.unwrap()),
        () = a_while() => None,
    };
    // Here the row is committed. A rebuild that has begun already may have read the source.
    let (rebuild, rows) = match begun {
        Some(rebuild) => (rebuild, vec![]),
        None => {
            drop(insertion);
            (begin.await.unwrap(), keys(0..1))
        }
    };
    filter.seed(&rebuild, &rows).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(0..1));
}

/// Writers on several threads, rebuilds one after the other: no committed row is ever absent.
pub async fn concurrent_inserts_are_never_absent_across_switches(harness: &impl Harness) {
    const WRITERS: u32 = 3;
    const ROWS_MAX: u32 = 20_000;
    let filter = harness.filter(u64::from(2 * WRITERS * ROWS_MAX)).await;
    let table = Arc::new(Mutex::new(BTreeSet::new()));
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (filter, table, done) = (Arc::clone(&filter), Arc::clone(&table), Arc::clone(&done));
        writers.spawn(async move {
            for row in 0..ROWS_MAX {
                if done.load(SeqCst) {
                    break;
                }
                let key = key(writer * ROWS_MAX + row);
                let insertion = filter.insert(std::slice::from_ref(&key)).await.unwrap();
                yield_now().await;
                table.lock().unwrap().insert(key.clone());
                assert_ne!(filter.check(key.as_str()), Verdict::Absent, "{key}");
                drop(insertion);
            }
        });
    }
    for _ in 0..harness.rebuilds() {
        let rebuild = filter.begin_rebuild(0).await.unwrap();
        let rows: Vec<Key> = table.lock().unwrap().iter().cloned().collect();
        for some in rows.chunks(500) {
            filter.seed(&rebuild, some).await.unwrap();
            yield_now().await;
        }
        filter.finish_rebuild(rebuild).await.unwrap();
        let rows: Vec<Key> = table.lock().unwrap().iter().cloned().collect();
        assert_none_absent(&*filter, &rows);
    }
    done.store(true, SeqCst);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let rows: Vec<Key> = table.lock().unwrap().iter().cloned().collect();
    assert_none_absent(&*filter, &rows);
}

/// A key whose row is gone stays "maybe" until a rebuild leaves it out; other keys are not hurt.
pub async fn a_rebuild_leaves_deleted_keys_out(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..1_000)).await.unwrap();
    rebuild_from(&*filter, &keys(500..1_000)).await.unwrap();
    assert_none_absent(&*filter, &keys(500..1_000));
    assert!(count_absent(&*filter, 0..500) > 450);
}

/// A rebuild that is dropped changes no answer, and the next one may begin.
pub async fn a_dropped_rebuild_changes_nothing(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..100)).await.unwrap();
    let before = count_absent(&*filter, 100..1_100);
    let rebuild = filter.begin_rebuild(100).await.unwrap();
    filter.seed(&rebuild, &keys(100..200)).await.unwrap();
    insert(&*filter, &keys(0..1)).await;
    drop(rebuild);
    assert!(!filter.stats().rebuilding);
    assert_none_absent(&*filter, &keys(0..100));
    assert_eq!(count_absent(&*filter, 100..1_100), before);
    rebuild_from(&*filter, &keys(0..100)).await.unwrap();
    assert_none_absent(&*filter, &keys(0..100));
}

/// A begin whose future is dropped while it waits for writes in flight abandons the rebuild; a
/// later one still waits for those writes.
pub async fn a_cancelled_begin_leaves_no_rebuild_behind(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    let insertion = filter.insert(&keys(0..1)).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            biased;
            rebuild = filter.begin_rebuild(10) => drop(rebuild.unwrap()),
            () = a_while() => {}
        }
        assert!(!filter.stats().rebuilding);
    }
    let mut begin = filter.begin_rebuild(10);
    let begun = tokio::select! {
        biased;
        rebuild = &mut begin => Some(rebuild.unwrap()),
        () = a_while() => None,
    };
    let (rebuild, rows) = match begun {
        Some(rebuild) => (rebuild, vec![]),
        None => {
            drop(insertion);
            (begin.await.unwrap(), keys(0..1))
        }
    };
    filter.seed(&rebuild, &rows).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(0..1));
}

/// A second rebuild is refused with `Conflict` while one runs.
pub async fn one_rebuild_runs_at_a_time(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    let first = filter.begin_rebuild(10).await.unwrap();
    assert!(!filter.stats().wants_rebuild, "one runs already");
    let refused = filter.begin_rebuild(10).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    // The refusal took nothing from the first.
    filter.seed(&first, &keys(0..10)).await.unwrap();
    filter.finish_rebuild(first).await.unwrap();
    assert_none_absent(&*filter, &keys(0..10));
    drop(filter.begin_rebuild(10).await.unwrap());
}

/// The token of another filter is refused with `Conflict` and does not open this one.
pub async fn a_rebuild_of_another_filter_is_refused(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let (filter, other) = (harness.filter(1_000).await, harness.filter(1_000).await);
    let mine = filter.begin_rebuild(10).await.unwrap();
    let foreign = other.begin_rebuild(10).await.unwrap();
    let refused = filter.seed(&foreign, &keys(0..1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let refused = filter.finish_rebuild(foreign).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_none_absent(&*filter, &keys(0..10));
    filter.finish_rebuild(mine).await.unwrap();
}

/// With far more keys than it was sized for, the filter says that it knows nothing and asks for a
/// rebuild.
pub async fn nothing_is_absent_once_over_filled(harness: &impl Harness) {
    let filter = harness.filter(100).await;
    rebuild_from(&*filter, &[]).await.unwrap();
    for key in keys(0..1_000) {
        insert(&*filter, std::slice::from_ref(&key)).await;
    }
    assert_eq!(count_absent(&*filter, 0..2_000), 0);
    assert!(!filter.confirm_absent(&key(1_999)).await.unwrap());
    if harness.rules_out() {
        assert_eq!(filter.check(key(1_999).as_str()), Verdict::Unknown);
        assert_eq!(filter.stats().state, FilterState::OverFilled);
        assert!(filter.stats().wants_rebuild);
    }
}

/// A rebuild that expects more keys than the configured capacity is sized for them.
pub async fn a_rebuild_makes_room_for_more_keys(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(100).await;
    rebuild_from(&*filter, &keys(0..1_000)).await.unwrap();
    let stats = filter.stats();
    assert!(stats.capacity >= 1_000 && stats.state == FilterState::Ready, "{stats:?}");
    assert!(!stats.wants_rebuild, "{stats:?}");
    assert_none_absent(&*filter, &keys(0..1_000));
    assert!(count_absent(&*filter, 1_000..2_000) > 950);
}

/// A rebuild that was told far too few keys fails; the generation before it stays, and the next
/// rebuild knows better.
pub async fn a_rebuild_that_met_too_many_keys_keeps_what_was_there(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(100).await;
    rebuild_from(&*filter, &keys(0..100)).await.unwrap();
    let rebuild = filter.begin_rebuild(100).await.unwrap();
    filter.seed(&rebuild, &keys(0..5_000)).await.unwrap();
    let refused = filter.finish_rebuild(rebuild).await.unwrap_err();
    assert_eq!((refused.kind(), refused.is_temporary()), (ErrorKind::Overloaded, true));
    assert_eq!(filter.stats().state, FilterState::Ready);
    assert_none_absent(&*filter, &keys(0..100));

    let rebuild = filter.begin_rebuild(100).await.unwrap();
    filter.seed(&rebuild, &keys(0..5_000)).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(0..5_000));
}

/// After rows were written behind its back, nothing is absent until a rebuild has ended.
pub async fn nothing_is_absent_after_distrust(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..10)).await.unwrap();
    drop(filter.distrust().await.unwrap());
    assert_eq!(count_absent(&*filter, 0..1_000), 0);
    assert!(!filter.confirm_absent(&key(999)).await.unwrap());
    insert(&*filter, &keys(10..20)).await;
    assert_eq!(count_absent(&*filter, 0..1_000), 0);
    if harness.rules_out() {
        let stats = filter.stats();
        assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Distrusted, true));
        rebuild_from(&*filter, &keys(0..20)).await.unwrap();
        assert!(count_absent(&*filter, 20..1_020) > 950);
    }
    assert_none_absent(&*filter, &keys(0..20));
}

/// A rebuild that runs when rows are written behind its back may have missed them: it fails.
pub async fn distrust_spoils_the_rebuild_that_runs(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    let rebuild = filter.begin_rebuild(10).await.unwrap();
    drop(filter.distrust().await.unwrap());
    filter.seed(&rebuild, &keys(0..10)).await.unwrap();
    let refused = filter.finish_rebuild(rebuild).await.unwrap_err();
    assert_eq!((refused.kind(), refused.is_temporary()), (ErrorKind::Conflict, true));
    assert_eq!(count_absent(&*filter, 0..1_000), 0);
    assert!(filter.stats().wants_rebuild);
}

/// A rebuild that begins after the distrust ends it.
pub async fn distrust_before_a_rebuild_does_not_spoil_it(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    drop(filter.distrust().await.unwrap());
    drop(filter.distrust().await.unwrap());
    rebuild_from(&*filter, &keys(0..10)).await.unwrap();
    assert_eq!(filter.stats().state, FilterState::Ready);
    assert!(count_absent(&*filter, 10..1_010) > 950);
}

/// A rebuild that begins after the distrust and before the write reads the source after the write.
pub async fn a_rebuild_waits_for_writes_behind_its_back_that_are_on_their_way(
    harness: &impl Harness,
) {
    let filter = harness.filter(1_000).await;
    let everything = filter.distrust().await.unwrap();
    let mut begin = filter.begin_rebuild(10);
    let begun = tokio::select! {
        biased;
        rebuild = &mut begin => Some(rebuild.unwrap()),
        () = a_while() => None,
    };
    let (rebuild, rows) = match begun {
        Some(rebuild) => (rebuild, vec![]),
        None => {
            drop(everything);
            (begin.await.unwrap(), keys(0..1))
        }
    };
    filter.seed(&rebuild, &rows).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
    assert_none_absent(&*filter, &keys(0..1));
}

/// An absence is confirmed while it holds, and no longer once the key was inserted.
pub async fn an_absence_that_no_longer_holds_is_not_confirmed(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..10)).await.unwrap();
    for key in keys(10..110) {
        let absent = filter.check(key.as_str()) == Verdict::Absent;
        assert_eq!(filter.confirm_absent(&key).await.unwrap(), absent, "{key}");
        insert(&*filter, std::slice::from_ref(&key)).await;
        assert!(!filter.confirm_absent(&key).await.unwrap(), "{key}");
    }
}

/// Every answer of `check` is counted once, from every thread.
pub async fn answers_are_counted_by_verdict(harness: &impl Harness) {
    if !harness.rules_out() {
        return;
    }
    let filter = harness.filter(1_000).await;
    count_absent(&*filter, 0..3);
    rebuild_from(&*filter, &keys(0..10)).await.unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let filter = Arc::clone(&filter);
        readers.spawn(async move { count_absent(&*filter, 0..1_010) });
    }
    let mut absent = 0;
    while let Some(reader) = readers.join_next().await {
        absent += reader.unwrap();
    }
    let checks = filter.stats().checks;
    assert_eq!((checks.absent, checks.unknown), (absent, 3));
    assert_eq!(checks.absent + checks.maybe, 4 * 1_010);
}

/// Keys that are only asked for change neither the answers nor what the filter holds.
pub async fn lookups_leave_nothing_behind(harness: &impl Harness) {
    let filter = harness.filter(1_000).await;
    rebuild_from(&*filter, &keys(0..10)).await.unwrap();
    let held = |filter: &dyn MembershipFilter| {
        let stats = filter.stats();
        (stats.bits, stats.inserted, stats.fill_ratio.to_bits())
    };
    let before = held(&*filter);
    let absent = count_absent(&*filter, 10..20_010);
    assert_eq!(held(&*filter), before);
    assert_eq!(count_absent(&*filter, 10..20_010), absent);
    // An "absent" that was given is not remembered either.
    insert(&*filter, &keys(10..500)).await;
    assert_none_absent(&*filter, &keys(0..500));
}

/// A whole rebuild from a source that holds `rows`.
async fn rebuild_from(filter: &dyn MembershipFilter, rows: &[Key]) -> Result<()> {
    let rebuild: Rebuild = filter.begin_rebuild(rows.len() as u64).await?;
    for some in rows.chunks(100) {
        filter.seed(&rebuild, some).await?;
    }
    filter.finish_rebuild(rebuild).await
}

/// An insert whose write commits at once.
async fn insert(filter: &dyn MembershipFilter, keys: &[Key]) {
    drop(filter.insert(keys).await.unwrap());
}

/// Long enough for anything that is not blocked to get on.
async fn a_while() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn key(number: u32) -> Key {
    Key::new(format!("feed_{number}")).unwrap()
}

fn keys(numbers: Range<u32>) -> Vec<Key> {
    numbers.map(key).collect()
}

fn assert_none_absent(filter: &dyn MembershipFilter, keys: &[Key]) {
    for key in keys {
        assert_ne!(filter.check(key.as_str()), Verdict::Absent, "{key}");
    }
}

fn count_absent(filter: &dyn MembershipFilter, numbers: Range<u32>) -> u64 {
    let absent = numbers.filter(|n| filter.check(key(*n).as_str()) == Verdict::Absent);
    absent.count() as u64
}
