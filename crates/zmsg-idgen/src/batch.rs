//! Many ids at once.

use std::collections::VecDeque;
use std::ops::Range;

use crate::RawId;

/// Ids that were reserved together: rising, and kept as ranges, one for each millisecond.
///
/// What is not taken out is simply never used.
#[derive(Debug, Clone, Default)]
pub struct IdBatch {
    ranges: VecDeque<Range<u64>>,
    len: usize,
}

impl IdBatch {
    pub(crate) fn push(&mut self, range: Range<u64>) {
        self.len += range_len(&range);
        self.ranges.push_back(range);
    }
}

impl Iterator for IdBatch {
    type Item = RawId;

    fn next(&mut self) -> Option<RawId> {
        loop {
            let range = self.ranges.front_mut()?;
            if let Some(raw) = range.next() {
                self.len -= 1;
                return Some(RawId::made(raw));
            }
            self.ranges.pop_front();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for IdBatch {}

/// A range never spans more than the sequences of one millisecond.
fn range_len(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}
