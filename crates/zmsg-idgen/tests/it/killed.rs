//! A real process, killed in the middle of making ids.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use zmsg_core::SystemClock;
use zmsg_idgen::{FileLease, FixedLease, IdGenerator, IdOptions, Layout, NodeLease, RawId};

const DIRECTORY: &str = "ZMSG_IDGEN_TEST_DIRECTORY";

/// Two nodes.
fn layout() -> Layout {
    Layout::new(Layout::EPOCH_2021_MS, 44, 1, 18).unwrap()
}

fn files(directory: &Path) -> Arc<dyn NodeLease> {
    Arc::new(FileLease::new(directory.join("nodes")))
}

fn fixed(directory: &Path) -> Arc<dyn NodeLease> {
    Arc::new(FixedLease::with_file(0, directory.join("ceiling")))
}

async fn start(leases: Arc<dyn NodeLease>) -> IdGenerator {
    let options = IdOptions::default();
    IdGenerator::start(layout(), leases, Arc::new(SystemClock), options).await.unwrap()
}

/// The process that will be killed: this test program, called anew for this one test. In an
/// ordinary run there is nothing for it to do.
#[tokio::test]
async fn the_child_makes_ids_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let generators =
        [start(files(directory.as_ref())).await, start(fixed(directory.as_ref())).await];
    // The test harness has begun a line.
    println!();
    loop {
        for (which, generator) in generators.iter().enumerate() {
            for id in generator.next_batch(100).await.unwrap() {
                writeln!(std::io::stdout(), "{which} {id}").unwrap();
            }
        }
    }
}

fn spawn_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_child_makes_ids_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the child says it made, by generator; it is killed once it has said enough.
fn ids_until_killed(child: &mut Child) -> [HashSet<RawId>; 2] {
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut ids = [HashSet::new(), HashSet::new()];
    let mut line = String::new();
    while said.read_line(&mut line).unwrap() > 0 {
        // The last line may have been cut by the kill.
        let whole = line.strip_suffix('\n').and_then(|line| line.split_once(' '));
        if let Some((which @ ("0" | "1"), id)) = whole {
            let id = RawId::new(id.parse().unwrap()).unwrap();
            assert!(ids[usize::from(which == "1")].insert(id), "{id}");
        }
        line.clear();
        if ids[0].len() + ids[1].len() == 5_000 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    ids
}

#[tokio::test]
async fn a_killed_holder_frees_its_node_and_its_successor_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // Of the two nodes, this one is ours: all the children get the other.
    let ours = start(files(directory.path())).await;
    let node = ours.stats().node.unwrap();
    let mut seen = [HashSet::new(), HashSet::new()];
    for _ in 0..3 {
        let mut child = spawn_child(directory.path());
        let theirs = ids_until_killed(&mut child);
        // At once: the locks are free, and the clock has not moved past the ceilings.
        let successors =
            [start(files(directory.path())).await, start(fixed(directory.path())).await];
        assert_ne!(successors[0].stats().node, Some(node));
        for ((successor, theirs), seen) in successors.iter().zip(theirs).zip(&mut seen) {
            assert!(theirs.len() > 1_000);
            let highest = theirs.iter().max().copied();
            for id in theirs {
                assert!(seen.insert(id), "a later child repeated {id}");
            }
            for id in successor.next_batch(10_000).await.unwrap() {
                assert!(Some(id) > highest && seen.insert(id), "{id}");
            }
        }
    }
}
