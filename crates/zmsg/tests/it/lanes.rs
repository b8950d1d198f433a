//! Delayed writes of one lane, on every queue that an engine may have.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg::core::Statement;
use zmsg::sqlbuilder::Dialect;
use zmsg::store::{Outcome, SqlStore, Step, StepError};
use zmsg::{
    Config, Error, ErrorKind, OnDead, QueueBackend, Receipt, Result, Write, Zmsg, counter, sql,
};

use crate::between::{Around, Between};
use crate::servers::Servers;
use crate::support::{DEADLINE, Engine, config, eventually, insert};

/// Long enough for all writes of a test to be accepted before the first is due.
const LATER: Duration = Duration::from_millis(500);

/// An engine with a table whose rows tell in which order they were written.
struct Place {
    zmsg: Zmsg,
    store: Arc<Between<Flaky>>,
    name: &'static str,
    _servers: Box<dyn Any>,
}

impl Place {
    async fn open(name: &'static str, config: Config, servers: impl Any) -> Self {
        let inner = zmsg::open_store(&config, &TaskTracker::new()).await.unwrap();
        let create = match inner.dialect() {
            Dialect::Postgres => {
                "CREATE TABLE lane_log (at BIGSERIAL PRIMARY KEY, n BIGINT UNIQUE)"
            }
            Dialect::Sqlite => {
                "CREATE TABLE lane_log (at INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER UNIQUE)"
            }
        };
        inner.execute(&Statement::new(create, vec![])).await.unwrap();
        let store = Arc::new(Between { inner, around: Flaky::default() });
        let zmsg = Zmsg::builder(config).store(store.clone()).open().await.unwrap();
        Self { zmsg, store, name, _servers: Box::new(servers) }
    }

    async fn on_sqlite(name: &'static str, backend: QueueBackend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = soon_again(config(dir.path()));
        config.queue.backend = backend;
        Self::open(name, config, dir).await
    }

    async fn on_postgres() -> Option<Self> {
        let servers = Servers::ready().await?;
        Some(Self::open("sql on PostgreSQL", soon_again(servers.config()), servers).await)
    }

    #[cfg(feature = "redis")]
    async fn in_redis() -> Option<Self> {
        let rig = crate::redis_queue::Rig::start()?;
        let config = soon_again(rig.config("engine"));
        std::fs::create_dir_all(&config.directory).unwrap();
        Some(Self::open("redis", config, rig).await)
    }

    /// One of each kind, as far as there are servers.
    async fn each() -> Vec<Self> {
        let mut all = vec![
            Self::on_sqlite("memory", QueueBackend::Memory).await,
            Self::on_sqlite("sql on SQLite", QueueBackend::Sql).await,
        ];
        all.extend(Self::on_postgres().await);
        #[cfg(feature = "redis")]
        all.extend(Self::in_redis().await);
        all
    }

    fn write(&self, n: i64) -> Write<'_> {
        self.zmsg.cache_and_delay_store(format!("note_{n}"), "x", log(n)).delay(LATER)
    }

    /// What was written, in its order.
    async fn log(&self) -> Vec<i64> {
        let query = Statement::query("SELECT n FROM lane_log ORDER BY at", vec![]);
        let rows = self.store.inner.fetch(&query).await.unwrap();
        rows.iter().map(|row| row.int(0).unwrap()).collect()
    }

    async fn close(self) {
        let report = self.zmsg.close(DEADLINE).await.unwrap();
        assert!(report.is_clean(), "{}: {report:?}", self.name);
    }
}

fn soon_again(mut config: Config) -> Config {
    config.queue.retry_base = Duration::from_millis(5);
    config.queue.retry_cap = Duration::from_millis(20);
    config
}

