//! How a batch queue behaves: where items wait, how batches are cut, what a failure leads to.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zmsg_core::{Backoff, Error, Result};
use zmsg_wal::{Durability, LogOptions, SyncPolicy};

/// Where items wait for their delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchStorage {
    /// In a write-ahead log in this directory, all of them; what fits is kept in memory too, so that
    /// it need not be read again. Survives the process, and a power cut once `enqueue` returned with
    /// [`Durability::Synced`].
    Durable {
        /// Of this queue alone; made if it is not there.
        dir: PathBuf,
    },
    /// In memory; and in a log in this directory once the memory is full, until all that is in the log
    /// has been delivered. Items are encoded all the same, so that each can be written. What is in
    /// memory alone is lost with the process; [`close`](super::BatchQueue::close) writes down what it could not deliver.
    Hybrid {
        /// Of this queue alone; made if it is not there.
        dir: PathBuf,
    },
    /// In memory alone.
    Memory,
}

impl BatchStorage {
    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Durable { dir } | Self::Hybrid { dir } => Some(dir),
            Self::Memory => None,
        }
    }
}

/// In which order items reach the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOrder {
    /// As they were enqueued: one batch at a time, and a batch that fails holds up those behind it.
    Strict,
    /// As they were enqueued among those of one key, which [`ordered_by`] tells. Keys are spread over
    /// as many lanes as `in_flight_max`, and each lane has one batch on its way at a time: a batch that
    /// fails holds up its lane alone, until the memory is full of items of that lane.
    ///
    /// [`ordered_by`]: super::BatchQueueBuilder::ordered_by
    ByKey,
    /// Any: up to `in_flight_max` batches at a time, and others overtake one that fails.
    Any,
}

/// How many items make a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// Always as many.
    Fixed(usize),
    /// As many as cost least for each item, sought between bounds while the queue works: a tenth
    /// more while items get cheaper, a tenth less while they get dearer, half after a time-out.
    Adaptive {
        /// The smallest.
        min: usize,
        /// The first.
        start: usize,
        /// The largest.
        max: usize,
    },
}

impl BatchSize {
    pub(super) fn max(self) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Adaptive { max, .. } => max,
        }
    }
}

/// How an item is written to the log. Records say which, so it may be changed at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON: fields may be added, with a default, and removed, while old items wait. Types that serde
    /// describes with `flatten`, `untagged` or `skip_serializing_if` work.
    Json,
    /// `postcard`: a fraction of the size and of the time. A type must not change while items wait.
    Postcard,
}

/// What becomes of a batch whose last try failed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    /// It is halved, and each half is tried once, down to single items: only those that fail alone
    /// become dead letters. One bad item of 1,000 takes about 20 calls, 1,000 bad ones 2,000.
    Isolate,
    /// All its items become dead letters.
    BuryBatch,
}

/// What happens when the dead letters are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeadFull {
    /// The batch waits, and those behind it, until there is room again: nothing is lost.
    Wait,
    /// The oldest dead letter is dropped, counted, and logged.
    DropOldest,
}

