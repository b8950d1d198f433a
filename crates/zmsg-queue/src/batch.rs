//! Batch queues: items come one by one and leave in batches, through a log if they are to survive.
//!
//! ```
//! use std::time::Duration;
//! use zmsg_queue::batch::{Batch, BatchConfig, BatchQueue, Outcome};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> zmsg_core::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path().join("events");
//! let handler = |batch: Batch<String>| async move {
//!     println!("{} events", batch.len());      // one bulk insert, one request, one write
//!     Ok(Outcome::done())
//! };
//! let queue = BatchQueue::builder(BatchConfig::durable(dir)).open(handler).await?;
//! queue.start()?;
//! queue.enqueue("signed in".to_owned()).await?;   // on the disk when it returns
//! let report = queue.close(Duration::from_secs(5)).await;
//! assert_eq!((report.sent, report.is_drained()), (1, true));
//! # Ok(())
//! # }
//! ```
//!
//! # The way of an item
//!
//! `enqueue` encodes it (outside of any lock), then, in one short lock, appends it to the log and puts
//! it into its lane in memory; if the memory is full it is in the log alone, and so are those that
//! follow, until `refill` has read the log to its end. A task for each lane waits until a batch is
//! full or old enough, hands it over, judges the answer (`verdict`), and hands over what is left of
//! it, until each item is delivered or a dead letter. That is a record of the same log; segments are
//! removed once everything below them was delivered.
//!
//! After a crash items are delivered that have no such record: at least once, mostly once. The id of
//! an item in the log stays the same, so a sink can tell. (What a hybrid queue has in memory alone gets
//! its id in the log when the queue is closed.)

mod queue; // start here
mod builder;
mod config;
mod handler;

mod intake;
mod inbox;
mod inner;
mod state;
mod entry;

mod lane;
mod flight;
mod verdict;
mod breaker;
mod adaptive;
mod dead;
mod retry;

mod refill;
mod backlog;
mod record;
mod close;
mod stats;

pub use builder::BatchQueueBuilder;
pub use close::BatchCloseReport;
pub use config::{
    BatchConfig, BatchOrder, BatchSize, BatchStorage, Encoding, OnDeadFull, OnExhausted,
};
pub use dead::{Content, DeadLetter, Held};
pub use handler::{Batch, BatchHandler, ItemId, Outcome};
pub use intake::Enqueued;
pub use queue::BatchQueue;
pub use stats::BatchQueueStats;
pub use zmsg_wal::{Compression, Durability, LogOptions, SyncPolicy};
