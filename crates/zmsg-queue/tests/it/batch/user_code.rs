//! Code of the user that fails or panics where it is least expected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zmsg_core::ErrorKind;
use zmsg_queue::batch::{Batch, BatchConfig, BatchQueue, Content, Outcome};

use super::rig::{PATIENCE, Sink, quick, started};

/// A number that is hard to write, or to read, at times.
#[derive(Debug, Clone, PartialEq)]
struct Odd(u64);

const NOT_WRITTEN: u64 = 666;
const PANICS_WHEN_READ: u64 = 667;
/// Written well when it is accepted; after that never again.
const WRITTEN_ONCE: u64 = 668;
const PANICS_THE_SECOND_TIME: u64 = 669;
const TOO_LONG: u64 = 670;

static WRITTEN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let again = |at: usize| WRITTEN[at].fetch_add(1, Relaxed) > 0;
        match self.0 {
            NOT_WRITTEN => Err(serde::ser::Error::custom("as the test says")),
            WRITTEN_ONCE if again(0) => Err(serde::ser::Error::custom("as the test says")),
            PANICS_THE_SECOND_TIME if again(1) => panic!("as the test says"),
            TOO_LONG => serializer.serialize_str(&"x".repeat(20_000)),
            number => serializer.serialize_u64(number),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert_ne!(number, PANICS_WHEN_READ, "as the test says");
        Ok(Self(number))
    }
}

async fn open(config: BatchConfig) -> BatchQueue<Odd> {
    let handler = |_batch: Batch<Odd>| async { Ok(Outcome::done()) };
    BatchQueue::builder(config).open(handler).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_written_is_refused_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    for config in
        [BatchConfig::durable(dir.path().join("d")), BatchConfig::hybrid(dir.path().join("h"))]
    {
        let queue = open(quick(config)).await;
        for bad in [NOT_WRITTEN, TOO_LONG] {
            let refused = queue.enqueue(Odd(bad)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
        }
        assert!(queue.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_item_that_cannot_be_written_at_the_close_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = || quick(BatchConfig::hybrid(dir.path().join("q")));
    let queue = open(config()).await;
    for number in [0, 1, WRITTEN_ONCE, 2, PANICS_THE_SECOND_TIME, 3] {
        queue.enqueue(Odd(number)).await.unwrap();
    }
    let report = queue.close(Duration::ZERO).await;
    assert_eq!((report.left_in_log, report.lost), (4, 2), "{report:?}");
    assert!(report.error.is_some());
    assert_eq!(open(config()).await.stats().recovered, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_reading_panics_is_a_dead_letter_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for hybrid in [false, true] {
        let config = || {
            let dir = dir.path().join(format!("{hybrid}"));
            quick(if hybrid { BatchConfig::hybrid(dir) } else { BatchConfig::durable(dir) })
        };
        let queue = open(config()).await;
        for number in [1, PANICS_WHEN_READ, 2] {
            queue.enqueue(Odd(number)).await.unwrap();
        }
        queue.close(Duration::ZERO).await;
        let queue = open(config()).await;
        assert_eq!(queue.len(), 3);
        queue.start().unwrap();
        queue.drained().await;
        assert_eq!((queue.stats().sent, queue.stats().buried), (2, 1));
        assert!(queue.close(PATIENCE).await.is_drained());
        assert_eq!(open(config()).await.stats().recovered, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_queue_opens_although_its_items_are_of_another_type_now() {
    let dir = tempfile::tempdir().unwrap();
    let texts = |_batch: Batch<String>| async { Ok(Outcome::done()) };
    let config = || quick(BatchConfig::hybrid(dir.path().join("q")));
    let queue = BatchQueue::builder(config()).open(texts).await.unwrap();
    queue.enqueue("two".to_owned()).await.unwrap();
    queue.close(Duration::ZERO).await;
    let sink = Sink::new();
    let queue = started(config(), &sink).await;
    queue.enqueue(3).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [3]);
    let letters = queue.dead_letters(9).await.unwrap();
    assert!(matches!(&letters[0].content, Content::Unreadable(bytes) if bytes == br#""two""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_when_it_is_dropped_has_failed_a_try() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("as the test says");
            }
        }
    }
    let calls = Arc::new(AtomicU32::new(0));
    let handler = move |_batch: Batch<u64>| {
        let first = calls.fetch_add(1, Relaxed) == 0;
        async move {
            if first {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }
            Ok(Outcome::done())
        }
    };
    let config =
        BatchConfig { handler_timeout: Duration::from_millis(20), ..quick(BatchConfig::memory()) };
    let queue = BatchQueue::builder(config).open(handler).await.unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    assert_eq!((queue.stats().sent, queue.stats().errors), (1, 1));
}