/// How a batch queue behaves.
///
/// Made by [`durable`](Self::durable), [`hybrid`](Self::hybrid), [`memory`](Self::memory) or one of the
/// three tuned for a purpose; fields may be changed before the queue is opened, which checks them all.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// Where items wait.
    pub storage: BatchStorage,
    /// What `enqueue` waits for, of an item that goes through the log.
    pub acknowledge: Durability,
    /// The log: when it syncs, its bounds, compression.
    pub log: LogOptions,
    /// How items are written to the log.
    pub encoding: Encoding,

    /// The most items in memory, those on their way included.
    pub memory_items_max: usize,
    /// The most bytes in memory: encoded bytes of the items of a queue with a log; else what the
    /// [`weigher`](super::BatchQueueBuilder::weigher) says, by default the size of the type.
    pub memory_bytes_max: usize,
    /// From this part of either bound on `enqueue` is slowed down, in percent; 100 never.
    pub soft_limit_pct: u8,
    /// The longest that an `enqueue` is slowed down, shortly before the bound.
    pub soft_delay_max: Duration,
    /// How long `enqueue` waits for room before it is `Overloaded`.
    pub enqueue_timeout: Duration,

    /// How many items make a batch.
    pub batch_size: BatchSize,
    /// A batch holds no more bytes, but one item at least.
    pub batch_bytes_max: usize,
    /// The longest that an item waits for its batch to fill.
    pub batch_timeout: Duration,

    /// In which order items are delivered.
    pub order: BatchOrder,
    /// How many batches may be on their way at a time; 1 with [`BatchOrder::Strict`].
    pub in_flight_max: usize,
    /// How long one call of the handler may take before it is dropped.
    pub handler_timeout: Duration,
    /// How often a batch is tried before its items become dead letters. Tries that found the sink
    /// `Unavailable` do not count. Those that ran out of time do, also while the breaker is open: a sink
    /// that hangs cannot be told from a batch that never works. A handler that can tell ends in time
    /// and says `Unavailable`.
    pub tries_max: u32,
    /// The pauses between tries.
    pub backoff: Backoff,
    /// What becomes of a batch after its last try.
    pub on_exhausted: OnExhausted,
    /// After so many batches in a row that found the sink unavailable or out of time, no other is
    /// begun until one has got through again.
    pub breaker_failures: u32,
    /// The pauses between probes while the breaker is open.
    pub breaker_backoff: Backoff,

    /// The most dead letters.
    pub dead_letters_max: usize,
    /// What happens when there are as many.
    pub on_dead_full: OnDeadFull,
}

/// The longest head of a dead letter in its log.
pub(super) const LETTER_HEAD_MAX: u32 = 64 << 10;

impl BatchConfig {
    /// The default: every item in the log, acknowledged when it is on the disk, in strict order.
    pub fn durable(dir: impl Into<PathBuf>) -> Self {
        Self::new(BatchStorage::Durable { dir: dir.into() })
    }

    /// Memory first; the log once 10,000 items or 64 MiB are in memory.
    pub fn hybrid(dir: impl Into<PathBuf>) -> Self {
        Self::new(BatchStorage::Hybrid { dir: dir.into() })
    }

    /// Memory alone: refuses when it is full.
    pub fn memory() -> Self {
        Self::new(BatchStorage::Memory)
    }

    /// Durable, for many items a second: acknowledged when the operating system has them, synced
    /// every 50 ms; batches of 500 to 10,000, filled for up to 500 ms; 100,000 items in memory.
    pub fn high_throughput(dir: impl Into<PathBuf>) -> Self {
        let log = LogOptions {
            sync: SyncPolicy::Interval(Duration::from_millis(50)),
            buffer_bytes_max: 24 << 20,
            segment_bytes: 64 << 20,
            bytes_max: 4 << 30,
            ..LogOptions::default()
        };
        Self {
            acknowledge: Durability::Flushed,
            log,
            memory_items_max: 100_000,
            memory_bytes_max: 256 << 20,
            batch_size: BatchSize::Adaptive { min: 500, start: 2_000, max: 10_000 },
            batch_bytes_max: 16 << 20,
            batch_timeout: Duration::from_millis(500),
            ..Self::durable(dir)
        }
    }

