//! A filter that holds a million keys at 1 %: lookups and additions on one thread and on two, and how many
//! of the keys that it does not hold it takes for its own.

use std::slice::from_ref;

use bloomfilter::Bloom;
use fastbloom::AtomicBloomFilter;
use zmsg_benches::{Case, Figures, Unit, is_quick, key, nanoseconds, ready};
use zmsg_bloom::{
    AtomicKeys, Bits, ClassicKeys, FilterOptions, KeyHash, KeySet, LocalFilter, MembershipFilter,
    Params, Verdict,
};
use zmsg_core::Key;

const KEYS: usize = 1_000_000;
const ERROR_RATE: f64 = 0.01;
/// As many as there are different keys before they repeat.
const LOOKUPS: usize = 1 << 16;

/// The filters that are compared, each with the same keys.
struct Filters {
    zmsg: Box<dyn MembershipFilter>,
    on_bloomfilter: Box<dyn MembershipFilter>,
    layout: Params,
    bits: Bits,
    fast: AtomicBloomFilter,
    classic: Bloom<str>,
}

impl Filters {
    fn of(rows: &[Key]) -> Self {
        let layout = Params::new(KEYS as u64, ERROR_RATE).expect("valid parameters");
        let filters = Self {
            zmsg: Box::new(local_filter::<AtomicKeys>(rows)),
            on_bloomfilter: Box::new(local_filter::<ClassicKeys>(rows)),
            layout,
            bits: Bits::new(layout.bits()),
            fast: AtomicBloomFilter::with_false_pos(ERROR_RATE).expected_items(KEYS),
            classic: Bloom::new_for_fp_rate(KEYS, ERROR_RATE).expect("valid parameters"),
        };
        let Self { mut classic, .. } = filters;
        rows.iter().for_each(|row| classic.set(row.as_str()));
        let filters = Self { classic, ..filters };
        for row in rows {
            filters.set(row);
            filters.fast.insert(row.as_str());
        }
        filters
    }

    fn set(&self, key: &Key) {
        let places = KeyHash::new(key.as_str(), 1);
        self.bits.set(places.positions(self.layout.bits(), self.layout.hashes()));
    }

    fn get(&self, key: &Key) -> bool {
        let mut places =
            KeyHash::new(key.as_str(), 1).positions(self.layout.bits(), self.layout.hashes());
        places.all(|position| self.bits.get(position))
    }
}

/// As an engine makes it: rebuilt from its source.
fn local_filter<K: KeySet>(rows: &[Key]) -> LocalFilter<K> {
    let options = FilterOptions { capacity: KEYS as u64, error_rate: ERROR_RATE, seed: Some(1) };
    let filter = LocalFilter::with_options(options).expect("valid options");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime
        .block_on(async {
            let rebuild = filter.begin_rebuild(0).await?;
            filter.seed(&rebuild, rows).await?;
            filter.finish_rebuild(rebuild).await
        })
        .expect("a rebuild that nothing disturbs");
    filter
}

/// Nanoseconds of a call for one key after the other, which take turns.
fn each<T>(threads: usize, keys: &[Key], call: impl Fn(&Key) -> T + Sync) -> f64 {
    let call = &call;
    nanoseconds(threads, |thread| {
        // Each at another place of the same keys.
        let mut next = thread * keys.len() / threads;
        move || {
            next = if next + 1 >= keys.len() { 0 } else { next + 1 };
            call(&keys[next])
        }
    })
}

fn lookups(figures: &mut Figures, filters: &Filters, case: &Case, threads: usize, keys: &[Key]) {
    let Filters { zmsg, on_bloomfilter, fast, classic, .. } = filters;
    figures.turns(
        case,
        Unit::Nanoseconds,
        &mut [
            ("zmsg", &mut || each(threads, keys, |key| zmsg.check(key.as_str()))),
            ("zmsg, bits alone", &mut || each(threads, keys, |key| filters.get(key))),
            ("fastbloom", &mut || each(threads, keys, |key| fast.contains(key.as_str()))),
            ("zmsg on bloomfilter", &mut || {
                each(threads, keys, |key| on_bloomfilter.check(key.as_str()))
            }),
            ("bloomfilter", &mut || each(threads, keys, |key| classic.check(key.as_str()))),
        ],
    );
}

/// Keys that are there again and again: nothing grows meanwhile.
fn additions(figures: &mut Figures, filters: &Filters, threads: usize, keys: &[Key]) {
    let Filters { zmsg, fast, .. } = filters;
    let insert = |key: &Key| ready(zmsg.insert(from_ref(key))).map(drop).expect("it has room");
    figures.turns(
        &Case::new("add").at("threads", threads as u64),
        Unit::Nanoseconds,
        &mut [
            ("zmsg, bits alone", &mut || each(threads, keys, |key| filters.set(key))),
            ("fastbloom", &mut || each(threads, keys, |key| fast.insert(key.as_str()))),
            ("zmsg, with its guard", &mut || each(threads, keys, insert)),
        ],
    );
}

/// The share of keys that are not there and are taken for it, in percent. Rounds ask for other keys.
fn errors(figures: &mut Figures, filters: &Filters) {
    let Filters { zmsg, fast, classic, .. } = filters;
    let (asked, rounds) = if is_quick() { (20_000_usize, 2) } else { (200_000, 7) };
    let share = |wrong: &dyn Fn(&Key) -> bool| -> Vec<f64> {
        let round = |round: usize| {
            let keys = (0..asked).map(|n| key(KEYS + round * asked + n));
            100.0 * keys.filter(|key| wrong(key)).count() as f64 / asked as f64
        };
        (0..rounds).map(round).collect()
    };
    let case = Case::new("keys that are not there and pass");
    let ours = share(&|key| zmsg.check(key.as_str()) != Verdict::Absent);
    figures.record(&case, "zmsg", Unit::Wrong, ours);
    let theirs = share(&|key| fast.contains(key.as_str()));
    figures.record(&case, "fastbloom", Unit::Wrong, theirs);
    figures.record(&case, "bloomfilter", Unit::Wrong, share(&|key| classic.check(key.as_str())));
}

fn main() {
    let Some(mut figures) = Figures::of("bloom_check") else { return };
    let rows: Vec<Key> = (0..KEYS).map(key).collect();
    let filters = Filters::of(&rows);
    for (name, first) in [("present", 0), ("absent", KEYS)] {
        let keys = zmsg_benches::scattered_keys(first, KEYS, LOOKUPS);
        for threads in [1, 2] {
            let case = Case::new(name).at("threads", threads as u64);
            lookups(&mut figures, &filters, &case, threads, &keys);
        }
    }
    errors(&mut figures, &filters);
    let keys = zmsg_benches::scattered_keys(0, KEYS, LOOKUPS);
    for threads in [1, 2] {
        additions(&mut figures, &filters, threads, &keys);
    }
}
