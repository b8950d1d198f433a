//! A batch queue under writes: a queue with a log of its own, whose handler puts each batch into the
//! engine's database, each item once by its id, as `docs/guarantees.md` tells to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;
use zmsg::core::{Backoff, Error, ErrorKind};
use zmsg::queue::batch::{
    Batch, BatchConfig, BatchOrder, BatchQueue, BatchSize, Content, DeadLetter, Durability,
    Enqueued, ItemId, LogOptions, Outcome,
};
use zmsg::{Value, Zmsg, sql};

use crate::args::{Args, Queue};
use crate::engine::DEADLINE;
use crate::report::line;

/// The place of the queue in the directory of the engine.
const DIR: &str = "batch";

/// How durable acknowledged items are, as the report names it.
const IN_MEMORY: &str = "Memory";
const ON_DISK: &str = "LocalDisk";

/// Items of one call at most.
const BURST_MAX: u64 = 30;

/// What is enqueued: the number of a write, the task that made it, and what becomes of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Item {
    op: u64,
    task: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    Delivered,
    /// Its batch fails at the first try.
    Late,
    /// It never works: a dead letter.
    Doomed,
}

impl Fate {
    fn draw(random: &mut Rng) -> Self {
        match random.u64(..40) {
            0 => Self::Doomed,
            1..4 => Self::Late,
            _ => Self::Delivered,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Doomed => "doomed",
            _ => "own",
        }
    }
}

/// Everything is small, so that a kill meets every stage: the log behind a full memory, halved
/// batches, segments that go.
fn config(args: &Args, dir: &Path) -> BatchConfig {
    let dir = dir.join(DIR);
    let config = match args.queue {
        Queue::Durable | Queue::Lanes => BatchConfig::durable(dir),
        Queue::Hybrid => BatchConfig::hybrid(dir),
    };
    let lanes = args.queue == Queue::Lanes;
    let small = args.segment.map(|segment_bytes| LogOptions {
        segment_bytes,
        record_bytes_max: 4 << 10,
        buffer_bytes_max: 12 << 10,
        ..LogOptions::default()
    });
    BatchConfig {
        log: small.unwrap_or_default(),
        memory_items_max: 48,
        batch_size: BatchSize::Adaptive { min: 4, start: 8, max: 16 },
        batch_timeout: Duration::from_millis(args.interval),
        order: if lanes { BatchOrder::ByKey } else { BatchOrder::Strict },
        in_flight_max: if lanes { 3 } else { 1 },
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(10)),
        ..config
    }
}

/// Opens the queue of a directory, with all that is in its log.
pub(crate) async fn open(args: &Args, dir: &Path, zmsg: &Zmsg) -> Result<BatchQueue<Item>> {
    // Above those of all earlier processes.
    let place = Arc::new(AtomicU64::new(zmsg.next_id("x").await?.raw().get()));
    let zmsg = zmsg.clone();
    let handler = move |batch| deliver(zmsg.clone(), Arc::clone(&place), batch);
    let queue = BatchQueue::builder(config(args, dir));
    let queue = match args.queue {
        Queue::Lanes => queue.ordered_by(|item: &Item| item.task),
        Queue::Durable | Queue::Hybrid => queue,
    };
    let queue = queue.open(handler).await?;
    queue.start()?;
    Ok(queue)
}

/// Puts a batch into the table, in its order; what is there already stays.
async fn deliver(zmsg: Zmsg, place: Arc<AtomicU64>, batch: Batch<Item>) -> zmsg::Result<Outcome> {
    if batch.attempt() == 1 && batch.iter().any(|item| item.fate == Fate::Late) {
        return Err(Error::new(ErrorKind::Unexpected, "not at the first try").temporary());
    }
    let is_doomed = |item: &&Item| item.fate == Fate::Doomed;
    let fit: Vec<_> = batch.iter().zip(batch.ids()).filter(|(item, _)| !is_doomed(item)).collect();
    if !fit.is_empty() {
        let rows = vec!["(?, ?, ?, ?)"; fit.len()].join(", ");
        let text = format!(
            "INSERT INTO delivered (stream, seq, op, place) VALUES {rows} ON CONFLICT DO NOTHING"
        );
        let row = |(item, id): (&Item, ItemId)| -> [Value; 4] {
            let place = place.fetch_add(1, Relaxed);
            [id.stream.to_string().into(), int(id.seq), int(item.op), int(place)]
        };
        let binds: Vec<Value> = fit.into_iter().flat_map(row).collect();
        zmsg.sql_exec(sql(text, binds).no_keys()).await?;
    }
    let doomed = batch.iter().enumerate().filter(|(_, item)| is_doomed(item));
    Ok(Outcome::failed(doomed.map(|(at, item)| {
        (at, Error::new(ErrorKind::InvalidData, "doomed").with_context("op", item.op))
    })))
}

