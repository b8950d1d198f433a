//! How the engine is configured: everything is short, so that a kill meets every stage.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use zmsg::cache::MemoryRemote;
use zmsg::core::SystemClock;
use zmsg::{Config, Source, Zmsg, sql};

use crate::args::Args;

/// How long closing may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Rows that many writes share.
pub(crate) const ROWS: u64 = 4;

pub(crate) fn config(args: &Args) -> Config {
    let mut config = Config::embedded(&args.dir);
    config.store.url.clone_from(&args.store);
    config.store.connections_max = 6;
    config.periodic.interval = Duration::from_millis(args.interval);
    config.queue.delay = Duration::ZERO;
    // What a killed worker had in hand is handed out again when its lease ends.
    config.queue.lease = Duration::from_millis(600);
    config.queue.task_timeout = Duration::from_millis(500);
    config.queue.retry_base = Duration::from_millis(10);
    config.queue.retry_cap = Duration::from_millis(100);
    // Each kill may spend one.
    config.queue.attempts_max = 1_000;
    config.filter.single_node = !args.shared;
    config
}

pub(crate) async fn open(args: &Args) -> Result<Zmsg> {
    let mut builder = Zmsg::builder(config(args));
    if args.remote {
        builder = builder.remote(Arc::new(MemoryRemote::new(Arc::new(SystemClock))));
    }
    let zmsg = builder.open().await?;
    let query = "SELECT CAST(n AS TEXT) FROM effects WHERE id = ?";
    zmsg.register(Source::sql("op", query).keys("SELECT id FROM effects"))?;
    Ok(zmsg)
}

/// Makes the tables of the writes, and those of zmsg.
pub(crate) async fn create(args: &Args) -> Result<()> {
    let zmsg = Zmsg::open(config(args)).await?;
    let json = if args.store.starts_with("postgres") { "JSONB" } else { "TEXT" };
    let shared = format!(
        "CREATE TABLE shared (id TEXT PRIMARY KEY, n BIGINT, tags {json}, later {json}, marks {json})"
    );
    for table in [
        // A row for each write: how often it took effect.
        "CREATE TABLE effects (id TEXT PRIMARY KEY, n BIGINT NOT NULL)",
        shared.as_str(),
        // An item of a batch queue each, by its id.
        "CREATE TABLE delivered (stream TEXT, seq BIGINT, op BIGINT NOT NULL, \
         place BIGINT NOT NULL, PRIMARY KEY (stream, seq))",
        // Rows that are deleted.
        "CREATE TABLE victims (id TEXT PRIMARY KEY)",
        // Refuses rows when they are committed, not before.
        "CREATE TABLE parents (id BIGINT PRIMARY KEY)",
        "CREATE TABLE orphans (id BIGINT PRIMARY KEY, \
         parent BIGINT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
    ] {
        zmsg.sql_exec(sql(table, ())).await?;
    }
    for row in 0..ROWS {
        let insert = sql("INSERT INTO shared (id, n) VALUES (?, 0)", (format!("row_{row}"),));
        zmsg.sql_exec(insert.no_keys()).await?;
    }
    let closed = zmsg.close(DEADLINE).await?;
    ensure!(closed.is_clean(), "the tables were made and not closed: {closed:?}");
    Ok(())
}
