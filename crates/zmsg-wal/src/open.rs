//! Opens a log: takes the lock, recovers, and begins a new segment.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};

use crate::error::{failed, is_full};
use crate::frame::{self, Head};
use crate::header::Header;
use crate::intake::Intake;
use crate::progress::Progress;
use crate::recovery::{Found, Recovered, Tail, inspect};
use crate::sabotage::Sabotage;
use crate::segment::{Live, Spare, segment_name};
use crate::shared::Shared;
use crate::stats::Counters;
use crate::table::{EMPTY, Entry, Table};
use crate::writer::{Writer, salt};
use crate::{Fs, Lock, LogOptions, reserve};

const LOCK: &str = "LOCK";

/// What an opened log is made of.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Writer,
    pub(crate) recovered: Recovered,
}

/// Finishes recovery before it returns.
pub(crate) fn open(dir: &Path, options: LogOptions, fs: Arc<dyn Fs>) -> Result<Opened> {
    options.validate()?;
    fs.prepare_dir(dir).map_err(|error| failed("could not use the directory", dir, error))?;
    let lock = lock(&*fs, dir)?;
    // A process that was killed may have left names that are not on the disk. What follows is built
    // on them, and may reach the disk without them.
    fs.sync_dir(dir).map_err(|error| failed("could not sync the directory", dir, error))?;
    let found = inspect(&*fs, dir, &options)?;
    zmsg_core::fail_point!("zmsg-wal::open::inspected");
    let mut opening = Opening { fs: &*fs, dir, options: &options, found };
    opening.tidy()?;
    zmsg_core::fail_point!("zmsg-wal::open::tidied");
    let live = opening.begin()?;
    zmsg_core::fail_point!("zmsg-wal::open::begun");
    let Found { recovered, entries, .. } = opening.found;
    let table = Table::new(entries);
    let intake = Intake {
        buffer: Vec::new(),
        next_seq: recovered.next,
        in_flight: 0,
        room: live.room(),
        spares: 0,
        used: table.size().1,
        full: None,
        sync_wanted: 0,
        refusal: None,
        writer_waits: false,
        records: 0,
        wanted: 0,
    };
    let counters = Counters::default();
    crate::stats::add(&counters.torn_bytes, recovered.torn_bytes);
    let shared = Arc::new(Shared {
        stream: recovered.stream,
        dir: dir.to_owned(),
        intake: Mutex::new(intake),
        work: Condvar::new(),
        progress: Progress::starting_at(recovered.next - 1),
        table,
        delivered_below: Mutex::new(recovered.delivered_below),
        counters,
        options,
        fs,
    });
    let mut writer = Writer::new(Arc::clone(&shared), live, lock);
    reserve::take(&*shared.fs, &shared.dir, shared.options.segment_bytes);
    writer.allocate_ahead();
    Ok(Opened { shared, writer, recovered })
}

fn lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK);
    fs.lock(&path).map_err(|error| {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return failed("could not lock the log", &path, error);
        }
        Error::new(
            ErrorKind::Conflict,
            "another process has the log open: end it, or use another directory",
        )
        .with_context("directory", dir.display())
        .with_context("process", error)
        .during("wal.open")
    })
}

struct Opening<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    options: &'a LogOptions,
    found: Found,
}

