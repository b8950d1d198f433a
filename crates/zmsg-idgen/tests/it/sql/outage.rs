//! A database that is away, hangs, or loses its answers.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use zmsg_core::{Error, ErrorKind, Result, Row, Statement, SystemClock};
use zmsg_idgen::{NodeLease, SqlLease, SqlLeaseOptions};
use zmsg_store::{Outcome, SqlStore, Step, StepError};

use super::kept::Kept;
use super::{Database, on_every_database, two_nodes, want};

on_every_database! {
    a_node_leased_by_a_lost_answer_is_free_when_its_lease_ends,
    a_lost_answer_of_a_renewal_costs_nothing,
    a_database_that_hangs_is_given_up_in_bounded_time,
    a_conflict_of_transactions_is_no_lost_lease,
    a_starter_in_whose_way_others_are_tries_again,
    a_starter_who_finds_no_node_gets_one_that_becomes_free_meanwhile,
    an_outage_longer_than_the_reservation_is_told_in_time_and_got_over,
    after_an_outage_longer_than_the_lease_the_generator_takes_a_new_lease,
}

const UP: u8 = 0;
const AWAY: u8 = 1;
const HANGING: u8 = 2;
const LOSING_ANSWERS: u8 = 3;
const AT_ODDS: u8 = 4;
const AT_ODDS_TWICE: u8 = 5;
const AT_ODDS_ONCE: u8 = 6;

/// A store that fails as it is told.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn SqlStore>,
    fault: AtomicU8,
    /// Runs before the next query.
    meanwhile: Mutex<Option<Statement>>,
}

impl Faulty {
    fn over(database: &Database) -> Arc<Self> {
        let (inner, meanwhile) = (Arc::clone(&database.store), Mutex::default());
        Arc::new(Self { inner, fault: AtomicU8::new(UP), meanwhile })
    }

    fn set(&self, fault: u8) {
        self.fault.store(fault, Relaxed);
    }

    async fn before(&self) -> Result<()> {
        match self.fault.load(Relaxed) {
            AWAY => Err(Error::new(ErrorKind::Unavailable, "the database is away").temporary()),
            fault @ (AT_ODDS | AT_ODDS_TWICE | AT_ODDS_ONCE) => {
                match fault {
                    AT_ODDS_TWICE => self.set(AT_ODDS_ONCE),
                    AT_ODDS_ONCE => self.set(UP),
                    _ => {}
                }
                Err(Error::new(ErrorKind::Conflict, "could not serialize").temporary())
            }
            HANGING => std::future::pending().await,
            _ => Ok(()),
        }
    }

    fn after<T>(&self, answer: T) -> Result<T> {
        match self.fault.load(Relaxed) {
            LOSING_ANSWERS => {
                Err(Error::new(ErrorKind::Unavailable, "no answer came").outcome_unknown())
            }
            _ => Ok(answer),
        }
    }
}

