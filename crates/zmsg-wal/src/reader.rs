//! Reads records in order: of the recovered log, and of what is being written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Result};

use crate::codec::{Codec, decompress};
use crate::error::{damaged, failed};
use crate::frame::Head;
use crate::header::HEADER;
use crate::segment::segment_name;
use crate::shared::Shared;
use crate::table::Spot;
use crate::window::Window;

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its sequence.
    pub seq: u64,
    /// The kind that it was appended with.
    pub kind: u8,
    /// The payload that it was appended with.
    pub payload: Bytes,
}

/// A position in the log.
///
/// Bounded memory, and no lock that an append waits for longer than for a glance. A reader does not
/// keep the log open, and reads on what is written after the log was closed.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    next: u64,
    at: Option<Place>,
}

#[derive(Debug)]
struct Place {
    spot: Spot,
    window: Window,
    offset: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self { shared, next: from.max(1), at: None }
    }

    /// No record below this one will be returned.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next record, or `None` if no more is written yet: ask again later, for instance after
    /// [`Log::wait`](crate::Log::wait) for [`position`](Self::position) to be `Flushed`.
    ///
    /// Reads from the disk, so it may block; mostly it finds the record in memory.
    ///
    /// # Errors
    /// `Corrupted` for a record that is not as it was written, with its place; `Unsupported` for one
    /// that is compressed in a way that was not compiled in; `Unavailable` if it cannot be read.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ended stays ended")]
    pub fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let version = self.shared.table.version();
            let stale = self.at.as_ref().is_none_or(|place| place.spot.version != version);
            if stale && !self.go()? {
                continue;
            }
            match self.step()? {
                Step::Record(record) => return Ok(Some(record)),
                Step::Again => {}
                Step::End => return Ok(None),
            }
        }
    }

    /// Finds the segment of the next record, and stays where it is if it is there. False if it went
    /// away meanwhile, and has to be looked for again.
    fn go(&mut self) -> Result<bool> {
        let Some(spot) = self.shared.table.find(self.next) else { return Ok(true) };
        self.next = self.next.max(spot.entry.header.first_seq);
        if let Some(place) = &mut self.at
            && place.spot.entry.header == spot.entry.header
        {
            place.window.grow(spot.entry.end);
            place.spot = spot;
            return Ok(true);
        }
        let header = spot.entry.header;
        let path = self.shared.dir.join(segment_name(header.number));
        let file = match self.shared.fs.open_to_read(&path) {
            // Removed meanwhile: the table says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.shared.table.version() != spot.version {
                    return Ok(false);
                }
                return Err(failed("a segment of the log is missing", &path, error));
            }
            result => result.map_err(|error| failed("could not read the log", &path, error))?,
        };
        let window = Window::new(file, header.rules(), spot.entry.end);
        self.at = Some(Place { spot, window, offset: HEADER as u64 });
        Ok(true)
    }

    fn step(&mut self) -> Result<Step> {
        let Some(place) = &mut self.at else { return Ok(Step::End) };
        if place.offset >= place.window.end() || self.next > place.spot.upto {
            return Ok(self.end_of_segment());
        }
        let number = place.spot.entry.header.number;
        let path = || self.shared.dir.join(segment_name(number));
        let frame = place.window.frame(place.offset);
        let head = match frame.map_err(|error| failed("could not read the log", &path(), error))? {
            Ok(head) if head.is_record() && head.seq < place.spot.entry.header.ceiling => head,
            _ if self.shared.table.version() != place.spot.version => return Ok(Step::Again),
            Ok(_) => {
                let why = "something else than a record is there";
                return Err(damaged(why, &path(), place.offset, self.next));
            }
            Err(flaw) => return Err(damaged(flaw.text(), &path(), place.offset, self.next)),
        };
        if head.seq < self.next {
            place.offset += head.frame_len() as u64;
            return Ok(Step::Again);
        }
        let record = record(&head, place.window.stored(place.offset, &head))
            .map_err(|error| error.with_context("sequence", head.seq).during("wal.read"))?;
        place.offset += head.frame_len() as u64;
        self.next = head.seq + 1;
        Ok(Step::Record(record))
    }

    fn end_of_segment(&mut self) -> Step {
        let Some(place) = &mut self.at else { return Step::End };
        let Some(spot) = self.shared.table.find(self.next) else { return Step::End };
        if spot.version != place.spot.version {
            return Step::Again;
        }
        let is_here = spot.entry.header == place.spot.entry.header;
        if let Some(after) = spot.after.filter(|_| is_here) {
            self.next = self.next.max(after);
        }
        if spot.after.is_some() || !is_here {
            // Another segment: the place is looked for anew.
            place.spot.version = u64::MAX;
            return Step::Again;
        }
        if spot.entry.end > place.window.end() {
            place.window.grow(spot.entry.end);
            return Step::Again;
        }
        Step::End
    }
}

enum Step {
    Record(Record),
    Again,
    End,
}

/// A record from its frame.
pub(crate) fn record(head: &Head, stored: &[u8]) -> Result<Record> {
    let Some(codec) = Codec::from_code(head.codec) else {
        let why = "a record is stored in a way that this version does not know";
        return Err(Error::new(ErrorKind::Unsupported, why).with_context("codec", head.codec));
    };
    let payload = match codec {
        Codec::Plain => Bytes::copy_from_slice(stored),
        codec => decompress(codec, stored, head.payload_len as usize)?.into(),
    };
    Ok(Record { seq: head.seq, kind: head.kind, payload })
}
