//! The log: append, wait, read, and let go of what was delivered.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};

use crate::checkpoint::Checkpoint;
use crate::codec::{Codec, compress};
use crate::error::{failed, is_full};
use crate::frame::Content;
use crate::open::{Opened, open};
use crate::sabotage::Sabotage;
use crate::segment::segment_name;
use crate::shared::{Shared, locked};
use crate::stats::{add, get};
use crate::{Appended, Durability, Durable, Fs, LogOptions, LogStats, Reader, Recovered, reserve};

/// An open write-ahead log. Clones are handles to the same log.
///
/// A thread of its own writes what was appended. Dropping the last handle ends it after it has
/// written and synced everything; [`close`](Self::close) waits for that, and tells of errors.
#[derive(Debug, Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Log {
    /// Opens the log in a directory, or makes one. Recovery is complete when it returns.
    ///
    /// Blocks on the disk: reads everything that is not delivered. Call it on a thread that may
    /// block.
    ///
    /// # Errors
    /// `Conflict` if another process (or another handle of this one) has it open, `InvalidConfig`
    /// for bounds that cannot be kept and for an unsafe directory, `Corrupted` for damage with file,
    /// offset and sequence, `Unavailable` if the files cannot be used.
    pub fn open(
        dir: impl AsRef<Path>,
        options: LogOptions,
        fs: Arc<dyn Fs>,
    ) -> Result<(Self, Recovered)> {
        let Opened { shared, writer, recovered } = open(dir.as_ref(), options, fs)?;
        let thread = std::thread::Builder::new().name("zmsg-wal".to_owned());
        let thread = thread
            .spawn(|| writer.run())
            .map_err(|error| failed("could not start the writer", dir.as_ref(), error))?;
        let handle = Handle { shared, writer: Mutex::new(Some(thread)) };
        Ok((Self { handle: Arc::new(handle) }, recovered))
    }

    /// The id of this log: with a sequence it names one record for ever.
    pub fn stream(&self) -> Uuid {
        self.shared().stream
    }

    /// Accepts a record of the caller's `kind`, whose payload is the `parts` put together.
    ///
    /// Does no I/O and waits for nothing but other appends, so it may be called under a lock: the
    /// order of sequences is then the order of the lock. When it returns the record is `Buffered`.
    ///
    /// # Errors
    /// `Overloaded` at once if a bound was reached, which is named, or if the disk is full; nothing
    /// was accepted. `InvalidInput` for a payload over `record_bytes_max`. `Closed` after `close`. If
    /// the log failed: what failed.
    pub fn append(&self, kind: u8, parts: &[&[u8]]) -> Result<Appended> {
        let shared = self.shared();
        let len = self.payload_len(parts)?;
        let packed = compress(&shared.options, parts, len as usize);
        let stored;
        let (codec, parts) = match &packed {
            Some((codec, packed)) => {
                stored = [packed.as_slice()];
                (*codec, stored.as_slice())
            }
            None => (Codec::Plain, parts),
        };
        self.accept(&[content(kind, codec, len, parts)])
    }

    /// Accepts a run of records at once, or none of them. They are written and synced together, but
    /// a crash may keep the first few of them: a record is whole, a run need not be.
    ///
    /// # Errors
    /// As [`append`](Self::append); `InvalidInput` for an empty run.
    pub fn append_many(&self, records: &[(u8, &[u8])]) -> Result<Appended> {
        let shared = self.shared();
        if records.is_empty() {
            return Err(Error::invalid_input("a run of no records").during("wal.append"));
        }
        let mut packed = Vec::with_capacity(records.len());
        for (_, payload) in records {
            let len = self.payload_len(&[payload])?;
            let (codec, bytes) = match compress(&shared.options, &[payload], len as usize) {
                Some((codec, bytes)) => (codec, std::borrow::Cow::Owned(bytes)),
                None => (Codec::Plain, std::borrow::Cow::Borrowed(*payload)),
            };
            packed.push((codec, len, bytes));
        }
        let parts: Vec<[&[u8]; 1]> = packed.iter().map(|(_, _, bytes)| [&**bytes]).collect();
        let contents: Vec<_> = records
            .iter()
            .zip(&packed)
            .zip(&parts)
            .map(|(((kind, _), (codec, len, _)), parts)| content(*kind, *codec, *len, parts))
            .collect();
        self.accept(&contents)
    }

    fn accept(&self, records: &[Content<'_>]) -> Result<Appended> {
        let shared = self.shared();
        let mut intake = locked(&shared.intake);
        let accepted = intake.accept(&shared.options, records);
        let (first, last) = accepted.map_err(|error| {
            add(&shared.counters.refused, 1);
            error.during("wal.append")
        })?;
        if intake.records >= intake.wanted {
            shared.wake_writer(intake);
        } else {
            drop(intake);
        }
        add(&shared.counters.appended, records.len() as u64);
        Ok(Appended::new(Arc::clone(shared), first, last))
    }

    fn payload_len(&self, parts: &[&[u8]]) -> Result<u32> {
        let max = self.shared().options.record_bytes_max;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        u32::try_from(len).ok().filter(|&len| len <= max).ok_or_else(|| {
            Error::invalid_input("the record is longer than record_bytes_max")
                .with_context("bytes", len)
                .with_context("max", max)
                .during("wal.append")
        })
    }

    /// Waits until everything up to `seq` is as durable as that, also if it is not appended yet.
    pub fn wait(&self, seq: u64, durability: Durability) -> Durable {
        Durable::new(Arc::clone(self.shared()), seq, durability)
    }

    /// Syncs everything appended so far, whatever the policy. The sync is asked for at once; the
    /// future only waits for it.
    pub fn sync(&self) -> Durable {
        let shared = self.shared();
        let last = locked(&shared.intake).next_seq - 1;
        shared.want_sync(last);
        self.wait(last, Durability::Synced)
    }

    /// The last sequence that was given out; `next - 1` of the recovery before the first append.
    pub fn last_seq(&self) -> u64 {
        locked(&self.shared().intake).next_seq - 1
    }

    /// Reads from the first record at or above `from` that is still there, up to what is written.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(self.shared()), from)
    }

    /// Records on the disk that everything below `below` was delivered: recovery will not hand it
    /// out again. A lower one than before changes nothing. Blocks on the disk.
    ///
    /// # Errors
    /// `InvalidInput` for records that were never appended; `Unavailable` if it cannot be written:
    /// then the earlier one or this one holds.
    pub fn checkpoint(&self, below: u64) -> Result<()> {
        let mut delivered = locked(&self.shared().delivered_below);
        self.check_open()?;
        self.write_checkpoint(&mut delivered, below)
    }

    /// The lock of the directory goes with the writer: what is there may be somebody else's then.
    fn check_open(&self) -> Result<()> {
        self.shared().progress.failure().map_or(Ok(()), Err)
    }

    fn write_checkpoint(&self, delivered: &mut u64, below: u64) -> Result<()> {
        let shared = self.shared();
        if below <= *delivered {
            return Ok(());
        }
        if below > locked(&shared.intake).next_seq {
            return Err(Error::invalid_input("a checkpoint beyond the last record")
                .with_context("below", below)
                .during("wal.checkpoint"));
        }
        let (fs, dir) = (&*shared.fs, &*shared.dir);
        let checkpoint = Checkpoint { stream: shared.stream, below };
        let written = checkpoint.write(fs, dir).or_else(|error| {
            if !is_full(&error) {
                return Err(error);
            }
            reserve::release(fs, dir);
            let written = checkpoint.write(fs, dir);
            reserve::take(fs, dir, shared.options.segment_bytes);
            written
        });
        written.map_err(|error| failed("could not write the checkpoint", dir, error))?;
        *delivered = below;
        Ok(())
    }

    /// Whether [`remove_below`](Self::remove_below) would remove a segment. Cheap.
    pub fn can_remove_below(&self, below: u64) -> bool {
        self.shared().table.first_below(below).is_some()
    }

    /// Removes the segments that hold nothing at or above `below`, after a
    /// [`checkpoint`](Self::checkpoint) that says so. Never the segment that is written to. Blocks
    /// on the disk. Returns how many were removed.
    ///
    /// # Errors
    /// As `checkpoint`; `Unavailable` if a segment cannot be removed.
    pub fn remove_below(&self, below: u64) -> Result<usize> {
        let shared = self.shared();
        let mut delivered = locked(&shared.delivered_below);
        self.check_open()?;
        let late = shared.options.sabotaged(Sabotage::RemoveBeforeCheckpoint);
        if !late {
            self.write_checkpoint(&mut delivered, below)?;
        }
        let mut removed = 0;
        while let Some(first) = shared.table.first_below(below) {
            let path = shared.dir.join(segment_name(first.header.number));
            let cannot = |error| failed("could not remove a segment", &path, error);
            // First out of the table: a reader that does not find the file looks there again.
            shared.table.remove_first();
            zmsg_core::fail_point!("zmsg-wal::remove::before");
            match shared.fs.remove(&path) {
                Ok(()) => {}
                // By an attempt that failed behind that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    shared.table.put_back(first);
                    return Err(cannot(error));
                }
            }
            {
                let mut intake = locked(&shared.intake);
                intake.used = intake.used.saturating_sub(first.end);
            }
            removed += 1;
            zmsg_core::fail_point!("zmsg-wal::remove::removed");
            // One by one: what is left is a log without a gap, whenever the power goes. Should it
            // have one all the same, recovery passes over what was delivered.
            shared.fs.sync_dir(&shared.dir).map_err(cannot)?;
        }
        if late {
            self.write_checkpoint(&mut delivered, below)?;
        }
        if removed > 0 {
            reserve::take(&*shared.fs, &shared.dir, shared.options.segment_bytes);
        }
        Ok(removed)
    }

    /// What the log did and how large it is. Cheap.
    pub fn stats(&self) -> LogStats {
        let shared = self.shared();
        let counters = &shared.counters;
        let (segments, bytes) = shared.table.size();
        let (last_seq, disk_full) = {
            let intake = locked(&shared.intake);
            (intake.next_seq - 1, intake.full.is_some())
        };
        LogStats {
            bytes,
            segments,
            appended: get(&counters.appended),
            last_seq,
            written_seq: shared.progress.written(),
            synced_seq: shared.progress.synced(),
            writes: get(&counters.writes),
            syncs: get(&counters.syncs),
            distrusted: get(&counters.distrusted),
            refused: get(&counters.refused),
            torn_bytes: get(&counters.torn_bytes),
            disk_full,
        }
    }

    /// Takes no more records, writes and syncs what there is, ends the thread and frees the
    /// directory.
    ///
    /// # Errors
    /// What failed, if the log failed. To close again is no error.
    ///
    /// # Cancel safety
    /// Dropped, the log is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.shared().stop();
        // Beyond every record: ends when the writer does.
        let _ = self.wait(u64::MAX, Durability::Synced).await;
        self.join()
    }

    /// As [`close`](Self::close), with this thread.
    ///
    /// # Errors
    /// As `close`.
    pub fn close_blocking(&self) -> Result<()> {
        self.shared().stop();
        let _ = self.wait(u64::MAX, Durability::Synced).wait_blocking();
        self.join()
    }

    fn join(&self) -> Result<()> {
        // The writer said its last word: this takes no time.
        if let Some(writer) = locked(&self.handle.writer).take() {
            let _ = writer.join();
        }
        match self.shared().progress.failure() {
            Some(error) if error.kind() != ErrorKind::Closed => Err(error),
            _ => Ok(()),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

fn content<'a>(kind: u8, codec: Codec, payload_len: u32, parts: &'a [&'a [u8]]) -> Content<'a> {
    let stored: usize = parts.iter().map(|part| part.len()).sum();
    // Never longer than the payload, whose length was checked.
    let stored_len = u32::try_from(stored).unwrap_or(u32::MAX);
    Content { kind, codec: codec as u8, payload_len, parts, stored_len }
}
