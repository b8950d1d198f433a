//! A process that is killed, again and again, for real: what it acknowledged is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use zmsg_core::{Error, ErrorKind};
use zmsg_queue::batch::{Batch, BatchConfig, BatchOrder, BatchQueue, Outcome};

use super::rig::{PATIENCE, quick};

const DIR: &str = "ZMSG_TEST_BATCH_DIR";
const ORDER: &str = "ZMSG_TEST_BATCH_ORDER";
const FIRST: &str = "ZMSG_TEST_BATCH_FIRST";

fn config(dir: &Path, order: &str) -> BatchConfig {
    let (order, in_flight_max) = match order {
        "strict" => (BatchOrder::Strict, 1),
        "by-key" => (BatchOrder::ByKey, 4),
        _ => (BatchOrder::Any, 4),
    };
    let small = BatchConfig { memory_items_max: 100, ..BatchConfig::durable(dir.join("queue")) };
    // A dead letter would be no loss, and this sink does not tell of it.
    BatchConfig { order, in_flight_max, tries_max: 1_000, ..quick(small) }
}

/// A queue whose sink is a file: a line for each item, its number and its id, with a mark at the end: a
/// kill may cut a write short. It fails now and then, also after it has written.
async fn open(dir: &Path, order: &str) -> BatchQueue<u64> {
    let mut file =
        std::fs::File::options().append(true).create(true).open(dir.join("sink")).unwrap();
    // Behind what a killed process may have begun.
    file.write_all(b"\n").unwrap();
    let file = Arc::new(Mutex::new(file));
    let handler = move |batch: Batch<u64>| {
        let file = Arc::clone(&file);
        async move {
            let fails = || fastrand::u8(..) < 20;
            let failed = || Err(Error::new(ErrorKind::Unexpected, "now and then"));
            if fails() {
                return failed();
            }
            let lines: String =
                batch.iter().zip(batch.ids()).map(|(item, id)| format!("{item} {id};\n")).collect();
            file.lock().unwrap().write_all(lines.as_bytes()).unwrap();
            if fails() { failed() } else { Ok(Outcome::done()) }
        }
    };
    let builder = BatchQueue::builder(config(dir, order));
    let builder =
        if order == "by-key" { builder.ordered_by(|item: &u64| item % 8) } else { builder };
    builder.open(handler).await.unwrap()
}

/// Not a test of its own: the process that the next test kills. Prints each acknowledged item.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_enqueues_until_it_is_killed() {
    let (Ok(dir), Ok(order)) = (std::env::var(DIR), std::env::var(ORDER)) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let queue = open(dir.as_ref(), &order).await;
    queue.start().unwrap();
    let next = std::sync::atomic::AtomicU64::new(first);
    let produce = || async {
        loop {
            let item = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            println!("made {item}");
            if item.is_multiple_of(5) {
                queue.enqueue_batch(vec![item]).await.unwrap();
            } else {
                queue.enqueue(item).await.unwrap();
            }
            println!("acked {item}");
        }
    };
    tokio::join!(produce(), produce(), produce(), produce());
}

#[derive(Default)]
struct Told {
    made: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

/// Runs the child for so many acknowledgements, kills it, and takes in what it told.
fn killed_after(dir: &Path, order: &str, acks: usize, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["batch::killed::child_that_enqueues_until_it_is_killed", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(ORDER, order)
        .env(FIRST, told.made.last().map_or(0, |last| last + 1).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test runner may put its own words before the first line.
        if let Some((_, item)) = line.split_once("made ") {
            told.made.insert(item.parse().unwrap());
        } else if let Some((_, item)) = line.split_once("acked ") {
            told.acked.insert(item.parse().unwrap());
            seen += 1;
            if seen == acks {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(seen >= acks, "the child ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_no_acknowledged_item_and_none_has_two_ids() {
    for order in ["strict", "by-key", "any"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let killing = tokio::task::spawn_blocking(move || {
            let mut told = Told::default();
            for _ in 0..70 {
                killed_after(&path, order, fastrand::usize(1..300), &mut told);
            }
            told
        });
        let told = killing.await.unwrap();
        let queue = open(dir.path(), order).await;
        queue.start().unwrap();
        let report = queue.close(PATIENCE).await;
        assert!(report.is_drained() && report.buried == 0, "{order}: {report:?}");
        check(&told, &std::fs::read_to_string(dir.path().join("sink")).unwrap(), order);
    }
}

fn check(told: &Told, sink: &str, order: &str) {
    let mut ids = BTreeMap::<u64, BTreeSet<&str>>::new();
    let mut first = Vec::new();
    for line in sink.lines().filter_map(|line| line.strip_suffix(';')) {
        let (item, id) = line.split_once(' ').unwrap();
        let item = item.parse().unwrap();
        if !ids.contains_key(&item) {
            first.push(item);
        }
        ids.entry(item).or_default().insert(id);
    }
    let lost: Vec<_> = told.acked.iter().filter(|item| !ids.contains_key(item)).collect();
    assert!(lost.is_empty(), "{order}: {lost:?} were acknowledged and are lost");
    let doubled: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(doubled.is_empty(), "{order}: {doubled:?} have several ids");
    let invented: Vec<_> = ids.keys().filter(|item| !told.made.contains(item)).collect();
    assert!(invented.is_empty(), "{order}: {invented:?} were never made");
    // By their ids, which are in the order of the queue.
    let place = |item: &u64| {
        let (stream, seq) = ids[item].first().unwrap().split_once('/').unwrap();
        (stream, seq.parse::<u64>().unwrap())
    };
    let lanes = if order == "by-key" { 8 } else { 1 };
    for lane in (0..lanes).filter(|_| order != "any") {
        let own = first.iter().filter(|item| **item % lanes == lane);
        assert!(own.is_sorted_by_key(place), "{order}: first seen out of order");
    }
}
