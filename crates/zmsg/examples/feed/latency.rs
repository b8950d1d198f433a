//! How long calls took, by call.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

/// One histogram of nanoseconds for each call; one set per task, merged at the end.
#[derive(Debug, Default)]
pub(crate) struct Latencies(pub(crate) BTreeMap<&'static str, Histogram<u64>>);

impl Latencies {
    pub(crate) fn record(&mut self, call: &'static str, started: Instant) {
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        self.of(call).saturating_record(nanos);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (call, histogram) in other.0 {
            // Both were made by `of`, so their bounds agree and adding cannot fail.
            let _ = self.of(call).add(histogram);
        }
    }

    fn of(&mut self, call: &'static str) -> &mut Histogram<u64> {
        const LONGEST: u64 = 60_000_000_000;
        self.0.entry(call).or_insert_with(|| {
            Histogram::new_with_max(LONGEST, 3).unwrap_or_else(|_| unreachable!("valid bounds"))
        })
    }
}
