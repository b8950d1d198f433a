//! What file and fixed leases do beyond the contract.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::{ErrorKind, ManualClock};
use zmsg_idgen::{FileLease, FixedLease, IdGenerator, IdOptions, Layout, NodeLease, Reserve};

use crate::clocks::NOW_MS;

/// Two nodes.
fn two_nodes() -> Layout {
    Layout::new(Layout::EPOCH_2021_MS, 41, 1, 21).unwrap()
}

fn want() -> Reserve {
    Reserve { layout: two_nodes(), from_ms: NOW_MS, ahead: Duration::from_secs(10) }
}

#[tokio::test]
async fn the_node_that_lay_idle_longest_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let leases = FileLease::new(directory.path());
    let first = leases.acquire(want()).await.unwrap();
    let second = leases.acquire(want()).await.unwrap();
    leases.release(first.clone(), NOW_MS + 2_000).await.unwrap();
    leases.release(second.clone(), NOW_MS + 1_000).await.unwrap();
    let next = leases.acquire(want()).await.unwrap();
    assert_eq!((next.node, next.floor_ms), (second.node, NOW_MS + 1_001));
}

#[tokio::test]
async fn a_damaged_ceiling_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    FileLease::new(directory.path()).acquire(want()).await.unwrap();
    let path = directory.path().join("node-0000.ceiling");
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in [
        &whole[..whole.len() / 2],
        "",
        "\u{0}\u{0}",
        &whole.replace("ceiling_ms 1", "ceiling_ms 2"),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = FileLease::new(directory.path()).acquire(want()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{damaged:?}");
        assert!(error.to_string().contains("node-0000.ceiling"), "{error}");
    }
    fs::write(&path, whole.replace("version 1", "version 2")).unwrap();
    let error = FileLease::new(directory.path()).acquire(want()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_ceiling_that_was_deleted_under_its_holder_is_not_made_up_anew() {
    let directory = tempfile::tempdir().unwrap();
    let leases = FileLease::new(directory.path());
    let lease = leases.acquire(want()).await.unwrap();
    fs::remove_file(directory.path().join("node-0000.ceiling")).unwrap();
    let error = leases.extend(&lease, lease.ceiling_ms + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
}

#[tokio::test]
async fn a_half_written_ceiling_of_a_crash_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let first = FileLease::new(directory.path()).acquire(want()).await.unwrap();
    fs::write(directory.path().join("node-0000.ceiling.new"), "zmsg node ceil").unwrap();
    let _other = FileLease::new(directory.path()).acquire(want()).await.unwrap();
    let again = FileLease::new(directory.path()).acquire(want()).await.unwrap();
    assert!(again.floor_ms >= first.ceiling_ms);
}

#[tokio::test]
async fn a_second_holder_of_a_fixed_node_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ceiling");
    let first = FixedLease::with_file(1, &path);
    let lease = first.acquire(want()).await.unwrap();
    let second = FixedLease::with_file(1, &path);
    assert_eq!(second.acquire(want()).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(first);
    let next = second.acquire(want()).await.unwrap();
    assert_eq!((next.node, next.floor_ms), (1, lease.ceiling_ms));
}

#[tokio::test]
async fn the_directory_of_a_fixed_node_is_made_if_it_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let lease = FixedLease::with_file(1, directory.path().join("ids/deeper/ceiling"));
    assert_eq!(lease.acquire(want()).await.unwrap().node, 1);
}

#[tokio::test]
async fn a_ceiling_file_serves_the_node_it_was_made_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ceiling");
    FixedLease::with_file(0, &path).acquire(want()).await.unwrap();
    let error = FixedLease::with_file(1, &path).acquire(want()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
}

#[tokio::test]
async fn a_fixed_node_outside_the_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for lease in
        [FixedLease::with_file(2, directory.path().join("c")), FixedLease::trusting_the_clock(2)]
    {
        assert_eq!(lease.acquire(want()).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test]
async fn a_lease_that_trusts_the_clock_keeps_order_within_its_process() {
    let leases: Arc<dyn NodeLease> = Arc::new(FixedLease::trusting_the_clock(1));
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let mut ids = HashSet::new();
    for _ in 0..20 {
        let generator = IdGenerator::start(
            Layout::default(),
            Arc::clone(&leases),
            clock.clone(),
            IdOptions::default(),
        )
        .await
        .unwrap();
        assert!(leases.acquire(want()).await.is_err(), "it is held");
        for id in generator.next_batch(5_000).await.unwrap() {
            assert!(ids.insert(id));
        }
        generator.close().await.unwrap();
        clock.jump(-3_600_000);
    }
}

#[tokio::test]
async fn a_missing_directory_is_made_for_the_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("a/b");
    FileLease::new(&nested).acquire(want()).await.unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for (path, mode) in [(nested.clone(), 0o700), (nested.join("node-0000.lock"), 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
    assert!(nested.join("node-0000.ceiling").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = FileLease::new(file.join("nodes")).acquire(want()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("nodes"), "{error}");
}
