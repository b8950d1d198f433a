//! What leases in a database do beyond the contract.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use zmsg_core::{ErrorKind, SystemClock, Value};
use zmsg_idgen::{
    IdGenerator, IdOptions, Layout, NodeLease, Reserve, SqlLease, SqlLeaseOptions, held_nodes,
};

use super::{Database, on_every_database, two_nodes, want};

on_every_database! {
    the_first_starters_make_the_nodes_together,
    the_first_of_two_layouts_wins,
    clusters_do_not_know_each_other,
    the_node_that_lay_idle_longest_is_taken,
    a_node_rests_between_two_holders,
    an_expired_lease_is_not_renewed_even_if_nobody_took_the_node,
    a_lease_stranded_by_a_clock_that_was_set_back_is_free,
    a_full_pool_says_so_in_bounded_time,
    a_deleted_row_ends_its_lease_and_is_not_made_up_anew,
    a_generator_whose_lease_was_stolen_stops_and_takes_another_node,
    a_closed_generator_leaves_its_node_free_at_once,
    floors_never_lie_before_the_present_of_the_database,
    an_operator_sees_who_holds_what,
}

fn defaults() -> SqlLeaseOptions {
    SqlLeaseOptions::default()
}

async fn the_first_starters_make_the_nodes_together(database: Database) {
    let layout = Layout::new(Layout::EPOCH_2021_MS, 43, 10, 10).unwrap();
    let mut starters = JoinSet::new();
    for _ in 0..16 {
        let leases = database.leases(defaults());
        starters.spawn(async move { leases.acquire(want(layout)).await.unwrap().node });
    }
    let nodes: HashSet<u32> = starters.join_all().await.into_iter().collect();
    assert_eq!(nodes.len(), 16);
    assert_eq!(database.number("SELECT count(*) FROM zmsg_node").await, 1_024);
}

async fn the_first_of_two_layouts_wins(database: Database) {
    let layouts =
        [2, 6].map(|bits| Layout::new(Layout::EPOCH_2021_MS, 45, bits, 18 - bits).unwrap());
    for round in 0..20 {
        let cluster = format!("cluster {round}");
        let mut starters = JoinSet::new();
        for layout in layouts.into_iter().cycle().take(6) {
            let leases =
                database.leases(SqlLeaseOptions { cluster: cluster.clone(), ..defaults() });
            starters.spawn(async move { (layout, leases.acquire(want(layout)).await) });
        }
        let mut served = HashSet::new();
        for (layout, result) in starters.join_all().await {
            match result {
                Ok(_) => drop(served.insert(layout.nodes())),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}"),
            }
        }
        let rows = "SELECT count(*) FROM zmsg_node WHERE cluster = ?";
        let rows = database.run(rows, vec![Value::from(cluster)]).await[0].int(0).unwrap();
        assert_eq!(served.into_iter().map(i64::from).collect::<Vec<_>>(), [rows]);
    }
}

async fn clusters_do_not_know_each_other(database: Database) {
    let other = SqlLeaseOptions { cluster: String::from("other 'name'; --"), ..defaults() };
    let (ours, theirs) = (database.leases(defaults()), database.leases(other));
    let layout = Layout::new(Layout::EPOCH_2021_MS + 1, 44, 1, 18).unwrap();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(ours.acquire(want(two_nodes())).await.unwrap().node);
        nodes.push(theirs.acquire(want(layout)).await.unwrap().node);
    }
    assert_eq!(nodes, [0, 0, 1, 1]);
}

async fn the_node_that_lay_idle_longest_is_taken(database: Database) {
    let leases = database.leases(defaults());
    let first = leases.acquire(want(two_nodes())).await.unwrap();
    let second = leases.acquire(want(two_nodes())).await.unwrap();
    leases.release(first.clone(), first.floor_ms + 2_000).await.unwrap();
    leases.release(second.clone(), first.floor_ms + 1_000).await.unwrap();
    let next = leases.acquire(want(two_nodes())).await.unwrap();
    assert_eq!((next.node, next.floor_ms), (second.node, first.floor_ms + 1_001));
}