#[async_trait]
impl SqlStore for Faulty {
    fn dialect(&self) -> zmsg_sqlbuilder::Dialect {
        self.inner.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        self.before().await?;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(statement) = meanwhile {
            self.inner.execute(&statement).await?;
        }
        self.inner.fetch(query).await
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        self.before().await?;
        let outcome = self.inner.execute(statement).await?;
        self.after(outcome)
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        let whole = |error| StepError { step: None, error };
        self.before().await.map_err(whole)?;
        let outcomes = self.inner.execute_all(steps).await?;
        self.after(outcomes).map_err(whole)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

async fn a_node_leased_by_a_lost_answer_is_free_when_its_lease_ends(database: Database) {
    let store = Faulty::over(&database);
    let options = SqlLeaseOptions {
        lease: Duration::from_millis(300),
        grace: Duration::ZERO,
        ..SqlLeaseOptions::default()
    };
    let leases = SqlLease::new(store.clone(), options).unwrap();
    let seen = leases.acquire(want(two_nodes())).await.unwrap();
    leases.release(seen, 0).await.unwrap();
    store.set(LOSING_ANSWERS);
    for _ in 0..2 {
        let error = leases.acquire(want(two_nodes())).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
    }
    store.set(UP);
    let held = "SELECT count(*) FROM zmsg_node WHERE owner IS NOT NULL";
    assert_eq!(database.number(held).await, 2, "both are held, and nobody knows");
    let began = Instant::now();
    while let Err(error) = leases.acquire(want(two_nodes())).await {
        assert!(error.kind() == ErrorKind::Conflict && error.is_temporary(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
    }
}

async fn a_lost_answer_of_a_renewal_costs_nothing(database: Database) {
    let store = Faulty::over(&database);
    let kept = Kept::start(store.clone(), Duration::from_secs(30), Duration::from_millis(50)).await;
    let mut ids = vec![kept.generator.next().await.unwrap()];
    let node = kept.generator.stats().node;
    store.set(LOSING_ANSWERS);
    let error = kept.until_refused(&mut ids).await;
    assert!(error.is_temporary(), "{error:?}");
    store.set(UP);
    kept.until_served(&mut ids).await;
    assert_eq!((kept.generator.stats().node, kept.generator.stats().leases_lost), (node, 0));
    kept.end(&ids).await;
}

async fn a_database_that_hangs_is_given_up_in_bounded_time(database: Database) {
    let store = Faulty::over(&database);
    let kept = Kept::start(store.clone(), Duration::from_secs(30), Duration::from_millis(50)).await;
    let mut ids = vec![];
    store.set(HANGING);
    let began = Instant::now();
    let error = kept.until_refused(&mut ids).await;
    assert!(error.kind() == ErrorKind::Timeout && error.is_temporary(), "{error:?}");
    // At most the requests of two, the keeper's and its own.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    store.set(UP);
    kept.until_served(&mut ids).await;
    kept.end(&ids).await;
}

async fn a_conflict_of_transactions_is_no_lost_lease(database: Database) {
    let store = Faulty::over(&database);
    let leases = SqlLease::new(store.clone(), SqlLeaseOptions::default()).unwrap();
    let lease = leases.acquire(want(two_nodes())).await.unwrap();
    store.set(AT_ODDS);
    let error = leases.extend(&lease, lease.ceiling_ms + 1).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
    store.set(UP);
    leases.extend(&lease, lease.ceiling_ms + 1).await.unwrap();
}

async fn a_starter_in_whose_way_others_are_tries_again(database: Database) {
    let store = Faulty::over(&database);
    let leases = SqlLease::new(store.clone(), SqlLeaseOptions::default()).unwrap();
    for _ in 0..2 {
        store.set(AT_ODDS_TWICE);
        leases.acquire(want(two_nodes())).await.unwrap();
    }
    store.set(AT_ODDS);
    let error = leases.acquire(want(two_nodes())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
}

async fn a_starter_who_finds_no_node_gets_one_that_becomes_free_meanwhile(database: Database) {
    let store = Faulty::over(&database);
    let leases = SqlLease::new(store.clone(), SqlLeaseOptions::default()).unwrap();
    for _ in 0..2 {
        leases.acquire(want(two_nodes())).await.unwrap();
    }
    // A starter that found none asks why.
    let free = "UPDATE zmsg_node SET lease_until_ms = 1 WHERE node = 1";
    *store.meanwhile.lock().unwrap() = Some(Statement::new(free, vec![]));
    assert_eq!(leases.acquire(want(two_nodes())).await.unwrap().node, 1);
    assert!(store.meanwhile.lock().unwrap().is_none());
}

async fn an_outage_longer_than_the_reservation_is_told_in_time_and_got_over(database: Database) {
    let store = Faulty::over(&database);
    let reserve = Duration::from_millis(300);
    let kept = Kept::start(store.clone(), Duration::from_secs(30), reserve).await;
    let mut ids = vec![];
    store.set(AWAY);
    let began = Instant::now();
    let error = kept.until_refused(&mut ids).await;
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
    assert!(began.elapsed() < reserve + Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(ids.len() > 10, "the reservation bridges the beginning: {}", ids.len());
    let node = kept.generator.stats().node;
    store.set(UP);
    kept.until_served(&mut ids).await;
    assert_eq!(kept.generator.stats().node, node, "the lease has not ended");
    kept.end(&ids).await;
}

async fn after_an_outage_longer_than_the_lease_the_generator_takes_a_new_lease(database: Database) {
    let store = Faulty::over(&database);
    let kept =
        Kept::start(store.clone(), Duration::from_millis(500), Duration::from_millis(200)).await;
    let mut ids = vec![kept.generator.next().await.unwrap()];
    let node = kept.generator.stats().node.unwrap();
    store.set(AWAY);
    let ended = format!(
        "SELECT CASE WHEN epoch = 1 THEN lease_until_ms END FROM zmsg_node WHERE node = {node}"
    );
    let until_ms = u64::try_from(database.number(&ended).await).unwrap();
    let error = kept.until_refused(&mut ids).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    while zmsg_core::Clock::wall(&SystemClock) <= until_ms + 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.set(UP);
    kept.until_served(&mut ids).await;
    let stats = kept.generator.stats();
    assert_eq!(stats.leases_lost, 1);
    assert_ne!(stats.node, Some(node), "the other node lay idle longer");
    kept.end(&ids).await;
}