impl Opening<'_> {
    /// Removes what was never finished, and cuts what is behind the last record: space that a full
    /// disk may need. Neither has to survive a power cut: it would be found and done again.
    fn tidy(&mut self) -> Result<()> {
        reserve::release(self.fs, self.dir);
        for name in &self.found.unfinished {
            let path = self.dir.join(name);
            self.fs
                .remove(&path)
                .map_err(|error| failed("could not remove an unfinished file", &path, error))?;
        }
        if let Some(tail) = &self.found.end
            && !self.found.recovered.closed
            && tail.segment.size > tail.scan.end
        {
            let path = &tail.segment.path;
            self.fs
                .open(path)
                .and_then(|file| file.set_len(tail.scan.end))
                .map_err(|error| failed("could not cut the torn tail", path, error))?;
        }
        Ok(())
    }

    /// Begins the segment for what is to come, after one for what nobody knows to be synced.
    fn begin(&mut self) -> Result<Live> {
        let Recovered { stream, last, next, .. } = self.found.recovered;
        let mut number = 1;
        if let Some(tail) = self.found.end.take() {
            let header = tail.segment.header;
            number = header.number + 1;
            if tail.scan.records == 0 {
                // Nothing is in it: the new one takes its place.
                self.found.entries.pop();
                number = header.number;
            } else if tail.proven < last && !self.options.sabotaged(Sabotage::TrustUnsynced) {
                self.copy(&tail, stream, next)?;
                number += 1;
            }
        }
        let header = Header {
            stream,
            number,
            first_seq: next,
            synced_through: last,
            ceiling: next + self.options.sequences_max(self.options.segment_bytes),
            salt: salt(),
            record_bytes_max: self.options.record_bytes_max,
        };
        let spare = self.allocate(number, self.options.segment_bytes).or_else(|error| {
            // On a full disk the log can be read all the same, and become smaller.
            if is_full(&error) { self.allocate(number, EMPTY) } else { Err(error) }
        });
        let path = self.dir.join(segment_name(number));
        let cannot = |error| failed("could not begin a segment", &path, error);
        let spare = spare.map_err(cannot)?;
        let result = Live::prepare(spare, header).and_then(|mut live| {
            live.file.sync_data()?;
            live.rename(self.fs, self.dir)?;
            self.fs.sync_dir(self.dir)?;
            Ok(live)
        });
        let live = result.map_err(cannot)?;
        self.found.entries.push(Entry::new(header, live.end));
        Ok(live)
    }

    fn allocate(&self, number: u64, bytes: u64) -> io::Result<Spare> {
        Spare::allocate(self.fs, self.dir, number, bytes)
    }

    /// Writes what may not be synced to a segment of its own. To sync the old file proves nothing:
    /// it may be one whose sync failed, and which the system now takes for clean.
    fn copy(&mut self, tail: &Tail, stream: Uuid, next: u64) -> Result<()> {
        let old = tail.segment.header;
        let header = Header {
            stream,
            number: old.number + 1,
            first_seq: old.first_seq.max(tail.proven + 1),
            synced_through: tail.proven,
            ceiling: next.max(old.ceiling),
            salt: salt(),
            record_bytes_max: old.record_bytes_max,
        };
        let cannot = |error| failed("could not write the tail of the log anew", self.dir, error);
        let spare = self.allocate(header.number, EMPTY).map_err(cannot)?;
        let mut live = Live::prepare(spare, header).map_err(cannot)?;
        let mut window = tail.segment.window(self.fs)?;
        tail.segment.scan(&mut window, tail.scan.last, |offset, head, window| {
            if head.seq <= tail.proven {
                return Ok(());
            }
            let mut frame = again(head, window.stored(offset, head));
            frame::seal(&mut frame, live.rules, live.end, tail.proven);
            live.file.write_at(&frame, live.end).map_err(cannot)?;
            live.end += frame.len() as u64;
            Ok(())
        })?;
        live.file.sync_data().map_err(cannot)?;
        zmsg_core::fail_point!("zmsg-wal::open::copied");
        live.rename(self.fs, self.dir).map_err(cannot)?;
        self.fs.sync_dir(self.dir).map_err(cannot)?;
        self.found.entries.push(Entry::new(header, live.end));
        Ok(())
    }
}

/// The frame of a record once more, for another place.
pub(crate) fn again(head: &Head, stored: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let content = frame::Content {
        kind: head.kind,
        codec: head.codec,
        payload_len: head.payload_len,
        parts: &[stored],
        stored_len: head.stored_len,
    };
    frame::push(&mut frame, head.seq, &content);
    frame
}
