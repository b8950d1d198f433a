//! What was appended and is not written: the short lock that every appender takes.
//!
//! A record is only accepted if its place on the disk is allocated. The intake plays through what
//! the writer will do: fill the live segment, then go on to the next one, which was allocated ahead.

use std::io;
use std::sync::Arc;

use zmsg_core::{Error, Result};

use crate::LogOptions;
use crate::frame::{self, Content, frame_len};

/// Appended records, and the room there is for more.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Frames that lack what the writer adds.
    pub(crate) buffer: Vec<u8>,
    /// Of the next record.
    pub(crate) next_seq: u64,
    /// What the writer took and may not have written.
    pub(crate) in_flight: usize,
    /// Room in the segment that will be the live one once the buffer is written.
    pub(crate) room: u64,
    /// Segments allocated ahead that the buffer does not need.
    pub(crate) spares: usize,
    /// All bytes of the log.
    pub(crate) used: u64,
    /// Why no segment could be allocated ahead.
    pub(crate) full: Option<Arc<io::Error>>,
    /// Up to where somebody wants a sync.
    pub(crate) sync_wanted: u64,
    /// No more records: the log is closing, or failed.
    pub(crate) refusal: Option<Error>,
    /// The writer sleeps and has to be woken.
    pub(crate) writer_waits: bool,
    /// How many records are in the buffer, and for how many the writer is to be woken.
    pub(crate) records: usize,
    pub(crate) wanted: usize,
}

impl Intake {
    /// Adds frames for all records, or none.
    pub(crate) fn accept(
        &mut self,
        options: &LogOptions,
        records: &[Content<'_>],
    ) -> Result<(u64, u64)> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let frames = || records.iter().map(|record| frame_len(record.stored_len as usize));
        let bytes: usize = frames().sum();
        if self.buffer.len() + self.in_flight + bytes > options.buffer_bytes_max {
            return Err(Error::overloaded("wal.buffer_bytes_max"));
        }
        if self.used + bytes as u64 > options.bytes_max {
            return Err(Error::overloaded("wal.bytes_max"));
        }
        let (room, spares) = self.plan(options.segment_room(), frames())?;
        (self.room, self.spares) = (room, spares);
        self.used += bytes as u64;
        self.records += records.len();
        let first = self.next_seq;
        for record in records {
            frame::push(&mut self.buffer, self.next_seq, record);
            self.next_seq += 1;
        }
        Ok((first, self.next_seq - 1))
    }

    /// The room and the spares that are left after those frames.
    fn plan(&self, whole: u64, frames: impl Iterator<Item = usize>) -> Result<(u64, usize)> {
        let (mut room, mut spares) = (self.room, self.spares);
        for frame in frames {
            let frame = frame as u64;
            if frame > room {
                spares = spares.checked_sub(1).ok_or_else(|| self.no_space())?;
                room = whole;
            }
            room = room.saturating_sub(frame);
        }
        Ok((room, spares))
    }

    fn no_space(&self) -> Error {
        let error = Error::overloaded("space on the disk for the next segment of the log");
        match &self.full {
            Some(cause) => error.with_source(Arc::clone(cause)),
            None => error,
        }
    }

    /// The writer stands elsewhere than planned: in a segment with so much room, with so many
    /// segments ahead.
    pub(crate) fn replan(&mut self, room: u64, spares: usize) {
        let left = room.checked_sub(self.buffer.len() as u64);
        self.room = left.unwrap_or(0);
        // What is in the buffer may need the next one already.
        self.spares = if left.is_some() { spares } else { spares.saturating_sub(1) };
    }
}
