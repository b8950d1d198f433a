//! Medians, how far they can be trusted, and ratios of them.
//!
//! Nothing is assumed of how samples are spread: intervals are made of order statistics (H. David,
//! H. Nagaraja, Order Statistics, 2003, chapter 7.1).

/// A median, and the interval in which the true one is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Middle {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// There were samples enough for the interval to mean something.
    pub(super) is_sure: bool,
}

/// How sure an interval is to hold the true median, where there are samples enough.
const CONFIDENCE: f64 = 0.95;

/// Of fewer even the whole range holds the true median less surely than that.
const SAMPLES_MIN: usize = 6;

impl Middle {
    /// Of these samples; `None` without any. Of fewer than 6 the interval is their range, and
    /// allows no verdict.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (0, sorted.len().checked_sub(1)?);
        let off = outside(sorted.len());
        let median = (sorted[last / 2] + sorted[sorted.len() / 2]) / 2.0;
        let (low, high) = (sorted[first + off], sorted[last - off]);
        Some(Self { median, low, high, is_sure: sorted.len() >= SAMPLES_MIN })
    }

    /// This over another that was measured apart from it: the interval holds whatever both can be.
    pub(super) fn over(self, other: Self) -> Self {
        Self {
            median: over(self.median, other.median),
            low: over(self.low, other.high),
            high: over(self.high, other.low),
            is_sure: self.is_sure && other.is_sure,
        }
    }
}

/// So many samples on either side are outside of the interval. That the true median is below the
/// k-th of n is as likely as fewer than k heads in n throws of a coin.
fn outside(samples: usize) -> usize {
    let mut term = 0.5_f64.powi(i32::try_from(samples).unwrap_or(i32::MAX));
    let (mut below, mut off) = (term, 0);
    loop {
        term *= (samples - off) as f64 / (off + 1) as f64;
        below += term;
        if 2.0 * below > 1.0 - CONFIDENCE || off + 1 >= samples / 2 {
            return off;
        }
        off += 1;
    }
}

/// Each sample of one over that of the other which was taken beside it, so that what the machine did
/// meanwhile cancels out.
pub(super) fn beside(own: &[f64], other: &[f64]) -> Option<Middle> {
    let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| over(*own, *other)).collect();
    Middle::of(&ratios)
}

/// None beside none is as much; some beside none is infinitely more.
fn over(one: f64, other: f64) -> f64 {
    if one == other { 1.0 } else { one / other }
}

/// What a ratio allows to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Better,
    Worse,
    /// Both are the same, each time: counts can be.
    Equal,
    /// The interval holds 1: a difference inside the noise is none.
    Same,
    /// It was measured too seldom to say anything.
    TooFew,
}

impl Verdict {
    pub(super) fn of(ratio: Middle) -> Self {
        if !ratio.is_sure {
            Self::TooFew
        } else if (ratio.low, ratio.high) == (1.0, 1.0) {
            Self::Equal
        } else if ratio.low > 1.0 {
            Self::Better
        } else if ratio.high < 1.0 {
            Self::Worse
        } else {
            Self::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Ranks for 95 %, counted from 1: 1 and 6 of 6, 1 and 7 of 7, 2 and 9 of 10, 10 and 21 of 30.
        for (samples, off) in [(1, 0), (2, 0), (5, 0), (6, 0), (7, 0), (10, 1), (30, 9)] {
            assert_eq!(outside(samples), off, "{samples} samples");
        }
        let samples: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let middle = Middle::of(&samples).unwrap();
        assert_eq!(middle, Middle { median: 5.5, low: 2.0, high: 9.0, is_sure: true });
        assert_eq!(Middle::of(&[]), None);
    }

    #[test]
    fn a_slow_round_that_met_both_says_nothing() {
        let own = [10.0, 2.0, 11.0, 10.0, 10.0, 10.0];
        let other = [5.0, 1.0, 5.5, 5.0, 5.0, 5.0];
        let ratio = beside(&own, &other).unwrap();
        assert_eq!((ratio.median, Verdict::of(ratio)), (2.0, Verdict::Better));
        let apart = Middle::of(&own).unwrap().over(Middle::of(&other).unwrap());
        assert_eq!(Verdict::of(apart), Verdict::Same);
    }

    #[test]
    fn few_samples_allow_no_verdict_however_far_apart_they_are() {
        assert_eq!(Verdict::of(beside(&[9.0; 5], &[1.0; 5]).unwrap()), Verdict::TooFew);
        assert_eq!(Verdict::of(beside(&[9.0; 6], &[1.0; 6]).unwrap()), Verdict::Better);
    }

    #[test]
    fn a_difference_inside_the_noise_is_none() {
        let verdict = |low, high| Verdict::of(Middle { median: 1.0, low, high, is_sure: true });
        assert_eq!(verdict(0.98, 1.2), Verdict::Same);
        assert_eq!(verdict(1.01, 1.2), Verdict::Better);
        assert_eq!(verdict(0.8, 0.99), Verdict::Worse);
        assert_eq!(verdict(1.0, 1.0), Verdict::Equal);
    }

    #[test]
    fn nothing_beside_nothing_is_as_much() {
        let none = Middle::of(&[0.0; 7]).unwrap();
        assert_eq!(Verdict::of(none.over(none)), Verdict::Equal);
        assert_eq!(Verdict::of(beside(&[0.0; 7], &[0.0; 7]).unwrap()), Verdict::Equal);
        assert_eq!(beside(&[3.0; 7], &[0.0; 7]).unwrap().median, f64::INFINITY);
    }
}
