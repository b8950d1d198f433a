//! A process that hangs for longer than its lease.
#![cfg(unix)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmsg_core::{ErrorKind, SystemClock};
use zmsg_idgen::{IdGenerator, RawId};

use super::child::{Made, Plan, Said};
use super::{Database, on_every_database};

on_every_database! {
    a_process_stopped_for_longer_than_its_lease_makes_no_id_of_its_successor,
}

/// The plan of both sides: of the two nodes one is held by the parent from the start, so that
/// the stopped process's node is the only one that can become free.
async fn a_process_stopped_for_longer_than_its_lease_makes_no_id_of_its_successor(
    database: Database,
) {
    let plan =
        Plan { lease_ms: 600, grace_ms: 100, reserve_ms: 300, ..Plan::new(&database.url, 1) };
    // This one is never renewed: its time is enough for the whole test.
    let long = Plan { lease_ms: 600_000, ..plan.clone() };
    let start = async |plan: &Plan| {
        let leases = Arc::new(database.leases(plan.lease_options()));
        IdGenerator::start(plan.layout(), leases, Arc::new(SystemClock), plan.id_options()).await
    };
    let ours = start(&long).await.unwrap();
    let mut child = Made::spawn(&plan);
    let mut theirs: Vec<RawId> = child.ids(500);
    let node = plan.layout().decode(theirs[0]).node;
    assert_ne!(ours.stats().node, Some(node));

    child.signal("STOP");
    let began = Instant::now();
    let successor = loop {
        match start(&long).await {
            Ok(successor) => break successor,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "its node does not become free");
    };
    assert_eq!(successor.stats().node, Some(node));
    let mut seen: HashSet<RawId> = successor.next_batch(20_000).await.unwrap().collect();

    child.signal("CONT");
    // What it had made before and not yet said; a few below its ceiling; then it is told.
    let why = loop {
        match child.next().unwrap() {
            Said::Id(id) => theirs.push(id),
            Said::Refused(why) => break why,
            Said::Done => unreachable!("its plan has no end"),
        }
    };
    assert!(why.contains("the lease of the node was lost"), "{why}");
    seen.extend(successor.next_batch(20_000).await.unwrap());
    assert!(seen.len() == 40_000 && theirs.into_iter().all(|id| seen.insert(id)));

    // Without a hand being moved, it goes on as soon as there is a node, another one.
    let other = ours.stats().node;
    ours.close().await.unwrap();
    let id = loop {
        match child.next().unwrap() {
            Said::Id(id) => break id,
            Said::Refused(_) => {}
            Said::Done => unreachable!("its plan has no end"),
        }
    };
    assert_eq!(Some(plan.layout().decode(id).node), other);
    assert!(seen.insert(id) && !child.kill().into_iter().any(|id| seen.contains(&id)));
}
