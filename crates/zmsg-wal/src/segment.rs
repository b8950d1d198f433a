//! The files of a log: their names, and how a segment begins.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::Rules;
use crate::header::{HEADER, Header};
use crate::{File, Fs};

/// Ends the name of a segment.
const SEGMENT: &str = ".wal";

/// Ends the name of what is not finished: removed whenever the log is opened.
pub(crate) const UNFINISHED: &str = ".tmp";

/// The name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}{SEGMENT}")
}

/// The number in the name of a segment.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT).filter(|digits| digits.len() == 16)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// A file that will be a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Spare {
    /// Allocates a file. If there is no space, nothing of it stays.
    pub(crate) fn allocate(fs: &dyn Fs, dir: &Path, name: u64, bytes: u64) -> io::Result<Self> {
        let path = dir.join(format!("segment-{name:016x}{UNFINISHED}"));
        let file = fs.create(&path)?;
        if let Err(error) = file.allocate(bytes) {
            drop(file);
            let _ = fs.remove(&path);
            return Err(error);
        }
        Ok(Self { file, path, bytes })
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) header: Header,
    pub(crate) rules: Rules,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    /// Where the next frame begins.
    pub(crate) end: u64,
    /// How much is allocated.
    pub(crate) bytes: u64,
    /// Up to where it was written at least once.
    zeroed: u64,
}

/// How much is filled with zeros at a time.
const ZEROS: u64 = 512 * 1024;

/// Longer writes go to the disk as they are: the zeros would be most of the work.
const ZERO_BELOW: u64 = 32 * 1024;

impl Live {
    /// A segment that has a header and no name yet.
    pub(crate) fn prepare(spare: Spare, header: Header) -> io::Result<Self> {
        let Spare { file, path, bytes } = spare;
        file.write_at(&header.encode(), 0)?;
        Ok(Self { rules: header.rules(), header, file, path, end: HEADER as u64, bytes, zeroed: 0 })
    }

    /// Writes frames at the end.
    ///
    /// Where many small writes are synced one by one, what is ahead is filled with zeros now and then:
    /// a sync of blocks that were written before has no metadata to write.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let end = self.end + frames.len() as u64;
        if end > self.zeroed && (frames.len() as u64) < ZERO_BELOW {
            let zeroed = (end + ZEROS).min(self.bytes);
            let zeros = vec![0; usize::try_from(zeroed.saturating_sub(end)).unwrap_or(0)];
            self.file.write_at(&zeros, end)?;
            self.zeroed = zeroed;
        }
        self.file.write_at(frames, self.end)?;
        self.end = end;
        Ok(())
    }

    /// Gives the segment its name. What it holds has to be synced before: whoever finds the name
    /// relies on the header.
    pub(crate) fn rename(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let path = dir.join(segment_name(self.header.number));
        fs.rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    pub(crate) fn room(&self) -> u64 {
        self.bytes.saturating_sub(self.end)
    }
}
