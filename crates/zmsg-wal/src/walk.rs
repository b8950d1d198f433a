//! Reads a segment past its damage: every good record, and every place where one is missing.

use zmsg_core::Result;

use crate::frame::{ALIGN, Flaw, HEAD, Head};
use crate::header::HEADER;
use crate::scan::Segment;
use crate::window::Window;

/// A place where a record should be and is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) flaw: Flaw,
}

/// What was met on the way.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) records: u64,
    pub(crate) last: Option<u64>,
    pub(crate) holes: Vec<Hole>,
    /// Up to where any good frame says that all is synced.
    pub(crate) proof: u64,
    /// Bytes behind the last good record in which something is left.
    pub(crate) torn_bytes: u64,
}

impl Segment {
    /// Walks up to the sequence `upto`, in order.
    pub(crate) fn walk(
        &self,
        window: &mut Window,
        upto: u64,
        mut found: impl FnMut(u64, &Head, &Window) -> Result<()>,
    ) -> Result<Walk> {
        let mut walk = Walk { proof: self.header.synced_through, ..Walk::default() };
        let mut expected = self.header.first_seq;
        let mut hole: Option<Hole> = None;
        let (mut at, mut end, mut trace) = (HEADER as u64, HEADER as u64, HEADER as u64);
        while at + HEAD as u64 <= self.size {
            let head = match self.look(window, at)? {
                Ok(head) => head,
                Err(flaw) => {
                    hole.get_or_insert(Hole { offset: at, seq: expected, flaw });
                    at += ALIGN as u64;
                    if flaw != Flaw::Blank {
                        trace = at;
                    }
                    continue;
                }
            };
            walk.proof = walk.proof.max(head.synced_through);
            let offset = at;
            at += head.frame_len() as u64;
            if !head.is_record() || head.seq < expected || head.seq > upto {
                continue;
            }
            if head.seq > expected {
                let flaw = hole.map_or(Flaw::Blank, |hole| hole.flaw);
                walk.holes.push(Hole { offset: end, seq: expected, flaw });
            }
            found(offset, &head, window)?;
            hole = None;
            (walk.records, walk.last) = (walk.records + 1, Some(head.seq));
            (expected, end) = (head.seq + 1, at);
        }
        if expected <= upto {
            let flaw = hole.map_or(Flaw::Blank, |hole| hole.flaw);
            walk.holes.push(Hole { offset: end, seq: expected, flaw });
        }
        walk.torn_bytes = trace.saturating_sub(end);
        Ok(walk)
    }
}
