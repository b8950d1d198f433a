//! Reads a segment from its first frame, and says where and why it ends.

use std::io;
use std::path::PathBuf;

use zmsg_core::Result;

use crate::Fs;
use crate::error::{damaged, failed};
use crate::frame::{ALIGN, Flaw, HEAD, Head, Mark};
use crate::header::{HEADER, Header};
use crate::window::Window;

/// How much is passed over at once where nothing was written.
const BLANK: usize = 4096;

/// A segment file with a good header. It is open only while it is read: a log may have more segments
/// than a process may have files open.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) size: u64,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    pub(crate) records: u64,
    /// The last record, or what the header says of the segments before.
    pub(crate) last: u64,
    /// Where the last good record ends.
    pub(crate) end: u64,
    /// Up to where anything in it says that all is synced.
    pub(crate) synced_through: u64,
    /// Why it ends there; nothing if all that was looked for was found.
    pub(crate) flaw: Option<Flaw>,
}

impl Segment {
    /// Reads the header of a segment.
    ///
    /// The header was synced before the segment got its name: a bad one is damage.
    pub(crate) fn find(fs: &dyn Fs, path: PathBuf) -> Result<Self> {
        let cannot = |error| failed("could not read a segment of the log", &path, error);
        let file = fs.open_to_read(&path).map_err(cannot)?;
        let size = file.size().map_err(cannot)?;
        let mut bytes = [0; HEADER];
        let mut filled = 0;
        while filled < HEADER {
            match file.read_at(&mut bytes[filled..], filled as u64).map_err(cannot)? {
                0 => break,
                read => filled += read,
            }
        }
        let header = Header::decode(&bytes).map_err(|why| damaged(why, &path, 0, 0))?;
        Ok(Self { path, header, size })
    }

    /// Opens the segment, for as long as the window lives.
    pub(crate) fn window(&self, fs: &dyn Fs) -> Result<Window> {
        let file = fs.open_to_read(&self.path).map_err(|error| self.cannot(error))?;
        Ok(Window::new(file, self.header.rules(), self.size))
    }

    /// Reads records while they are good, up to the sequence `upto`.
    pub(crate) fn scan(
        &self,
        window: &mut Window,
        upto: u64,
        mut found: impl FnMut(u64, &Head, &Window) -> Result<()>,
    ) -> Result<Scan> {
        let mut scan = Scan {
            records: 0,
            last: self.header.synced_through,
            end: HEADER as u64,
            synced_through: self.header.synced_through,
            flaw: None,
        };
        let mut expected = self.header.first_seq;
        while expected <= upto {
            let head = match self.look(window, scan.end)? {
                Ok(head) if head.is_record() && head.seq == expected => head,
                // A frame that is none of ours: a mark, or what the next record was written over.
                Ok(_) => {
                    scan.flaw = Some(Flaw::Blank);
                    break;
                }
                Err(flaw) => {
                    scan.flaw = Some(flaw);
                    break;
                }
            };
            found(scan.end, &head, window)?;
            scan.records += 1;
            scan.last = expected;
            scan.end += head.frame_len() as u64;
            scan.synced_through = scan.synced_through.max(head.synced_through);
            expected += 1;
        }
        Ok(scan)
    }

    /// Looks behind the end of the good records for whatever else is there.
    pub(crate) fn rest(&self, window: &mut Window, scan: &Scan) -> Result<Rest> {
        let mut rest = Rest { closed: false, synced_through: 0, torn_end: scan.end, mark: None };
        let expected = scan.last.max(self.header.first_seq - 1) + 1;
        let mut at = scan.end;
        while at + HEAD as u64 <= self.size {
            if self.is_blank(window, at, BLANK)? {
                at += BLANK as u64;
                continue;
            }
            let Some(bytes) = self.slice(window, at)? else { break };
            let blank = bytes.iter().all(|&byte| byte == 0);
            let head = Head::read(&bytes);
            // Sequences are dense: what is far off is no frame, and its length is not believed.
            let near = head.seq >= expected - 1 && head.seq < self.header.ceiling;
            let whole = if near { self.look(window, at)?.ok() } else { None };
            if let Some(head) = whole {
                rest.synced_through = rest.synced_through.max(head.synced_through);
                let mark = head.mark();
                if at == scan.end && mark.is_some() && head.seq + 1 == expected {
                    rest.mark = mark;
                    rest.closed = mark == Some(Mark::Closed);
                }
            }
            // The mark at the end is no torn record.
            let is_the_mark = at == scan.end && rest.mark.is_some();
            if !blank && !is_the_mark {
                rest.torn_end = at + whole.map_or(HEAD, |head| head.frame_len()) as u64;
            }
            at += whole.map_or(ALIGN as u64, |head| head.frame_len() as u64);
        }
        Ok(rest)
    }

    /// Whether so many bytes are there and none was written: most of a segment that was allocated
    /// ahead.
    fn is_blank(&self, window: &mut Window, at: u64, len: usize) -> Result<bool> {
        let bytes = window.slice(at, len).map_err(|error| self.cannot(error))?;
        Ok(bytes.is_some_and(|bytes| bytes.iter().fold(0, |all, byte| all | byte) == 0))
    }

    /// The frame at an offset; what the system says is an error, what the bytes say is not.
    pub(crate) fn look(&self, window: &mut Window, at: u64) -> Result<Result<Head, Flaw>> {
        window.frame(at).map_err(|error| self.cannot(error))
    }

    fn slice(&self, window: &mut Window, at: u64) -> Result<Option<[u8; HEAD]>> {
        let bytes = window.slice(at, HEAD).map_err(|error| self.cannot(error))?;
        Ok(bytes.and_then(|bytes| bytes.first_chunk()).copied())
    }

    pub(crate) fn cannot(&self, error: io::Error) -> zmsg_core::Error {
        failed("could not read a segment of the log", &self.path, error)
    }
}

/// What stands behind the last good record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    /// The log was closed there.
    pub(crate) closed: bool,
    mark: Option<Mark>,
    /// Up to where any good frame in it says that all is synced.
    pub(crate) synced_through: u64,
    /// Where the last trace of something written ends.
    pub(crate) torn_end: u64,
}
