//! Many processes on one database.

use std::collections::HashSet;
use std::thread;

use zmsg_idgen::{Layout, RawId};

use super::child::{Made, Plan, Said};
use super::{Database, on_every_database};

on_every_database! {
    forty_processes_at_once_get_forty_nodes,
    a_million_ids_of_several_processes_without_a_duplicate,
    killed_and_restarted_processes_repeat_nothing,
    a_killed_process_frees_its_node_when_its_lease_ends,
}

/// The node of each id; all of one process are of one node.
fn node_of(ids: &[RawId], layout: &Layout) -> u32 {
    let nodes: HashSet<u32> = ids.iter().map(|id| layout.decode(*id).node).collect();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    nodes.into_iter().next().unwrap()
}

async fn forty_processes_at_once_get_forty_nodes(database: Database) {
    let plan = Plan { ids: 1, ..Plan::new(&database.url, 6) };
    let mut children: Vec<Made> = (0..40).map(|_| Made::spawn(&plan)).collect();
    let mut nodes = HashSet::new();
    for child in &mut children {
        assert!(nodes.insert(node_of(&child.ids(1), &plan.layout())));
        assert_eq!(child.next(), Some(Said::Done));
    }
    assert_eq!(nodes.len(), 40);
    let held = "SELECT count(*) FROM zmsg_node WHERE owner IS NOT NULL";
    assert_eq!(database.number(held).await, 40);
    children.into_iter().for_each(Made::finish);
    assert_eq!(database.number(held).await, 0, "given back");
}

async fn a_million_ids_of_several_processes_without_a_duplicate(database: Database) {
    const EACH: u64 = 250_000;
    let plan = Plan { ids: EACH, ..Plan::new(&database.url, 3) };
    let making: Vec<_> = (0..4)
        .map(|_| {
            let mut child = Made::spawn(&plan);
            thread::spawn(move || {
                let ids = child.ids(usize::try_from(EACH).unwrap());
                assert_eq!(child.next(), Some(Said::Done));
                child.finish();
                ids
            })
        })
        .collect();
    let mut all: Vec<RawId> = Vec::new();
    for made in making {
        let ids = made.join().unwrap();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "a process's ids rise");
        all.extend(ids);
    }
    let made = all.len();
    assert_eq!(made, 1_000_000);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), made);
}

/// Two processes at a time on four nodes: every node goes from hand to hand.
async fn killed_and_restarted_processes_repeat_nothing(database: Database) {
    let plan =
        Plan { lease_ms: 300, grace_ms: 0, reserve_ms: 2_000, ..Plan::new(&database.url, 2) };
    let mut seen = HashSet::new();
    let mut nodes = Vec::new();
    for _ in 0..6 {
        let mut children = [Made::spawn(&plan), Made::spawn(&plan)];
        let begun = children.each_mut().map(|child| child.ids(2_000));
        for (mut ids, child) in begun.into_iter().zip(children) {
            ids.extend(child.kill());
            nodes.push(node_of(&ids, &plan.layout()));
            for id in ids {
                assert!(seen.insert(id), "{id}");
            }
        }
    }
    let different: HashSet<&u32> = nodes.iter().collect();
    assert!(different.len() <= 4 && nodes.len() == 12, "{nodes:?}");
    let epochs = database.number("SELECT max(epoch) FROM zmsg_node").await;
    assert!(epochs > 1, "no node was leased twice: {nodes:?}");
}

async fn a_killed_process_frees_its_node_when_its_lease_ends(database: Database) {
    let plan = Plan { lease_ms: 1_000, grace_ms: 100, ..Plan::new(&database.url, 1) };
    let mut children = [Made::spawn(&plan), Made::spawn(&plan)];
    let both = children.each_mut().map(|child| child.ids(100));
    let [first, second] = children;
    let mut seen: HashSet<RawId> = both.iter().flatten().copied().collect();
    seen.extend(first.kill());
    // It waits for the dead one's lease, and not for longer.
    let mut third = Made::spawn(&plan);
    let ids = third.ids(1_000);
    assert_eq!(node_of(&ids, &plan.layout()), node_of(&both[0], &plan.layout()));
    seen.extend(second.kill());
    assert!(ids.into_iter().all(|id| seen.insert(id)), "an id was made twice");
}
