//! The write-ahead log of zmsg: one format and one recovery, for the journal of the periodic route and
//! for batch queues.
//!
//! ```
//! use zmsg_wal::{Durability, Log, LogOptions, RealFs};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! let (log, recovered) = Log::open(&dir, LogOptions::default(), RealFs::shared())?;
//! let mut replay = log.reader(recovered.first);
//! while let Some(record) = replay.next()? {
//!     println!("{} is still to be delivered", record.seq);
//! }
//! let appended = log.append(1, &[b"like:", b"feed_7"])?;   // a sequence, at once
//! appended.wait(Durability::Synced).wait_blocking()?;       // or .await
//! log.remove_below(appended.seq() + 1)?;                    // delivered: checkpoint, then segments
//! log.close_blocking()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - An append does no I/O. It returns the sequence of the record; how durable the record has to be is
//!   waited for separately, and who waits shares one sync with all others who do ([`Durability`],
//!   [`SyncPolicy`]).
//! - What was acknowledged as `Synced` is there after a power cut, in order, once.
//! - A sequence never names two records, whatever was lost in between.
//! - A record that is not as it was written is never returned. If it can be proved that it had been
//!   synced, the log does not open and names the place; else it is the torn tail, cut and counted.
//! - After a failed write or sync the file is never written or synced again. What was not synced is
//!   written to a new segment, and acknowledged when it is synced there. If that fails too, the
//!   outcome is unknown, the error says so, and the log takes no more.
//! - A record is only accepted if its place on the disk is allocated (on file systems that overwrite in
//!   place; on those that copy on write a full disk is a failed write).
//! - Nothing is removed before a checkpoint on the disk says that it was delivered.
//! - Every buffer has a bound; at the bound the caller is told at once.
//!
//! Payloads are stored as they are, in files for their owner alone.
//!
//! # The format
//!
//! A directory holds `LOCK`, `CHECKPOINT`, `RESERVE` (a little space for the day the disk is full),
//! segments named by their number (`0000000000000001.wal`), and what is not finished (`*.tmp`). A segment is a header of 128 bytes (module `header`) and frames
//! (module `frame`), then zeros, because it was allocated ahead.
//!
//! - A header is written once and synced before the file gets its name. It says up to which sequence
//!   everything is in the segments before it **and synced**. So a record that is missing in a segment
//!   that another one follows is damage, without any further proof. If a segment repeats sequences of
//!   the one before it, because that one failed, the later one counts.
//! - Every frame says up to which sequence everything was synced when it was written. A bad record in
//!   the last segment is damage if any good frame behind it says that it had been synced. When the
//!   writer has nothing to do it puts a mark behind the last record that says the same, over which the
//!   next record is written; so the last record is proved too, as a rule.
//! - A frame's checksum (CRC-32C) covers all of it and is seeded with the stream, the segment, a random
//!   salt, and the offset: a frame is good in one place only. A second, short checksum of its head is
//!   looked at before its length is believed, and the length is held against the limit of the segment
//!   and the size of the file before anything is allocated.
//!
//! # Sequences after a crash
//!
//! A record that was written and not synced may have been read, by a reader of this process, and its
//! sequence noted elsewhere: "delivered up to 17". If the power cut loses record 17 and the next
//! process gives 17 to another record, that record counts as delivered and is lost, although it was
//! acknowledged. So each segment's header carries a ceiling, above every sequence that can be given out
//! while it is the last one (what fits into it and into the buffer), and a log that was not closed
//! properly goes on at the ceiling. A log that was closed says so at its end and goes on without a gap.
//!
//! What recovery finds behind the last proof it copies to a segment of its own, and syncs that.
//! Syncing the old file would prove nothing: if its sync failed before, the system may have dropped
//! the data and report success.
//!
//! # Where the ideas come from
//!
//! Sequence, marks for the end and a checksum over the whole record are common to etcd, `RocksDB` and
//! `PostgreSQL`; that a failed fsync must not be retried is known since 2018 (PostgreSQL) and was
//! measured for six databases by Rebello and others (USENIX ATC 2020); crash states with reordered
//! blocks and missing names follow ALICE (OSDI 2014); reservations instead of counters on disk are what
//! zmsg's ids do.

mod log; // start here
mod durable;
mod reader;
mod recovery;
mod options;
mod stats;
mod verify;
mod salvage;

mod open;
mod writer;
mod intake;
mod progress;
mod shared;
mod table;

mod frame;
mod header;
mod segment;
mod run;
mod checkpoint;
mod reserve;
mod codec;
mod format;
mod scan;
mod walk;
mod window;

mod error;
mod fs;
mod sabotage;
#[cfg(feature = "testing")]
pub mod testing;

pub use durable::{Appended, Durable};
pub use fs::{File, Fs, Lock, RealFs};
pub use log::Log;
pub use options::{Compression, Durability, LogOptions, SyncPolicy};
pub use reader::{Reader, Record};
pub use recovery::Recovered;
pub use salvage::salvage;
pub use stats::LogStats;
pub use verify::{Damage, SegmentReport, Verified, verify};
