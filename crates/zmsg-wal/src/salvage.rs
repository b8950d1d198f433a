//! Copies what is good of a damaged log to a new one, under the same sequences.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};

use crate::Fs;
use crate::checkpoint::Checkpoint;
use crate::error::failed;
use crate::frame::{self, Head};
use crate::header::{Header, NUMBER_CAP};
use crate::open::again;
use crate::scan::Segment;
use crate::segment::{Live, Spare, UNFINISHED};
use crate::verify::{Survey, Verified};
use crate::writer::salt;

/// Copies every good record of a log that nobody has open to the empty directory `into`, which can be
/// opened then. Id and sequences stay; what is missing stays missing. Returns what was found.
///
/// A checkpoint that cannot be read is left out: then what was delivered and is still there is handed
/// out again. Of a segment whose header is damaged nothing can be copied; as nobody knows which sequences
/// it had given out, the copy goes on far above them.
///
/// # Errors
/// `InvalidInput` if there is a log in `into` already; `Unavailable` if files cannot be read or
/// written.
pub fn salvage(dir: impl AsRef<Path>, into: impl AsRef<Path>, fs: &dyn Fs) -> Result<Verified> {
    let (dir, into) = (dir.as_ref(), into.as_ref());
    let cannot = |error| failed("could not write the copy of the log", into, error);
    fs.prepare_dir(into).map_err(cannot)?;
    if !fs.list(into).map_err(cannot)?.is_empty() {
        return Err(Error::invalid_input("the directory for the copy is not empty")
            .with_context("directory", into.display())
            .during("wal.salvage"));
    }
    let survey = Survey::of(dir, fs)?;
    let good = || survey.segments.iter().filter_map(|(_, segment)| segment.as_ref().ok());
    let Some(first) = good().next() else {
        let why = "no segment of the log can be read";
        return Err(Error::new(ErrorKind::Corrupted, why).with_context("directory", dir.display()));
    };
    let ceiling = ceiling(&survey);
    let checkpoint = survey.checkpoint.clone().ok().flatten();
    // What was removed below the checkpoint is not missing.
    let begin = checkpoint.map_or(0, |checkpoint| checkpoint.below.saturating_sub(1));
    let ceiling = ceiling.max(begin + 2);
    let mut copy =
        Copy { fs, into, stream: first.header.stream, ceiling, number: 0, last: begin, live: None };
    let verified = survey.report(fs, |header, offset, head, window| {
        copy.add(header, head, window.stored(offset, head))
    })?;
    copy.finish()?;
    if copy.number == 0 {
        copy.begin(ceiling, frame::HEAD as u32)?;
        copy.finish()?;
    }
    if let Some(Checkpoint { stream, below }) = checkpoint {
        Checkpoint { stream, below }.write(fs, into).map_err(cannot)?;
    }
    Ok(verified)
}

/// Above every sequence that was given out, as far as the headers tell; of one that cannot be read
/// it is assumed that its segment was larger than any.
fn ceiling(survey: &Survey) -> u64 {
    let after = |ceiling: u64, (_, segment): &(PathBuf, Result<Segment>)| match segment {
        Ok(segment) => ceiling.max(segment.header.ceiling),
        Err(_) => ceiling.saturating_add(UNREADABLE).min(NUMBER_CAP),
    };
    survey.segments.iter().fold(2, after)
}

/// So many sequences cannot be in a segment and a buffer of a TiB each.
const UNREADABLE: u64 = 1 << 37;

struct Copy<'a> {
    fs: &'a dyn Fs,
    into: &'a Path,
    stream: Uuid,
    ceiling: u64,
    number: u64,
    last: u64,
    live: Option<Live>,
}

impl Copy<'_> {
    fn add(&mut self, header: &Header, head: &Head, stored: &[u8]) -> Result<()> {
        // A record that was written anew after a failure is there twice.
        let is_next = head.seq == self.last + 1;
        if head.seq <= self.last && self.live.is_some() {
            return Ok(());
        }
        let fits = self
            .live
            .as_ref()
            .is_some_and(|live| live.header.record_bytes_max == header.record_bytes_max);
        if !is_next || !fits {
            self.finish()?;
            self.begin(head.seq, header.record_bytes_max)?;
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        let mut frame = again(head, stored);
        frame::seal(&mut frame, live.rules, live.end, live.header.synced_through);
        live.file
            .write_at(&frame, live.end)
            .map_err(|error| failed("could not write the copy of the log", self.into, error))?;
        live.end += frame.len() as u64;
        self.last = head.seq;
        Ok(())
    }

    /// Records without a gap make a segment.
    fn begin(&mut self, first_seq: u64, record_bytes_max: u32) -> Result<()> {
        self.number += 1;
        let header = Header {
            stream: self.stream,
            number: self.number,
            first_seq,
            synced_through: self.last.min(first_seq - 1),
            ceiling: self.ceiling.max(first_seq + 1),
            salt: salt(),
            record_bytes_max,
        };
        let path = self.into.join(format!("segment-{:016x}{UNFINISHED}", self.number));
        let live = self
            .fs
            .create(&path)
            .and_then(|file| Live::prepare(Spare { file, path, bytes: u64::MAX }, header));
        let cannot = |error| failed("could not write the copy of the log", self.into, error);
        self.live = Some(live.map_err(cannot)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Some(mut live) = self.live.take() else { return Ok(()) };
        live.file
            .sync_data()
            .and_then(|()| live.rename(self.fs, self.into))
            .and_then(|()| self.fs.sync_dir(self.into))
            .map_err(|error| failed("could not write the copy of the log", self.into, error))
    }
}
