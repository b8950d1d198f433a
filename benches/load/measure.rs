//! What calls took, kind by kind, and what they wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::mix::Kind;

/// A call that did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Errors of one kind are counted together.
    pub kind: String,
    /// It may have done its work all the same.
    pub is_unknown: bool,
}

/// A call that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    /// When it was to begin.
    pub(super) due: Instant,
    /// When it began.
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// The bytes of its values.
    pub(super) outcome: Result<u64, Failure>,
}

/// What calls of one kind took.
#[derive(Debug, Clone)]
pub struct OfKind {
    /// Nanoseconds of those that did what they were to do, from the moment at which each was to begin.
    pub latency: Histogram<u64>,
    /// Bytes of the values that they read or wrote.
    pub bytes: u64,
    /// Calls that failed, by the kind of error.
    pub errors: BTreeMap<String, u64>,
}

/// Writes of one kind, those of the warm-up too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writes {
    /// Those that were accepted.
    pub accepted: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
}

/// What a run measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Calls before this are not measured.
    from: Instant,
    /// When the last call ended.
    until: Instant,
    /// What each kind took.
    pub kinds: BTreeMap<Kind, OfKind>,
    /// How much later than they were to begin calls began, in nanoseconds; always nothing in a closed loop.
    pub behind: Histogram<u64>,
    /// Calls of each kind whether they are measured or not, by how they ended.
    pub(super) writes: BTreeMap<Kind, Writes>,
}

impl Measured {
    pub(super) fn from(from: Instant) -> Self {
        let (kinds, writes) = (BTreeMap::new(), BTreeMap::new());
        Self { from, until: from, kinds, behind: nanoseconds(), writes }
    }

    pub(super) fn note(&mut self, call: Ended) {
        let writes = self.writes.entry(call.kind).or_default();
        match &call.outcome {
            Ok(_) => writes.accepted += 1,
            Err(failure) => writes.unknown += u64::from(failure.is_unknown),
        }
        if call.due < self.from {
            return;
        }
        self.until = self.until.max(call.ended);
        record(&mut self.behind, call.began - call.due);
        let of_kind = self.kinds.entry(call.kind).or_insert_with(OfKind::new);
        match call.outcome {
            Ok(bytes) => {
                of_kind.bytes += bytes;
                record(&mut of_kind.latency, call.ended - call.due);
            }
            Err(failure) => *of_kind.errors.entry(failure.kind).or_default() += 1,
        }
    }

    /// Adds what another part of the run measured.
    pub(super) fn merge(&mut self, other: Self) {
        self.until = self.until.max(other.until);
        add(&mut self.behind, &other.behind);
        for (kind, theirs) in other.kinds {
            let ours = self.kinds.entry(kind).or_insert_with(OfKind::new);
            add(&mut ours.latency, &theirs.latency);
            ours.bytes += theirs.bytes;
            for (error, count) in theirs.errors {
                *ours.errors.entry(error).or_default() += count;
            }
        }
        for (kind, theirs) in other.writes {
            let ours = self.writes.entry(kind).or_default();
            ours.accepted += theirs.accepted;
            ours.unknown += theirs.unknown;
        }
    }

    /// From the end of the warm-up to the end of the last call.
    pub fn elapsed(&self) -> Duration {
        self.until - self.from
    }

    /// Calls of this kind that may change what the store holds.
    pub fn writes(&self, kind: Kind) -> Writes {
        self.writes.get(&kind).copied().unwrap_or_default()
    }

    /// Calls that failed while it was measured, as a person reads it: a line for each kind of error.
    pub fn failures(&self) -> Vec<String> {
        let line = |kind, (error, count): (&String, &u64)| format!("{count} of {kind}: {error}");
        let of_kind = |(kind, it): (&Kind, &OfKind)| -> Vec<_> {
            it.errors.iter().map(|error| line(*kind, error)).collect()
        };
        self.kinds.iter().flat_map(of_kind).collect()
    }
}

impl OfKind {
    fn new() -> Self {
        Self { latency: nanoseconds(), bytes: 0, errors: BTreeMap::new() }
    }
}

/// Three digits of each value; it grows with the longest.
fn nanoseconds() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    // Both grow, so that adding cannot fail.
    let _ = to.add(from);
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    const LONGEST: Duration = Duration::from_secs(86_400);
    let nanos = duration.min(LONGEST).as_nanos() as u64;
    // It grows, so that recording cannot fail.
    let _ = histogram.record(nanos.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(due: Instant, outcome: Result<u64, Failure>) -> Ended {
        let began = due + Duration::from_millis(2);
        Ended { kind: Kind::Put, due, began, ended: due + Duration::from_millis(5), outcome }
    }

    #[test]
    fn the_warm_up_is_not_measured_and_what_it_wrote_is_known() {
        let from = Instant::now() + Duration::from_secs(1);
        let mut measured = Measured::from(from);
        measured.note(call(from - Duration::from_millis(1), Ok(8)));
        assert!(measured.kinds.is_empty() && measured.elapsed().is_zero());
        measured.note(call(from, Ok(8)));
        let of_kind = &measured.kinds[&Kind::Put];
        assert_eq!((of_kind.latency.len(), of_kind.bytes), (1, 8));
        assert!(of_kind.latency.equivalent(of_kind.latency.max(), 5_000_000));
        assert!(measured.behind.equivalent(measured.behind.max(), 2_000_000));
        assert_eq!(measured.writes(Kind::Put), Writes { accepted: 2, unknown: 0 });
    }

    #[test]
    fn parts_of_a_run_add_up() {
        let from = Instant::now();
        let failure = |is_unknown| Err(Failure { kind: "Timeout".into(), is_unknown });
        let (mut one, mut other) = (Measured::from(from), Measured::from(from));
        one.note(call(from, Ok(1)));
        one.note(call(from, failure(true)));
        other.note(call(from + Duration::from_secs(3), failure(false)));
        other.note(call(from, Ok(1)));
        one.merge(other);
        assert_eq!(one.kinds[&Kind::Put].latency.len(), 2);
        assert_eq!(one.failures(), ["2 of put: Timeout"]);
        assert_eq!(one.writes(Kind::Put), Writes { accepted: 2, unknown: 1 });
        assert_eq!(one.elapsed(), Duration::from_millis(3_005));
    }
}
