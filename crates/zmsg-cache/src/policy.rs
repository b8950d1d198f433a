//! How long things live, and how many may wait.

use std::time::Duration;

use zmsg_core::{Error, Millis, Result};

/// The times and bounds of a [`TieredCache`](crate::TieredCache).
///
/// A value's TTL is the one of the call, else the one of its source, else [`ttl`](Self::ttl).
#[derive(Clone, Debug, PartialEq)]
pub struct CachePolicy {
    /// How long a value lives where neither the call nor its source says. Default 10 min.
    pub ttl: Duration,
    /// How long L1 may keep a value at most: the bound on what this node may lag behind what
    /// another one wrote. Default 60 s, for an engine that is alone; with several nodes choose
    /// the lag that is acceptable, such as 5 s. Without an L2, values that live in the cache only
    /// ([`TieredCache::set`](crate::TieredCache::set)) keep their whole TTL.
    pub local_ttl: Duration,
    /// How long "absent" is remembered, in both tiers. Default 5 s.
    pub negative_ttl: Duration,
    /// The share by which TTLs vary, so that what was cached together does not expire together:
    /// 0.1 is ±10 %. `local_ttl` is a bound, so it varies downwards only. Default 0.1.
    pub jitter: f64,
    /// How long a hold keeps fills out of L2. Longer than a commit takes: when a hold expires
    /// first, the value is not published. A fill whose load took longer than half of it is
    /// refused, and a fill that is under way is given up then: what rests on it is that no request
    /// reaches L2 later than the other half. What was loaded and refused by a hold, L1 keeps this
    /// long at most. Default 3 s.
    pub hold: Duration,
    /// How many callers may wait for one load of one key; more are refused with `Overloaded`.
    /// Default 10,000.
    pub waiters_max: usize,
    /// How many loads may be under way, over all keys; more are refused with `Overloaded`.
    /// Default 65,536.
    pub flights_max: usize,
    /// How long a load may take before those who wait get a `Timeout`. Default 30 s.
    pub load_timeout: Duration,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            local_ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            jitter: 0.1,
            hold: Duration::from_secs(3),
            waiters_max: 10_000,
            flights_max: 65_536,
            load_timeout: Duration::from_secs(30),
        }
    }
}

impl CachePolicy {
    /// Checks what has to hold for the cache to be of use.
    ///
    /// # Errors
    /// `InvalidConfig` naming the field.
    pub fn validate(&self) -> Result<()> {
        let times = [
            ("ttl", self.ttl),
            ("local_ttl", self.local_ttl),
            ("negative_ttl", self.negative_ttl),
            ("hold", self.hold),
            ("load_timeout", self.load_timeout),
        ];
        let bounds = [("waiters_max", self.waiters_max), ("flights_max", self.flights_max)];
        let short = times.iter().find(|(_, time)| time.as_millis() == 0).map(|(name, _)| *name);
        let zero = bounds.iter().find(|(_, bound)| *bound == 0).map(|(name, _)| *name);
        if let Some(field) = short {
            return Err(Error::invalid_config("a time must be at least one millisecond")
                .with_context("field", field));
        }
        if let Some(field) = zero {
            return Err(
                Error::invalid_config("a bound must be at least one").with_context("field", field)
            );
        }
        if !(0.0..1.0).contains(&self.jitter) {
            return Err(Error::invalid_config("jitter must be from 0 up to but not including 1")
                .with_context("jitter", self.jitter));
        }
        Ok(())
    }

    /// The TTL of a value or of an "absent", jittered.
    pub(crate) fn lifetime(&self, present: bool, asked: Option<Duration>) -> Duration {
        let ttl = if present { asked.unwrap_or(self.ttl) } else { self.negative_ttl };
        self.vary(ttl, 2.0 * fastrand::f64() - 1.0)
    }

    /// How long L1 may keep an entry that ends after `rest` anyway.
    pub(crate) fn local_lifetime(&self, rest: Duration) -> Duration {
        self.vary(self.local_ttl, -fastrand::f64()).min(rest)
    }

    /// How long a load may take for its fill to be let into L2.
    pub(crate) fn fill_within(&self) -> Duration {
        self.hold / 2
    }

    // Through f64, where nothing overflows: `Duration::mul_f64` panics for a TTL of "for ever".
    fn vary(&self, ttl: Duration, direction: f64) -> Duration {
        if self.jitter == 0.0 {
            return ttl;
        }
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * direction;
        Duration::from_millis((ttl.as_secs_f64() * 1000.0 * factor) as u64)
    }
}

/// Whole milliseconds, rounded down: nothing lives longer than it was given.
pub(crate) fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share_and_the_local_bound_is_a_bound() {
        let policy = CachePolicy { jitter: 0.2, ..CachePolicy::default() };
        let ttl = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1000).map(|_| policy.lifetime(true, Some(ttl))).collect();
        assert!(drawn.iter().all(|t| (80..=120).contains(&t.as_secs())), "{drawn:?}");
        assert!(drawn.iter().any(|t| *t > ttl) && drawn.iter().any(|t| *t < ttl));
        for _ in 0..1000 {
            assert!(policy.local_lifetime(Duration::MAX) <= policy.local_ttl);
            assert!(policy.local_lifetime(Duration::from_secs(1)) <= Duration::from_secs(1));
        }
    }

    #[test]
    fn a_ttl_without_end_saturates() {
        let policy = CachePolicy::default();
        assert!(policy.lifetime(true, Some(Duration::MAX)) > Duration::from_secs(1 << 40));
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let bad = CachePolicy { hold: Duration::ZERO, ..CachePolicy::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("hold"));
        let bad = CachePolicy { waiters_max: 0, ..CachePolicy::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("waiters_max"));
        let bad = CachePolicy { jitter: f64::NAN, ..CachePolicy::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("jitter"));
        CachePolicy::default().validate().unwrap();
    }
}