/// Whether a directory has a queue.
pub(crate) fn is_in(dir: &Path) -> bool {
    dir.join(DIR).exists()
}

/// Delivers what a queue holds, and tells its dead letters.
pub(crate) async fn drain(args: &Args, dir: &Path, zmsg: &Zmsg) -> Result<Vec<String>> {
    let queue = open(args, dir, zmsg).await?;
    timeout(DEADLINE, queue.drained()).await.context("the batch queue does not become empty")?;
    let letter = |letter: DeadLetter<Item>| {
        let Content::Item(item) = letter.content else { bail!("a dead letter cannot be read") };
        Ok(format!("doomed_{} {}", item.op, letter.error))
    };
    let letters = queue.dead_letters(usize::MAX).await?.into_iter().map(letter).collect();
    let report = queue.close(DEADLINE).await;
    ensure!(report.is_drained() && report.error.is_none(), "it closed badly: {report:?}");
    letters
}

/// Enqueues until all writes are made, and closes the queue.
pub(crate) async fn run(args: &Args, queue: BatchQueue<Item>) -> Result<()> {
    let next = Arc::new(AtomicU64::new(args.first));
    let end = args.first + args.writes;
    let mut tasks = JoinSet::new();
    for task in 0..args.tasks {
        let random = Rng::with_seed(args.seed.wrapping_mul(37).wrapping_add(task));
        tasks.spawn(enqueue(queue.clone(), args.queue, Arc::clone(&next), end, task, random));
    }
    while tasks.join_next().await.is_some() {}
    if args.seed.is_multiple_of(2) {
        // What waits is written down instead of delivered.
        queue.pause()?;
    }
    let report = queue.close(DEADLINE).await;
    ensure!(report.lost == 0 && report.error.is_none(), "the queue closed badly: {report:?}");
    Ok(())
}

async fn enqueue(
    queue: BatchQueue<Item>,
    kind: Queue,
    next: Arc<AtomicU64>,
    end: u64,
    task: u64,
    mut random: Rng,
) {
    loop {
        let many = if random.u64(..12) == 0 { 1 + random.u64(..BURST_MAX) } else { 1 };
        let first = next.fetch_add(many, Relaxed);
        if first >= end {
            return;
        }
        let item = |op| Item { op, task, fate: Fate::draw(&mut random) };
        let items: Vec<Item> = (first..first + many).map(item).collect();
        for Item { op, fate, .. } in &items {
            line(format_args!("S {op} {}-{} 0 {task}", kind.name(), fate.name()));
        }
        let numbers: Vec<u64> = items.iter().map(|item| item.op).collect();
        let accepted = match items.as_slice() {
            [item] if random.bool() => try_enqueue(&queue, *item).await,
            _ => queue.enqueue_batch(items).await.map(|all| all.iter().map(level).collect()),
        };
        match accepted {
            Ok(levels) => numbers.iter().zip(levels).for_each(|(op, level)| {
                line(format_args!("A {op} {level}"));
            }),
            Err(error) if error.kind() == ErrorKind::Overloaded => {
                numbers.iter().for_each(|op| line(format_args!("N {op}")));
            }
            Err(error) => numbers.iter().for_each(|op| line(format_args!("E {op} {error}"))),
        }
    }
}

fn int(number: u64) -> Value {
    Value::Int(number.cast_signed())
}

/// Waits as `enqueue` does, after the call; what is in memory alone is not waited for.
async fn try_enqueue(queue: &BatchQueue<Item>, item: Item) -> zmsg::Result<Vec<&'static str>> {
    match queue.try_enqueue(item)?.wait(Durability::Synced).await {
        Ok(()) => Ok(vec![ON_DISK]),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(vec![IN_MEMORY]),
        Err(error) => Err(error),
    }
}

fn level(accepted: &Enqueued) -> &'static str {
    match accepted.durability() {
        Durability::Buffered => IN_MEMORY,
        _ => ON_DISK,
    }
}
