//! What is left to try of a flight whose groups are all in the dead letters.

use std::collections::HashMap;
use std::ops::Range;

use zmsg_core::Error;

use super::suspicion::Suspicion;

/// The ranges of a parked flight that are still to be tried, in order, each in one transaction.
#[derive(Debug)]
pub(super) struct Parked {
    /// What this pass has still to try, last first.
    ranges: Vec<Range<usize>>,
    /// What has to wait for the next pass, in order.
    postponed: Vec<Range<usize>>,
    /// What it waits for.
    hindrance: Option<Error>,
    /// So many groups are tried together at most: others get in the way of more.
    together_max: usize,
    /// The current range was sent, and what became of it was not seen.
    pub(super) in_doubt: bool,
    /// The groups that were stopped alone.
    pub(super) suspects: HashMap<usize, Suspicion>,
}

impl Parked {
    /// These ranges, in order.
    pub(super) fn new(mut ranges: Vec<Range<usize>>) -> Self {
        ranges.reverse();
        Self {
            ranges,
            postponed: Vec::new(),
            hindrance: None,
            together_max: usize::MAX,
            in_doubt: false,
            suspects: HashMap::new(),
        }
    }

    /// The range to try now; `None` at the end of a pass.
    pub(super) fn current(&mut self) -> Option<Range<usize>> {
        let range = self.ranges.last_mut()?;
        // One whose answer was not seen is asked for as it was sent.
        if !self.in_doubt && range.len() > self.together_max {
            let first = range.start..range.start + self.together_max;
            range.start = first.end;
            self.ranges.push(first);
        }
        self.ranges.last().cloned()
    }

    /// The current range took effect or is kept: on to the next.
    pub(super) fn done(&mut self) {
        self.ranges.pop();
        self.together_max = self.together_max.saturating_add(1);
    }

    /// Tries the current range in so many parts.
    pub(super) fn divide(&mut self, parts: usize) {
        let Some(range) = self.ranges.pop() else { return };
        let size = range.len().div_ceil(parts).max(1);
        let starts: Vec<usize> = range.clone().step_by(size).collect();
        let part = |start: usize| start..(start + size).min(range.end);
        self.ranges.extend(starts.into_iter().rev().map(part));
    }

    /// Others got in the way of the current range: fewer at a time from now on.
    pub(super) fn shrink(&mut self) {
        let len = self.ranges.last().map_or(0, ExactSizeIterator::len);
        self.together_max = (len / 2).max(1);
    }

    /// Leaves the current range, and what follows it up to `end`, to the next pass.
    pub(super) fn postpone(&mut self, end: usize, hindrance: Error) {
        self.postponed.extend(self.ranges.pop());
        while let Some(next) = self.ranges.last_mut().filter(|next| next.start < end) {
            self.postponed.push(next.start..end.min(next.end));
            next.start = end;
            if next.start >= next.end {
                self.ranges.pop();
            }
        }
        self.hindrance = Some(hindrance);
    }

    /// Begins the next pass; what it was put off for, or `None` if nothing is left.
    pub(super) fn next_pass(&mut self) -> Option<Error> {
        self.ranges = std::mem::take(&mut self.postponed);
        self.ranges.reverse();
        self.hindrance.take()
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::ErrorKind;

    use super::*;

    fn error() -> Error {
        Error::new(ErrorKind::Timeout, "stopped").temporary()
    }

    /// What a pass tries if everything takes effect.
    fn pass(parked: &mut Parked) -> Vec<Range<usize>> {
        let mut tried = Vec::new();
        while let Some(range) = parked.current() {
            tried.push(range);
            parked.done();
        }
        tried
    }

    #[test]
    fn a_range_is_divided_in_order_and_nothing_of_it_is_left_out() {
        let mut parked = Parked::new(vec![0..10, 12..13]);
        parked.divide(8);
        assert_eq!(pass(&mut parked), [0..2, 2..4, 4..6, 6..8, 8..10, 12..13]);
        assert!(parked.next_pass().is_none());
    }

    #[test]
    fn what_is_postponed_comes_with_the_rest_of_its_batch_and_in_order() {
        let mut parked = Parked::new(vec![0..1, 1..3, 4..8, 9..10]);
        assert_eq!(parked.current(), Some(0..1));
        parked.postpone(6, error());
        assert_eq!(pass(&mut parked), [6..8, 9..10]);
        assert!(parked.next_pass().is_some());
        assert_eq!(pass(&mut parked), [0..1, 1..3, 4..6]);
        assert!(parked.next_pass().is_none());
    }

    #[test]
    fn fewer_are_tried_together_after_others_got_in_the_way() {
        let mut parked = Parked::new(vec![0..10, 10..11]);
        parked.shrink();
        parked.current();
        parked.shrink();
        assert_eq!(pass(&mut parked), [0..2, 2..5, 5..9, 9..10, 10..11]);
    }

    #[test]
    fn what_is_in_doubt_is_asked_for_as_it_was_sent() {
        let mut parked = Parked::new(std::iter::once(0..10).collect());
        parked.together_max = 3;
        parked.in_doubt = true;
        assert_eq!(parked.current(), Some(0..10));
    }
}
