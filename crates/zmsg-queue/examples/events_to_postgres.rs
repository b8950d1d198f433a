//! Events into PostgreSQL, in bulk and each once: `DATABASE_URL=… cargo run --release --example
//! events_to_postgres -p zmsg-queue`.
//!
//! Events are on the disk when `enqueue` returns. A batch is one statement; the id of an event in the
//! queue is its key, so a batch that is delivered again, after a crash or a lost answer, changes nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls};
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_queue::batch::{Batch, BatchConfig, BatchQueue, BatchSize, Outcome};

const EVENTS: u64 = 50_000;

#[derive(Serialize, Deserialize)]
struct Event {
    user: i64,
    kind: String,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS zmsg_example_events (
    stream uuid, seq bigint, user_id bigint NOT NULL, kind text NOT NULL, PRIMARY KEY (stream, seq))";
const INSERT: &str = "INSERT INTO zmsg_example_events (stream, seq, user_id, kind)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) ON CONFLICT DO NOTHING";

async fn insert(client: &Client, batch: &Batch<Event>) -> Result<Outcome> {
    let (streams, seqs): (Vec<_>, Vec<_>) =
        batch.ids().map(|id| (id.stream, id.seq as i64)).unzip();
    let users: Vec<_> = batch.iter().map(|event| event.user).collect();
    let kinds: Vec<_> = batch.iter().map(|event| event.kind.as_str()).collect();
    client.execute(INSERT, &[&streams, &seqs, &users, &kinds]).await.map_err(told)?;
    Ok(Outcome::done())
}

/// What the queue has to know: an error of the data will not get better, so the event that is to blame
/// is sought; without a connection nothing is to blame, and the queue waits.
fn told(error: tokio_postgres::Error) -> Error {
    let (kind, what) = match error.as_db_error() {
        Some(_) if error.code().is_some_and(|code| code.code().starts_with("22")) => {
            (ErrorKind::InvalidData, "the database refused the data")
        }
        Some(_) => (ErrorKind::Unexpected, "the database refused the statement"),
        None => (ErrorKind::Unavailable, "the database does not answer"),
    };
    Error::new(kind, what).with_source(error)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no database")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let connected = tokio_util::task::TaskTracker::new();
    connected.spawn(connection);
    client.batch_execute(TABLE).await?;

    let client = Arc::new(client);
    let sink = Arc::clone(&client);
    let handler = move |batch: Batch<Event>| {
        let client = Arc::clone(&sink);
        async move { insert(&client, &batch).await }
    };
    let dir = std::env::temp_dir().join("zmsg-example-events");
    let config =
        BatchConfig { batch_size: BatchSize::Fixed(1_000), ..BatchConfig::high_throughput(dir) };
    let queue = BatchQueue::builder(config).open(handler).await?;
    println!("{} events of an earlier run are still to be delivered", queue.len());
    queue.start()?;

    for number in 0..EVENTS {
        let event = Event { user: (number % 100) as i64, kind: "signed in".to_owned() };
        queue.enqueue(event).await?;
    }
    let report = queue.close(Duration::from_secs(30)).await;
    let row = client.query_one("SELECT count(*) FROM zmsg_example_events", &[]).await?;
    println!(
        "{} events in {} batches; the table holds {}",
        report.sent,
        queue.stats().batches,
        row.get::<_, i64>(0)
    );
    println!("left for the next run: {}; dead letters: {}", report.left_in_log, report.buried);
    Ok(())
}
