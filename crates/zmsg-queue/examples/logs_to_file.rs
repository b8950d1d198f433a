//! Lines of a log into a file, in batches: `cargo run --release --example logs_to_file -p zmsg-queue`.
//!
//! Memory first: a line costs its producer a fraction of a microsecond. Should the file be slow, lines
//! that do not fit into memory wait on the disk.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zmsg_core::{Error, ErrorKind, Result};
use zmsg_queue::batch::{Batch, BatchConfig, BatchQueue, Outcome};

const LINES: u64 = 200_000;

fn write(file: &Mutex<std::fs::File>, batch: &Batch<String>) -> Result<Outcome> {
    let mut text = String::new();
    for line in batch.iter() {
        text.push_str(line);
        text.push('\n');
    }
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "could not write the file").with_source(error)
    })?;
    Ok(Outcome::done())
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join("zmsg-example-logs");
    let path = std::env::temp_dir().join("zmsg-example.log");
    let file = Arc::new(Mutex::new(std::fs::File::create(&path)?));
    let handler = move |batch: Batch<String>| {
        let file = Arc::clone(&file);
        async move {
            // It blocks its thread: not one of the runtime's.
            let written = tokio::task::spawn_blocking(move || write(&file, &batch)).await;
            written.unwrap_or_else(|error| {
                Err(Error::new(ErrorKind::Unexpected, "writing ended early").with_source(error))
            })
        }
    };
    let queue = BatchQueue::builder(BatchConfig::hybrid(dir)).open(handler).await?;
    queue.start()?;
    for number in 0..LINES {
        queue.enqueue(format!("line {number}: a request was answered")).await?;
    }
    let report = queue.close(Duration::from_secs(30)).await;
    let stats = queue.stats();
    println!(
        "{} lines in {} batches of up to {}, {} of them by way of the log",
        report.sent, stats.batches, stats.batch_size, stats.spilled
    );
    println!("{} holds {} lines", path.display(), std::fs::read_to_string(&path)?.lines().count());
    Ok(())
}