async fn a_node_rests_between_two_holders(database: Database) {
    let impatient = SqlLeaseOptions { grace: Duration::ZERO, ..defaults() };
    let lease = database.leases(defaults()).acquire(want(two_nodes())).await.unwrap();
    database.leases(defaults()).acquire(want(two_nodes())).await.unwrap();
    // It ends now, by the clock of the database.
    let now = "UPDATE zmsg_node SET lease_until_ms = ceiling_ms - 10000 WHERE node = ?";
    database.run(now, vec![Value::Int(lease.node.into())]).await;
    let refused = database.leases(defaults()).acquire(want(two_nodes())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    let next = database.leases(impatient).acquire(want(two_nodes())).await.unwrap();
    assert_eq!(next.node, lease.node);
}

async fn an_expired_lease_is_not_renewed_even_if_nobody_took_the_node(database: Database) {
    let leases = database.leases(defaults());
    let lease = leases.acquire(want(two_nodes())).await.unwrap();
    database.expire(lease.node).await;
    let error = leases.extend(&lease, lease.ceiling_ms + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let error = leases.release(lease, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

async fn a_lease_stranded_by_a_clock_that_was_set_back_is_free(database: Database) {
    let leases = database.leases(defaults());
    let [stranded, _kept] =
        [leases.acquire(want(two_nodes())).await, leases.acquire(want(two_nodes())).await]
            .map(Result::unwrap);
    let years =
        "UPDATE zmsg_node SET lease_until_ms = lease_until_ms + 100000000000 WHERE node = ?";
    database.run(years, vec![Value::Int(stranded.node.into())]).await;
    let next = leases.acquire(want(two_nodes())).await.unwrap();
    assert_eq!(next.node, stranded.node);
    assert!(next.floor_ms >= stranded.ceiling_ms);
}

async fn a_full_pool_says_so_in_bounded_time(database: Database) {
    let leases = database.leases(defaults());
    for _ in 0..2 {
        leases.acquire(want(two_nodes())).await.unwrap();
    }
    let began = Instant::now();
    let error = leases.acquire(want(two_nodes())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.is_temporary(), "{error:?}");
    assert!(error.to_string().contains("nodes: 2"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

async fn a_deleted_row_ends_its_lease_and_is_not_made_up_anew(database: Database) {
    let leases = database.leases(defaults());
    let lease = leases.acquire(want(two_nodes())).await.unwrap();
    let delete = "DELETE FROM zmsg_node WHERE node = ?";
    database.run(delete, vec![Value::Int(lease.node.into())]).await;
    let error = leases.extend(&lease, lease.ceiling_ms + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    leases.acquire(want(two_nodes())).await.unwrap();
    // Whoever was promised what by the row that is gone, nobody knows.
    let error = leases.acquire(want(two_nodes())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
}

async fn a_generator_whose_lease_was_stolen_stops_and_takes_another_node(database: Database) {
    let leases = Arc::new(database.leases(defaults()));
    let clock = Arc::new(SystemClock);
    let options = IdOptions { reserve_ahead: Duration::from_millis(10), ..IdOptions::default() };
    let generator = IdGenerator::start(two_nodes(), leases, clock, options).await.unwrap();
    let node = generator.stats().node.unwrap();
    let mut last = generator.next().await.unwrap();
    let stolen = "UPDATE zmsg_node SET epoch = epoch + 1, \
                  ceiling_ms = ceiling_ms + 60000 WHERE node = ? RETURNING ceiling_ms - 60000";
    let rows = database.run(stolen, vec![Value::Int(node.into())]).await;
    let ceiling_ms = u64::try_from(rows[0].int(0).unwrap()).unwrap();
    let error = loop {
        match generator.next().await {
            Ok(id) => {
                assert!(generator.layout().decode(id).time < ceiling_ms && id > last);
                last = id;
            }
            Err(error) => break error,
        }
    };
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
    assert!(error.to_string().contains("lease of the node was lost"), "{error}");
    generator.keeper().renew().await.unwrap();
    assert_ne!(generator.stats().node, Some(node));
    assert!(generator.next().await.unwrap() > last);
}

async fn a_closed_generator_leaves_its_node_free_at_once(database: Database) {
    let leases = Arc::new(database.leases(defaults()));
    let mut nodes = HashSet::new();
    for _ in 0..4 {
        let clock = Arc::new(SystemClock);
        let generator =
            IdGenerator::start(two_nodes(), leases.clone(), clock, IdOptions::default());
        let generator = generator.await.unwrap();
        generator.next_batch(10).await.unwrap();
        nodes.extend(generator.stats().node);
        generator.close().await.unwrap();
    }
    assert_eq!(nodes.len(), 2, "the one that lay idle longer, each time");
}

async fn floors_never_lie_before_the_present_of_the_database(database: Database) {
    let leases = database.leases(defaults());
    let ancient = Reserve { from_ms: Layout::EPOCH_2021_MS, ..want(two_nodes()) };
    let lease = leases.acquire(ancient).await.unwrap();
    let acquired = database.number("SELECT max(acquired_ms) FROM zmsg_node").await;
    let late = i64::try_from(lease.floor_ms).unwrap() - acquired;
    assert!((0..1_000).contains(&late), "{late}");
}

async fn an_operator_sees_who_holds_what(database: Database) {
    assert_eq!(held_nodes(&*database.store, 10).await.unwrap(), []);
    let named = |cluster: &str, holder: &str| SqlLeaseOptions {
        cluster: cluster.to_owned(),
        holder: holder.to_owned(),
        ..defaults()
    };
    let (a, b) = (database.leases(named("a", "host 1")), database.leases(named("b", "host 2")));
    b.acquire(want(two_nodes())).await.unwrap();
    let given_back = a.acquire(want(two_nodes())).await.unwrap();
    a.acquire(want(two_nodes())).await.unwrap();
    a.release(given_back, 0).await.unwrap();
    let held = held_nodes(&*database.store, 10).await.unwrap();
    let seen: Vec<_> = held
        .iter()
        .map(|it| (it.cluster.as_str(), it.node, it.holder.as_str(), it.epoch))
        .collect();
    assert_eq!(seen, [("a", 1, "host 1", 1), ("b", 0, "host 2", 1)]);
    for node in &held {
        assert!(node.lease_left > Duration::from_secs(20), "{node:?}");
        assert!(node.lease_left <= defaults().lease, "{node:?}");
        assert!(node.reserved > Duration::from_secs(5), "{node:?}");
        assert!(node.reserved <= Duration::from_secs(10), "{node:?}");
        assert!(node.held_for < Duration::from_secs(10), "{node:?}");
    }
    assert_eq!(held_nodes(&*database.store, 1).await.unwrap().len(), 1);
    // As after a crash, when the lease has ended.
    database.expire(1).await;
    assert_eq!(held_nodes(&*database.store, 10).await.unwrap()[0].cluster, "b");
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let database = Database::sqlite().await;
    for options in [
        SqlLeaseOptions { cluster: String::new(), ..defaults() },
        SqlLeaseOptions { cluster: "c".repeat(256), ..defaults() },
        SqlLeaseOptions { cluster: String::from("a\0b"), ..defaults() },
        SqlLeaseOptions { holder: "h".repeat(256), ..defaults() },
        SqlLeaseOptions { lease: Duration::from_millis(99), ..defaults() },
        SqlLeaseOptions { lease: Duration::from_secs(3_601), ..defaults() },
        SqlLeaseOptions { grace: Duration::MAX, ..defaults() },
        SqlLeaseOptions { request_timeout: Duration::ZERO, ..defaults() },
    ] {
        let refused = SqlLease::new(database.store.clone(), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused}");
    }
    let wide = Layout::new(Layout::EPOCH_2021_MS, 45, 17, 1).unwrap();
    let refused = database.leases(defaults()).acquire(want(wide)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused}");
    let far = Reserve { ahead: Duration::MAX, ..want(two_nodes()) };
    assert!(database.leases(defaults()).acquire(far).await.is_err());
}
