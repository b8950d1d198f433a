//! One generator, several threads, and a thief.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use zmsg_core::{ErrorKind, SystemClock};
use zmsg_idgen::{IdGenerator, IdOptions, Layout, MemoryLeases, RawId};

const THREADS: usize = 4;
const IDS: usize = 250_000;

/// Makes ids, and asserts that they rise as this thread sees them.
fn make_ids(generator: &IdGenerator) -> Vec<RawId> {
    let mut ids = Vec::with_capacity(IDS);
    while ids.len() < IDS {
        match generator.try_next_batch(ids.len() % 5) {
            Ok(batch) => ids.extend(batch),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                thread::yield_now();
            }
        }
        if let Ok(Some(id)) = generator.try_next() {
            ids.push(id);
        }
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_share_a_generator_through_lost_leases_without_a_duplicate() {
    let leases = MemoryLeases::new(Arc::new(SystemClock), Duration::from_secs(30));
    let layout = Layout::new(Layout::EPOCH_2021_MS, 44, 3, 16).unwrap();
    let generator = IdGenerator::start(
        layout,
        Arc::new(leases.clone()),
        Arc::new(SystemClock),
        IdOptions::default(),
    )
    .await
    .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let generator = generator.clone();
            tokio::task::spawn_blocking(move || make_ids(&generator))
        })
        .collect();
    let thief = thread::spawn({
        let (done, generator, leases) = (Arc::clone(&done), generator.clone(), leases.clone());
        let runtime = tokio::runtime::Handle::current();
        move || {
            let keeper = generator.keeper();
            while !done.load(Relaxed) {
                if let Some(node) = generator.stats().node {
                    leases.expire(node);
                }
                runtime.block_on(keeper.renew()).unwrap();
            }
        }
    });
    let mut ids = Vec::new();
    for worker in workers {
        ids.extend(worker.await.unwrap());
    }
    done.store(true, Relaxed);
    tokio::task::spawn_blocking(|| thief.join().unwrap()).await.unwrap();
    let made = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), made);
    let stats = generator.stats();
    assert!(stats.leases_lost > 100, "{stats:?}");
    assert_eq!(stats.issued, made as u64);
}
