//! When an acknowledgement comes, who shares a sync, and what a dropped future leaves.

use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use zmsg_core::ErrorKind;
use zmsg_wal::testing::{Disk, Fault, FaultKind};
use zmsg_wal::{Durability, Log, LogOptions, RealFs, SyncPolicy};

use crate::support::{all, open, rarely, small};

fn roomy(sync: SyncPolicy) -> LogOptions {
    LogOptions {
        sync,
        segment_bytes: 1 << 20,
        buffer_bytes_max: 1 << 18,
        bytes_max: 64 << 20,
        ..small()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 8 << 20, ..roomy(SyncPolicy::Always) };
    let (log, _) = Log::open(dir.path().join("log"), options, RealFs::shared()).unwrap();
    let before = log.stats().syncs;
    let (tasks, each) = (128_u64, 40_u64);
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let log = log.clone();
        running.spawn(async move {
            for _ in 0..each {
                let appended = log.append(1, &[&task.to_le_bytes()]).unwrap();
                appended.wait(Durability::Synced).await.unwrap();
                assert!(log.stats().synced_seq >= appended.seq());
            }
        });
    }
    running.join_all().await;
    let syncs = log.stats().syncs - before;
    assert!(syncs * 4 < tasks * each, "{syncs} syncs for {} records", tasks * each);
    log.close().await.unwrap();
}

#[test]
fn with_an_interval_the_timer_syncs_and_nobody_else() {
    let disk = Disk::new();
    let every = Duration::from_millis(40);
    let (log, _) = open(disk.fs(), &roomy(SyncPolicy::Interval(every))).unwrap();
    let begun = Instant::now();
    let first = log.append(1, &[b"one"]).unwrap();
    first.wait(Durability::Flushed).wait_blocking().unwrap();
    assert!(log.stats().synced_seq < first.seq() || begun.elapsed() >= every);
    let second = log.append(1, &[b"two"]).unwrap();
    // On a busy machine the timer may have come before the second record.
    let late = begun.elapsed() >= every;
    second.wait(Durability::Synced).wait_blocking().unwrap();
    assert!(begun.elapsed() >= every, "the timer was not waited for");
    assert!(log.stats().syncs == 1 || late, "one sync for both");
}

#[test]
fn a_sync_that_is_asked_for_does_not_wait_for_the_timer() {
    for sync in [rarely(), SyncPolicy::Os] {
        let disk = Disk::new();
        let (log, _) = open(disk.fs(), &roomy(sync)).unwrap();
        let appended = log.append(1, &[b"one"]).unwrap();
        log.sync().wait_blocking().unwrap();
        assert_eq!((log.stats().synced_seq, log.stats().syncs), (appended.seq(), 1));
    }
}

#[test]
fn who_waits_for_synced_gets_it_also_where_nobody_syncs_by_himself() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &roomy(SyncPolicy::Os)).unwrap();
    let appended = log.append(1, &[b"one"]).unwrap();
    appended.wait(Durability::Flushed).wait_blocking().unwrap();
    assert_eq!(log.stats().syncs, 0);
    appended.wait(Durability::Synced).wait_blocking().unwrap();
    assert_eq!(log.stats().syncs, 1);
}

#[test]
fn what_is_kept_until_it_is_synced_has_a_bound() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: SyncPolicy::Os, ..small() }).unwrap();
    for _ in 0..5 {
        let appended = log.append(1, &[&[1; 500]]).unwrap();
        appended.wait(Durability::Flushed).wait_blocking().unwrap();
    }
    assert!(log.stats().synced_seq >= 3, "{:?}", log.stats());
}

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_wait_that_is_dropped_at_any_poll_changes_nothing() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &roomy(rarely())).unwrap();
    let waker = Waker::from(Arc::new(Nothing));
    let mut context = Context::from_waker(&waker);
    for polls in 0..20 {
        let appended = log.append(1, &[b"one"]).unwrap();
        for durability in [Durability::Buffered, Durability::Flushed, Durability::Synced] {
            let mut wait = Box::pin(appended.wait(durability));
            for _ in 0..polls {
                if let Poll::Ready(result) = wait.as_mut().poll(&mut context) {
                    result.unwrap();
                    break;
                }
            }
            drop(wait);
        }
        let mut sync = Box::pin(log.sync());
        for _ in 0..polls {
            if sync.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
    }
    for polls in 0..3 {
        let log = log.clone();
        let mut close = Box::pin(log.close());
        for _ in 0..polls {
            if close.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
        drop(close);
    }
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.records, recovered.closed), (20, true));
    assert_eq!(all(&log).unwrap().len(), 20);
}

