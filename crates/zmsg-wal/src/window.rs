//! A part of a file in memory, through which frames are read one after the other.

use std::io;
use std::sync::Arc;

use crate::File;
use crate::frame::{Flaw, HEAD, Head, Rules};

/// How much is read at a time; a longer record is read whole.
const CHUNK: usize = 256 * 1024;

/// A sliding view of one segment. Bounded by the longest record.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn File>,
    rules: Rules,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins, and how much of it is filled.
    start: u64,
    filled: usize,
    /// Nothing beyond is looked at.
    end: u64,
    /// Sabotage: a wrong checksum is as good as a right one.
    believes_all: bool,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>, rules: Rules, end: u64) -> Self {
        let buffer = Vec::new();
        Self { file, rules, buffer, start: 0, filled: 0, end, believes_all: false }
    }

    pub(crate) fn believing_all(mut self, believes_all: bool) -> Self {
        self.believes_all = believes_all;
        self
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The file grew. What is in memory beyond the old end is read anew.
    pub(crate) fn grow(&mut self, end: u64) {
        let known = self.end.saturating_sub(self.start);
        self.filled = self.filled.min(usize::try_from(known).unwrap_or(usize::MAX));
        self.end = end;
    }

    /// The head of the frame at `offset`, if the whole frame is as it was written.
    pub(crate) fn frame(&mut self, offset: u64) -> io::Result<Result<Head, Flaw>> {
        let left = self.end.saturating_sub(offset);
        let rules = self.rules;
        let Some(bytes) = self.slice(offset, HEAD)? else { return Ok(Err(Flaw::Blank)) };
        let Some(bytes) = bytes.first_chunk::<HEAD>() else { return Ok(Err(Flaw::Blank)) };
        let head = Head::read(bytes);
        if let Err(flaw) = head.verify(bytes, offset, left, rules) {
            return Ok(Err(flaw));
        }
        let believes_all = self.believes_all;
        let Some(frame) = self.slice(offset, head.frame_len())? else {
            return Ok(Err(Flaw::Length));
        };
        match head.verify_all(frame, offset, rules) {
            Err(flaw) if !believes_all => Ok(Err(flaw)),
            _ => Ok(Ok(head)),
        }
    }

    /// The payload of a frame that was just read, as stored.
    pub(crate) fn stored(&self, offset: u64, head: &Head) -> &[u8] {
        let begin = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let begin = begin.saturating_add(HEAD);
        let end = begin.saturating_add(head.stored_len as usize);
        self.buffer.get(begin..end).unwrap_or_default()
    }

    /// Bytes of the file, or `None` beyond its end.
    pub(crate) fn slice(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let inside = offset >= self.start && offset + len as u64 <= self.start + self.filled as u64;
        if !inside {
            self.fill(offset, len)?;
        }
        let begin = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer[..self.filled].get(begin..begin.saturating_add(len)))
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let want = len.max(CHUNK).min(left);
        if self.buffer.len() < want {
            self.buffer.resize(want, 0);
        }
        self.start = offset;
        self.filled = 0;
        while self.filled < want {
            let at = offset + self.filled as u64;
            match self.file.read_at(&mut self.buffer[self.filled..want], at)? {
                0 => break,
                read => self.filled += read,
            }
        }
        Ok(())
    }
}
