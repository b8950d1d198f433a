//! What follows from the answer to a batch. Pure.

use zmsg_core::{Error, ErrorKind, ErrorStatus};

use super::config::OnExhausted;

/// Items that are handed over together, by their places in the flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) items: Vec<u32>,
    /// Tries that were spent.
    pub(super) tries: u32,
    /// How often in a row the sink was found unavailable.
    pub(super) silent: u32,
    /// It is half of one whose tries were all spent, and has one.
    pub(super) isolating: bool,
}

impl Part {
    pub(super) fn new(items: Vec<u32>, tries: u32) -> Self {
        Self { items, tries, silent: 0, isolating: false }
    }

    /// The pause before it is handed over is that after so many failures.
    pub(super) fn failures(&self) -> u32 {
        match (self.silent, self.isolating) {
            (0, true) => 0,
            (0, false) => self.tries,
            (silent, _) => silent,
        }
    }
}

/// What the handler said, or what became of its call.
#[derive(Debug)]
pub(super) enum Answer {
    /// It delivered all but these.
    Took(Vec<(usize, Error)>),
    Failed(Error),
    Panicked(String),
    TimedOut,
}

impl Answer {
    /// Whether the sink answered: an unavailable one and one out of time did not.
    pub(super) fn is_silence(&self, items: usize) -> bool {
        let unavailable = |error: &Error| error.kind() == ErrorKind::Unavailable;
        match self {
            Self::Panicked(_) => false,
            Self::Took(failed) => {
                failed.len() >= items && failed.iter().all(|(_, error)| unavailable(error))
            }
            Self::Failed(error) => unavailable(error),
            Self::TimedOut => true,
        }
    }
}

/// An item that is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) place: u32,
    pub(super) tries: u32,
    pub(super) error: String,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) done: Vec<u32>,
    pub(super) dead: Vec<Dead>,
    /// In this order, before anything else.
    pub(super) again: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) tries_max: u32,
    pub(super) on_exhausted: OnExhausted,
}

impl Rules {
    pub(super) fn judge(self, part: Part, answer: Answer) -> Verdict {
        match answer {
            Answer::Took(failed) => match misnamed(&failed, part.items.len()) {
                Some(error) => self.whole(part, &error),
                None => self.each(part, failed),
            },
            Answer::Failed(error) => self.whole(part, &error),
            Answer::Panicked(text) => {
                let error = Error::new(ErrorKind::Unexpected, "the handler panicked");
                self.whole(part, &error.with_context("panic", text))
            }
            Answer::TimedOut => {
                let why = "the handler took longer than handler_timeout";
                self.whole(part, &Error::new(ErrorKind::Timeout, why))
            }
        }
    }

    /// The batch failed as one.
    fn whole(self, part: Part, error: &Error) -> Verdict {
        if error.kind() == ErrorKind::Unavailable {
            let again = vec![Part { silent: part.silent + 1, ..part }];
            return Verdict { again, ..Verdict::default() };
        }
        let tries = part.tries + 1;
        let is_last = part.isolating || tries >= self.tries_max || will_not_work(error);
        if !is_last {
            let again = vec![Part { tries, silent: 0, ..part }];
            return Verdict { again, ..Verdict::default() };
        }
        if part.items.len() > 1 && self.on_exhausted == OnExhausted::Isolate {
            let (first, second) = part.items.split_at(part.items.len() / 2);
            let half = |items: &[u32]| Part { isolating: true, ..Part::new(items.to_vec(), tries) };
            return Verdict { again: vec![half(first), half(second)], ..Verdict::default() };
        }
        let error = text_of(error);
        let bury = |place| Dead { place, tries, error: error.clone() };
        Verdict { dead: part.items.into_iter().map(bury).collect(), ..Verdict::default() }
    }

    /// Some items failed, each by itself.
    fn each(self, part: Part, mut failed: Vec<(usize, Error)>) -> Verdict {
        if failed.is_empty() {
            return Verdict { done: part.items, ..Verdict::default() };
        }
        failed.sort_by_key(|&(place, _)| place);
        failed.dedup_by_key(|&mut (place, _)| place);
        let mut verdict = Verdict::default();
        // In one piece, and so in order: a try is spent if one item of it had an answer.
        let (mut again, mut spent) = (Vec::new(), false);
        let mut failed = failed.into_iter().peekable();
        let tries = part.tries + 1;
        let is_last = part.isolating || tries >= self.tries_max;
        for (at, &place) in part.items.iter().enumerate() {
            match failed.next_if(|&(failed, _)| failed == at) {
                None => verdict.done.push(place),
                Some((_, error)) if error.kind() == ErrorKind::Unavailable => again.push(place),
                Some((_, error)) if is_last || will_not_work(&error) => {
                    verdict.dead.push(Dead { place, tries, error: text_of(&error) });
                }
                Some(_) => {
                    spent = true;
                    again.push(place);
                }
            }
        }
        if !again.is_empty() {
            let (tries, silent) = if spent { (tries, 0) } else { (part.tries, part.silent + 1) };
            verdict.again.push(Part { items: again, tries, silent, ..part });
        }
        verdict
    }
}