#[test]
fn a_full_buffer_and_a_full_log_say_so_at_once_and_keep_what_they_accepted() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { bytes_max: 4096, ..small() }).unwrap();
    let mut accepted = 0;
    let refused = loop {
        match log.append(1, &[&[1; 200]]) {
            Ok(appended) => appended.wait(Durability::Synced).wait_blocking().unwrap(),
            Err(error) => break error,
        }
        accepted += 1;
    };
    assert_eq!((refused.kind(), refused.is_temporary()), (ErrorKind::Overloaded, true));
    assert!(refused.to_string().contains("wal.bytes_max"), "{refused}");
    // Delivered records make room.
    log.remove_below(log.last_seq()).unwrap();
    let refused = log.append_many(&[(1, [1; 400].as_slice()); 9]).unwrap_err();
    assert!(refused.to_string().contains("wal.buffer_bytes_max"), "{refused}");
    let too_long = log.append(1, &[&[1; 300], &[2; 213]]).unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::InvalidInput);
    assert!(log.append_many(&[]).is_err());
    log.close_blocking().unwrap();
    assert_eq!(log.append(1, &[b"late"]).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(log.last_seq(), accepted);
    log.close_blocking().unwrap();
}

#[test]
fn a_run_of_records_is_accepted_whole_or_not_at_all() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    let long = [1; 513];
    assert!(log.append_many(&[(1, b"fits"), (1, &long)]).is_err());
    let run = log.append_many(&[(1, b"one"), (2, b"two"), (3, b"three")]).unwrap();
    assert_eq!((run.first_seq(), run.seq()), (1, 3));
    run.wait(Durability::Synced).wait_blocking().unwrap();
    let kinds: Vec<_> = all(&log).unwrap().iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [1, 2, 3]);
}

#[test]
fn waiting_for_what_was_never_appended_ends_with_the_log() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    let waiting = log.wait(5, Durability::Flushed);
    let thread = std::thread::spawn(move || waiting.wait_blocking());
    log.append(1, &[b"one"]).unwrap();
    log.close_blocking().unwrap();
    assert_eq!(thread.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_log_that_failed_acknowledges_what_came_before_and_refuses_the_rest() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    let before = log.append(1, &[b"before"]).unwrap();
    before.wait(Durability::Synced).wait_blocking().unwrap();
    disk.fail(Fault { kind: FaultKind::Eio, call: 1, times: u64::MAX });
    let after = log.append(1, &[b"after"]).unwrap();
    assert!(after.wait(Durability::Synced).wait_blocking().is_err());
    before.wait(Durability::Synced).wait_blocking().unwrap();
}

#[test]
fn bounds_that_cannot_be_kept_together_are_refused() {
    let refused = |change: fn(&mut LogOptions)| {
        let mut options = small();
        change(&mut options);
        let error = open(Disk::new().fs(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    };
    refused(|options| options.record_bytes_max = 0);
    refused(|options| options.record_bytes_max = u32::MAX);
    refused(|options| options.buffer_bytes_max = 500);
    refused(|options| options.buffer_bytes_max = usize::MAX);
    refused(|options| options.segment_bytes = 2048);
    refused(|options| options.bytes_max = 4095);
    refused(|options| options.sync = SyncPolicy::Interval(Duration::ZERO));
    let (log, _) = open(
        Disk::new().fs(),
        &LogOptions { sync: SyncPolicy::Interval(Duration::MAX), ..small() },
    )
    .unwrap();
    log.append(1, &[b"one"]).unwrap();
    log.sync().wait_blocking().unwrap();
}
