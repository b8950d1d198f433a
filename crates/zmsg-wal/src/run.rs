//! A run of frames in memory: completed for its place, and walked through.

use crate::frame::{self, Head};
use crate::segment::Live;

/// What of the frames goes into a segment.
pub(crate) struct Run {
    pub(crate) bytes: usize,
    pub(crate) last: Option<u64>,
}

/// Completes the frames that fit into the segment.
pub(crate) fn seal_run(frames: &mut [u8], live: &Live, synced_through: u64) -> Run {
    let mut run = Run { bytes: 0, last: None };
    while let Some(head) = head_at(frames, run.bytes) {
        let offset = live.end + run.bytes as u64;
        let end = run.bytes + head.frame_len();
        if offset + head.frame_len() as u64 > live.bytes {
            break;
        }
        let Some(frame) = frames.get_mut(run.bytes..end) else { break };
        frame::seal(frame, live.rules, offset, synced_through);
        run = Run { bytes: end, last: Some(head.seq) };
    }
    run
}

fn head_at(frames: &[u8], at: usize) -> Option<Head> {
    frames.get(at..)?.first_chunk().map(Head::read)
}

/// The last sequence of a run.
pub(crate) fn last_seq(frames: &[u8]) -> Option<u64> {
    let (mut at, mut last) = (0, None);
    while let Some(head) = head_at(frames, at) {
        last = Some(head.seq);
        at += head.frame_len();
    }
    last
}