/// The text of an error as a dead letter keeps it: drivers quote whole statements.
fn text_of(error: &Error) -> String {
    const BYTES_MAX: usize = 4 << 10;
    let mut text = error.to_string();
    if text.len() > BYTES_MAX {
        let boundary = (0..=BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(boundary.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Whether an error is of the data itself.
fn will_not_work(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData)
        && error.status() == ErrorStatus::Permanent
}

/// The error of a handler that named an item it was not given.
fn misnamed(failed: &[(usize, Error)], len: usize) -> Option<Error> {
    let (place, _) = failed.iter().find(|&&(place, _)| place >= len)?;
    let why = "the handler named a failed item that the batch does not have";
    let error = Error::new(ErrorKind::Unexpected, why);
    Some(error.with_context("place", place).with_context("items", len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { tries_max: 3, on_exhausted: OnExhausted::Isolate };

    fn part(items: std::ops::Range<u32>) -> Part {
        Part::new(items.collect(), 0)
    }

    fn failed(kind: ErrorKind) -> Answer {
        Answer::Failed(Error::new(kind, "no"))
    }

    #[test]
    fn a_failed_batch_is_tried_again_and_then_halved() {
        let once = RULES.judge(part(0..4), failed(ErrorKind::Unexpected));
        assert_eq!(once.again, [Part::new(vec![0, 1, 2, 3], 1)]);
        let last = RULES.judge(Part::new(vec![0, 1, 2, 3], 2), Answer::TimedOut);
        let half = |items| Part { isolating: true, ..Part::new(items, 3) };
        assert_eq!(last.again, [half(vec![0, 1]), half(vec![2, 3])]);
        // One try for each half, then further down, to the one item that is to blame.
        let lower = RULES.judge(half(vec![2, 3]), failed(ErrorKind::Unexpected));
        assert_eq!(lower.again.len(), 2);
        let alone = RULES.judge(half(vec![3]), failed(ErrorKind::Unexpected));
        assert_eq!((alone.dead[0].place, alone.dead[0].tries), (3, 4));
    }

    #[test]
    fn bad_data_is_sought_at_once_or_buried_with_its_batch() {
        let verdict = RULES.judge(part(0..2), failed(ErrorKind::InvalidData));
        assert!(verdict.again.iter().all(|part| part.isolating), "{verdict:?}");
        let bury = Rules { on_exhausted: OnExhausted::BuryBatch, ..RULES };
        assert_eq!(bury.judge(part(0..2), failed(ErrorKind::InvalidData)).dead.len(), 2);
    }

    #[test]
    fn an_unavailable_sink_costs_no_try() {
        let mut now = part(0..3);
        for silent in 1..50 {
            now = RULES.judge(now, failed(ErrorKind::Unavailable)).again.remove(0);
            assert_eq!((now.tries, now.silent), (0, silent));
        }
    }

    #[test]
    fn of_a_partial_failure_only_the_failed_items_are_tried_again() {
        let error = |kind| Error::new(kind, "no");
        let failed = vec![
            (3, error(ErrorKind::InvalidData)),
            (1, error(ErrorKind::Unexpected)),
            (1, error(ErrorKind::Unexpected)),
            (4, error(ErrorKind::Unavailable)),
        ];
        let verdict = RULES.judge(part(10..16), Answer::Took(failed));
        assert_eq!(verdict.done, [10, 12, 15]);
        assert_eq!(verdict.dead.iter().map(|dead| dead.place).collect::<Vec<_>>(), [13]);
        assert_eq!(verdict.again, [Part::new(vec![11, 14], 1)], "in order");
        let silent = vec![(2, error(ErrorKind::Unavailable))];
        let verdict = RULES.judge(part(10..16), Answer::Took(silent));
        assert_eq!(verdict.again, [Part { silent: 1, ..Part::new(vec![12], 0) }]);
    }

    #[test]
    fn a_long_error_is_cut() {
        let error = Error::invalid_input("ä".repeat(100_000));
        let verdict = RULES.judge(part(0..1), Answer::Failed(error));
        assert!(verdict.dead[0].error.len() < 5_000);
    }

    #[test]
    fn an_item_that_keeps_failing_by_itself_is_given_up() {
        let failed = vec![(0, Error::new(ErrorKind::Unexpected, "no"))];
        let verdict = RULES.judge(Part::new(vec![7], 2), Answer::Took(failed));
        assert_eq!((verdict.dead[0].place, verdict.dead[0].tries), (7, 3));
    }

    #[test]
    fn a_place_that_the_batch_does_not_have_confirms_nothing() {
        let failed = vec![(6, Error::new(ErrorKind::Unexpected, "no"))];
        let verdict = RULES.judge(part(0..6), Answer::Took(failed));
        assert_eq!((verdict.done.len(), verdict.again[0].items.len()), (0, 6));
    }
}