fn log(n: i64) -> zmsg::Sql {
    sql("INSERT INTO lane_log (n) VALUES (?)", (n,))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_lane_are_applied_in_order_whatever_fails_between() {
    const WRITES: i64 = 50;
    for place in Place::each().await {
        place.store.around.fails.store(true, SeqCst);
        let mut receipts = Vec::new();
        for n in 0..WRITES {
            receipts.push(place.write(n).ordered_by("a").await.unwrap());
        }
        for receipt in receipts {
            receipt.applied().await.unwrap();
        }
        assert_eq!(place.log().await, (0..WRITES).collect::<Vec<_>>(), "{}", place.name);
        let sent = place.store.around.seen.load(SeqCst);
        assert!(sent > WRITES.unsigned_abs() + 20, "{}: only {sent} transactions", place.name);
        place.close().await;
    }
}

/// Four writes of a lane, of which the second can never succeed.
async fn with_a_poisoned_one(place: &Place, on_dead: OnDead) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for n in [0, 0, 2, 3] {
        receipts.push(place.write(n).ordered_by("a").on_dead(on_dead).await.unwrap());
    }
    receipts[0].applied().await.unwrap();
    let error = receipts[1].applied().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{}: {error}", place.name);
    receipts.split_off(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_stops_its_lane_and_no_other_until_it_is_dropped() {
    for place in Place::each().await {
        let behind = with_a_poisoned_one(&place, OnDead::Block).await;
        for n in [100, 101] {
            place.write(n).ordered_by("b").await.unwrap().applied().await.unwrap();
        }
        assert_eq!(place.log().await, [0, 100, 101], "{}", place.name);
        let dead = place.zmsg.dead_letters().list(10).await.unwrap();
        assert_eq!(dead.len(), 1, "{}: {dead:?}", place.name);
        assert!(place.zmsg.dead_letters().drop(dead[0].id).await.unwrap());
        for receipt in behind {
            receipt.applied().await.unwrap();
        }
        assert_eq!(place.log().await, [0, 100, 101, 2, 3], "{}", place.name);
        place.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_goes_on_behind_a_dead_letter_that_it_is_to_skip() {
    for place in Place::each().await {
        for receipt in with_a_poisoned_one(&place, OnDead::Skip).await {
            receipt.applied().await.unwrap();
        }
        assert_eq!(place.log().await, [0, 2, 3], "{}", place.name);
        assert_eq!(place.zmsg.dead_letters().list(10).await.unwrap().len(), 1);
        place.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_keep_their_place_in_a_lane() {
    for place in Place::each().await {
        let delete = sql("DELETE FROM lane_log WHERE n = ?", (7,));
        let first = place.write(7).ordered_by("a").await.unwrap();
        let delete = place.zmsg.del_delay_store("note_7", delete).ordered_by("a").await.unwrap();
        let last = place.write(7).ordered_by("a").await.unwrap();
        for receipt in [first, delete, last] {
            receipt.applied().await.unwrap();
        }
        assert_eq!(place.log().await, [7], "{}", place.name);
        place.close().await;
    }
}

/// The one that was refused must not be in the table before the one that waits.
#[tokio::test]
async fn the_fallback_does_not_go_past_a_lane() {
    let engine = Engine::with(|config| {
        config.queue.tasks_max = 1;
        config.queue.fallback_to_store = true;
    })
    .await;
    let write = |id: &'static str| engine.zmsg.cache_and_delay_store(id, "x", insert(id, "x"));
    let far = Duration::from_secs(3600);
    let _ = write("feed_1").delay(far).ordered_by("a").await.unwrap();
    let error = write("feed_2").ordered_by("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let text = error.to_string();
    assert!(text.contains("queue.fallback_to_store") && text.contains("ordered_by"), "{text}");
    assert_eq!(engine.data("feed_2").await, None, "and not written now");
    assert_eq!(engine.get("feed_2").await, None, "nor shown");
    assert_eq!(engine.zmsg.stats().await.receipts_pending, 1);
    let receipt = write("feed_3").await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(engine.data("feed_3").await.as_deref(), Some("x"), "one without a lane is");
}

#[tokio::test]
async fn a_lane_is_of_delayed_writes_alone_and_has_a_name() {
    let engine = Engine::open().await;
    let zmsg = &engine.zmsg;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let others = [
        zmsg.put("note_1", "x").ordered_by("a"),
        zmsg.cache_only("note_1", "x").on_dead(OnDead::Skip),
        zmsg.del("note_1").ordered_by("a"),
        zmsg.cache_and_store("feed_1", "x", insert("feed_1", "x")).on_dead(OnDead::Block),
        zmsg.cache_and_periodic_store("feed_1", None, like).ordered_by("a"),
    ];
    let fields = ["ordered_by", "on_dead"].into_iter().cycle();
    for (write, field) in others.into_iter().zip(fields) {
        let error = write.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
    let delayed = || zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x"));
    for (write, field) in [
        (delayed().on_dead(OnDead::Skip), "on_dead"),
        (delayed().ordered_by(""), "lane"),
        (delayed().ordered_by("x".repeat(256)), "lane"),
    ] {
        let error = write.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(engine.count("SELECT count(*) FROM feeds").await, 0);
    assert_eq!(engine.get("feed_1").await, None);
}

#[tokio::test]
async fn writes_of_outboxes_keep_the_order_of_their_commits_in_a_lane() {
    let place = Place::on_sqlite("outbox", QueueBackend::Sql).await;
    let outbox = |n| place.zmsg.outbox(format!("note_{n}"), log(n), LATER).unwrap();
    let plain = outbox(9);
    assert_eq!(plain.binds.len(), 6);
    assert_eq!(plain.on_dead(OnDead::Skip).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(outbox(9).ordered_by("").unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut outboxes = Vec::new();
    for n in 0..5 {
        let outbox = outbox(n).ordered_by("a").unwrap().on_dead(OnDead::Skip).unwrap();
        assert_eq!(outbox.binds.len(), 10);
        outboxes.push(outbox);
    }
    for outbox in outboxes.into_iter().rev() {
        let statement = Statement::query(outbox.text, outbox.binds);
        assert_eq!(place.store.inner.execute(&statement).await.unwrap().rows.len(), 1);
    }
    eventually("all are applied", async || place.log().await.len() == 5).await;
    assert_eq!(place.log().await, [4, 3, 2, 1, 0]);
    place.close().await;
}

/// Every other transaction of the table fails, some of them after their commit.
#[derive(Debug, Default)]
struct Flaky {
    fails: AtomicBool,
    /// Transactions of the table.
    seen: AtomicU64,
}

#[async_trait]
impl Around for Flaky {
    async fn execute_all(
        &self,
        inner: &dyn SqlStore,
        steps: Vec<Step>,
    ) -> Result<Vec<Outcome>, StepError> {
        let is_of_table = |step: &Step| step.statement.text.contains("lane_log");
        if !self.fails.load(SeqCst) || !steps.iter().any(is_of_table) {
            return inner.execute_all(steps).await;
        }
        let failed = |error| Err(StepError { step: None, error });
        match self.seen.fetch_add(1, SeqCst) % 5 {
            1 => failed(Error::new(ErrorKind::Timeout, "a fault of the test").temporary()),
            2 => failed(Error::new(ErrorKind::Unavailable, "a fault of the test").temporary()),
            4 => {
                inner.execute_all(steps).await?;
                failed(Error::new(ErrorKind::Unavailable, "a lost answer").outcome_unknown())
            }
            _ => inner.execute_all(steps).await,
        }
    }
}