    /// Durable, for items that should be delivered soon: batches of up to 100, filled for 5 ms;
    /// acknowledged when the operating system has them.
    pub fn low_latency(dir: impl Into<PathBuf>) -> Self {
        Self {
            acknowledge: Durability::Flushed,
            batch_size: BatchSize::Fixed(100),
            batch_timeout: Duration::from_millis(5),
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_secs(5)),
            ..Self::durable(dir)
        }
    }

    /// Durable, for items that must not need a person: 100 tries over about 8 hours, and room for a
    /// million dead letters, after which the queue waits.
    pub fn high_reliability(dir: impl Into<PathBuf>) -> Self {
        Self {
            log: LogOptions { bytes_max: 16 << 30, ..LogOptions::default() },
            batch_size: BatchSize::Fixed(200),
            tries_max: 100,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(300)),
            dead_letters_max: 1_000_000,
            ..Self::durable(dir)
        }
    }

    fn new(storage: BatchStorage) -> Self {
        Self {
            storage,
            acknowledge: Durability::Synced,
            log: LogOptions::default(),
            encoding: Encoding::Json,
            memory_items_max: 10_000,
            memory_bytes_max: 64 << 20,
            soft_limit_pct: 80,
            soft_delay_max: Duration::from_millis(1),
            enqueue_timeout: Duration::from_secs(5),
            batch_size: BatchSize::Adaptive { min: 100, start: 1_000, max: 5_000 },
            batch_bytes_max: 4 << 20,
            batch_timeout: Duration::from_millis(200),
            order: BatchOrder::Strict,
            in_flight_max: 1,
            handler_timeout: Duration::from_secs(10),
            tries_max: 10,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            on_exhausted: OnExhausted::Isolate,
            breaker_failures: 5,
            breaker_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            dead_letters_max: 10_000,
            on_dead_full: OnDeadFull::Wait,
        }
    }

    /// Checks every field, by itself and against the others.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the field, its value and what it may be.
    pub fn validate(&self) -> Result<()> {
        self.validate_batches()?;
        self.validate_memory()?;
        self.validate_delivery()?;
        if self.storage.dir().is_some() {
            self.validate_log()?;
        }
        Ok(())
    }

    fn validate_batches(&self) -> Result<()> {
        match self.batch_size {
            BatchSize::Fixed(size) => at_least_one("batch_size", size)?,
            BatchSize::Adaptive { min, start, max } => {
                at_least_one("batch_size.min", min)?;
                if start < min || start > max {
                    let may = format_args!("from min ({min}) to max ({max})").to_string();
                    return Err(refuse("batch_size.start", start, &may));
                }
            }
        }
        at_least_one("batch_bytes_max", self.batch_bytes_max)?;
        positive("batch_timeout", self.batch_timeout)
    }

    fn validate_memory(&self) -> Result<()> {
        let batches = self.batch_size.max().saturating_mul(self.in_flight_max);
        if self.memory_items_max < batches {
            let may = format!("at least {batches}, the largest batch times in_flight_max");
            return Err(refuse("memory_items_max", self.memory_items_max, &may));
        }
        if self.memory_bytes_max < self.batch_bytes_max {
            let may = format!("at least batch_bytes_max ({})", self.batch_bytes_max);
            return Err(refuse("memory_bytes_max", self.memory_bytes_max, &may));
        }
        if !(1..=100).contains(&self.soft_limit_pct) {
            return Err(refuse("soft_limit_pct", self.soft_limit_pct, "from 1 to 100"));
        }
        positive("enqueue_timeout", self.enqueue_timeout)
    }

    fn validate_delivery(&self) -> Result<()> {
        at_least_one("in_flight_max", self.in_flight_max)?;
        if self.order == BatchOrder::Strict && self.in_flight_max != 1 {
            let may = "1 with BatchOrder::Strict; ByKey and Any allow more";
            return Err(refuse("in_flight_max", self.in_flight_max, may));
        }
        if self.in_flight_max > 1_024 {
            return Err(refuse("in_flight_max", self.in_flight_max, "at most 1,024"));
        }
        positive("handler_timeout", self.handler_timeout)?;
        at_least_one("tries_max", self.tries_max as usize)?;
        at_least_one("breaker_failures", self.breaker_failures as usize)?;
        at_least_one("dead_letters_max", self.dead_letters_max)?;
        if self.storage == BatchStorage::Memory && self.dead_letters_max < self.batch_size.max() {
            let may =
                format!("at least {}, a batch, with BatchStorage::Memory", self.batch_size.max());
            return Err(refuse("dead_letters_max", self.dead_letters_max, &may));
        }
        for (field, backoff) in
            [("backoff", self.backoff), ("breaker_backoff", self.breaker_backoff)]
        {
            if backoff.delay(1).is_zero() {
                return Err(refuse(field, "0s", "a pause above zero"));
            }
        }
        Ok(())
    }

    fn validate_log(&self) -> Result<()> {
        // Else the segment that is written to, which is never removed, could be all there is room for.
        let least = self.log.segment_bytes.saturating_mul(2);
        if self.log.bytes_max < least {
            let may = format!("at least {least}, two segments");
            return Err(refuse("log.bytes_max", self.log.bytes_max, &may));
        }
        let longest = (1 << 30) - LETTER_HEAD_MAX;
        if self.log.record_bytes_max > longest {
            let may = format!("at most {longest}");
            return Err(refuse("log.record_bytes_max", self.log.record_bytes_max, &may));
        }
        if self.storage.dir().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(refuse(
                "storage.dir",
                "\"\"",
                "the path of a directory of this queue alone",
            ));
        }
        Ok(())
    }
}

