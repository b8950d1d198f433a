//! Which call is made next.

use std::fmt;

use serde::Deserialize;

use super::keys::Rows;
use super::workload::Workload;

/// A kind of call of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One row.
    Get,
    /// Several rows at once.
    GetMany,
    /// A row that is not there, as the membership filter knows.
    GetAbsent,
    /// An id.
    NextId,
    /// A value to the caches alone.
    CacheOnly,
    /// A value out of the caches: the next read asks the store.
    Del,
    /// A row of the engine's own table.
    Put,
    /// A row by the store route.
    CacheAndStore,
    /// A row by the delayed route.
    CacheAndDelayStore,
    /// A counter of a row by the periodic route.
    CacheAndPeriodicStore,
}

impl Kind {
    /// As the method is called, and as a workload names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::GetAbsent => "get_absent",
            Self::NextId => "next_id",
            Self::CacheOnly => "cache_only",
            Self::Del => "del",
            Self::Put => "put",
            Self::CacheAndStore => "cache_and_store",
            Self::CacheAndDelayStore => "cache_and_delay_store",
            Self::CacheAndPeriodicStore => "cache_and_periodic_store",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A call that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Of which kind.
    pub kind: Kind,
    /// Of which row.
    pub row: usize,
    /// The other rows of a `get_many`.
    pub others: Vec<usize>,
}

/// Draws calls by their shares; the same ones on every run.
#[derive(Debug, Clone)]
pub struct Draw {
    /// The sum of the shares up to and including each kind.
    cumulated: Vec<(u64, Kind)>,
    rows: Rows,
    many: usize,
    random: fastrand::Rng,
}

impl Draw {
    /// Calls of this workload.
    pub fn of(workload: &Workload) -> Self {
        let mut sum = 0;
        let shares = workload.mix.iter().filter(|(_, share)| **share > 0);
        let cumulated = shares.map(|(kind, share)| {
            sum += u64::from(*share);
            (sum, *kind)
        });
        Self {
            cumulated: cumulated.collect(),
            rows: Rows::of(&workload.keys),
            many: workload.keys.many,
            random: fastrand::Rng::with_seed(workload.seed),
        }
    }

    /// The same shares in another order, for another task.
    #[must_use]
    pub fn for_task(&self, task: usize) -> Self {
        let mut random = self.random.clone();
        let seed = random.u64(..).wrapping_add((task as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { random: fastrand::Rng::with_seed(seed), ..self.clone() }
    }

    /// The next call.
    pub fn next_call(&mut self) -> Call {
        let total = self.cumulated.last().map_or(1, |(sum, _)| *sum);
        let point = self.random.u64(..total);
        let at = self.cumulated.partition_point(|(up_to, _)| *up_to <= point);
        let kind = self.cumulated.get(at).map_or(Kind::Get, |(_, kind)| *kind);
        let row = self.rows.draw(&mut self.random);
        let others = if kind == Kind::GetMany { self.many - 1 } else { 0 };
        let others = (0..others).map(|_| self.rows.draw(&mut self.random)).collect();
        Call { kind, row, others }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn workload(mix: &str) -> Workload {
        let text = "backend = 'embedded'\nduration_s = 1\n[closed]\ntasks = 1\n[keys]\nrows = 10\nmany = 3\n[mix]\n";
        Workload::parse(&format!("{text}{mix}")).unwrap()
    }

    #[test]
    fn each_kind_comes_up_by_its_share() {
        let mut draw = Draw::of(&workload("get = 90\nput = 9\ndel = 1\nnext_id = 0\n"));
        let mut seen = BTreeMap::new();
        (0..100_000).for_each(|_| *seen.entry(draw.next_call().kind).or_insert(0) += 1);
        let near = |kind, share: i32| (seen[&kind] - share * 1_000_i32).abs() < 500;
        assert!(near(Kind::Get, 90) && near(Kind::Put, 9) && near(Kind::Del, 1), "{seen:?}");
        assert!(!seen.contains_key(&Kind::NextId));
    }

    #[test]
    fn only_get_many_has_other_rows() {
        let mut draw = Draw::of(&workload("get = 1\nget_many = 1\n"));
        for call in (0..100).map(|_| draw.next_call()) {
            let others = if call.kind == Kind::GetMany { 2 } else { 0 };
            assert_eq!(call.others.len(), others, "{call:?}");
        }
    }

    #[test]
    fn tasks_make_different_calls_and_runs_make_the_same() {
        let draw = Draw::of(&workload("get = 1\nput = 1\n"));
        let calls = |task| {
            let mut draw = draw.for_task(task);
            (0..20).map(|_| draw.next_call()).collect::<Vec<_>>()
        };
        assert_eq!(calls(3), calls(3));
        assert_ne!(calls(3), calls(4));
    }

    #[test]
    fn a_kind_is_named_as_workloads_name_it() {
        for kind in
            [Kind::GetMany, Kind::CacheAndDelayStore, Kind::CacheAndPeriodicStore, Kind::Del]
        {
            assert_eq!(workload(&format!("{kind} = 1\n")).mix.keys().next(), Some(&kind));
        }
    }
}