fn at_least_one(field: &'static str, value: usize) -> Result<()> {
    if value == 0 { Err(refuse(field, value, "at least 1")) } else { Ok(()) }
}

fn positive(field: &'static str, value: Duration) -> Result<()> {
    if value.is_zero() { Err(refuse(field, "0s", "above zero")) } else { Ok(()) }
}

fn refuse(field: &'static str, value: impl Display, may: &str) -> Error {
    Error::invalid_config(format!("{field} must be {may}"))
        .with_context("field", field)
        .with_context("value", value)
        .during("batch_queue.open")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut BatchConfig)) -> String {
        let mut config = BatchConfig::durable("events");
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn every_preset_is_valid() {
        for config in [
            BatchConfig::durable("d"),
            BatchConfig::hybrid("d"),
            BatchConfig::memory(),
            BatchConfig::high_throughput("d"),
            BatchConfig::low_latency("d"),
            BatchConfig::high_reliability("d"),
        ] {
            config.validate().unwrap();
        }
    }

    #[test]
    fn every_field_is_checked_and_named() {
        type Change = fn(&mut BatchConfig);
        let cases: [(&str, Change); 20] = [
            ("batch_size", |c| c.batch_size = BatchSize::Fixed(0)),
            ("batch_size.min", |c| c.batch_size = BatchSize::Adaptive { min: 0, start: 1, max: 2 }),
            ("batch_size.start", |c| {
                c.batch_size = BatchSize::Adaptive { min: 5, start: 1, max: 9 };
            }),
            ("batch_size.start", |c| {
                c.batch_size = BatchSize::Adaptive { min: 5, start: 10, max: 9 };
            }),
            ("batch_bytes_max", |c| c.batch_bytes_max = 0),
            ("batch_timeout", |c| c.batch_timeout = Duration::ZERO),
            ("memory_items_max", |c| c.memory_items_max = 10),
            ("memory_bytes_max", |c| c.memory_bytes_max = 10),
            ("soft_limit_pct", |c| c.soft_limit_pct = 0),
            ("soft_limit_pct", |c| c.soft_limit_pct = 101),
            ("enqueue_timeout", |c| c.enqueue_timeout = Duration::ZERO),
            ("in_flight_max", |c| c.in_flight_max = 0),
            ("in_flight_max", |c| c.in_flight_max = 2),
            ("handler_timeout", |c| c.handler_timeout = Duration::ZERO),
            ("tries_max", |c| c.tries_max = 0),
            ("breaker_failures", |c| c.breaker_failures = 0),
            ("dead_letters_max", |c| c.dead_letters_max = 0),
            ("breaker_backoff", |c| {
                c.breaker_backoff = Backoff::new(Duration::ZERO, Duration::MAX)
            }),
            ("log.bytes_max", |c| c.log.bytes_max = c.log.segment_bytes),
            ("storage.dir", |c| c.storage = BatchStorage::Hybrid { dir: PathBuf::new() }),
        ];
        for (field, change) in cases {
            let text = refused(change);
            assert!(text.contains(&format!("field: {field}, value: ")), "{field}: {text}");
        }
    }
}
