//! How often L1 has what is asked for, on each backend and on the crate that is behind it, at several
//! capacities: on a recorded trace and on Zipf streams.
//!
//! The trace is OLTP of N. Megiddo, D. Modha, ARC: A Self-Tuning, Low Overhead Replacement Cache, FAST 2003; it
//! is read from beside the repository and left out where it is not there. Every entry weighs the same, so that
//! a bound in bytes and one in entries are one. What is not there is put in.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use bytes::Bytes;
use zmsg_benches::{Case, Figures, Unit, Zipf, is_quick, key};
use zmsg_cache::{Entry, LocalCache, MokaCache, QuickCache, StrettoCache};
use zmsg_core::{Key, Millis};

/// From the root of the repository.
const TRACE: &str = "../shared/data/OLTP.lis.zst";

/// Keys that a Zipf stream has, and how many of them it asks for.
const KEYS: usize = 100_000;
const REQUESTS: usize = 1_000_000;

/// Asks for the n-th row, and puts it in if it is not there; whether it was.
type Ask = Box<dyn FnMut(usize) -> bool>;

/// The rows of a stream as an application names them, all of one length.
struct Rows(Vec<Key>);

impl Rows {
    fn of(count: usize) -> &'static Self {
        let named = |n| key(10_000_000 + n);
        // Once for each stream, and the closures of all caches look at it.
        Box::leak(Box::new(Self((0..count).map(named).collect())))
    }

    fn entry() -> Entry {
        Entry { value: Some(value()), deadline: Millis::MAX, epoch: 0 }
    }

    fn weight(&self) -> u64 {
        Self::entry().weight(&self.0[0])
    }
}

fn value() -> Bytes {
    Bytes::from_static(&[7; 100])
}

/// Asks a cache by how it is asked, and puts in by how that is done.
fn asking<C: 'static, R>(
    rows: &'static Rows,
    cache: C,
    has: impl Fn(&C, &Key) -> bool + 'static,
    insert: impl Fn(&C, Key) -> R + 'static,
) -> Ask {
    Box::new(move |row| {
        let key = &rows.0[row];
        let hit = has(&cache, key);
        if !hit {
            insert(&cache, key.clone());
        }
        hit
    })
}

fn through(rows: &'static Rows, cache: impl LocalCache) -> Ask {
    let insert = |cache: &_, key: Key| LocalCache::insert(cache, &key, Rows::entry()).unwrap();
    asking(rows, cache, |cache, key| cache.get(key.as_str()).is_some(), insert)
}

/// All ways, each with an empty cache of so many entries.
fn ways(rows: &'static Rows, entries: usize) -> Vec<(&'static str, Ask)> {
    let bytes = entries as u64 * rows.weight();
    let quick = quick_cache::sync::Cache::new(entries);
    let quick =
        asking(rows, quick, |it, key| it.get(key).is_some(), |it, key| it.insert(key, value()));
    let moka = moka::sync::Cache::new(entries as u64);
    let moka =
        asking(rows, moka, |it, key| it.get(key).is_some(), |it, key| it.insert(key, value()));
    let stretto = stretto::Cache::new(10 * entries, entries as i64).expect("its threads");
    let stretto = asking(
        rows,
        stretto,
        |it, key| it.get(key).is_some(),
        |it, key| it.insert(key, value(), 1),
    );
    let over_stretto = StrettoCache::new(bytes, entries).expect("its threads");
    vec![
        ("zmsg", through(rows, QuickCache::new(bytes, entries))),
        ("zmsg over moka", through(rows, MokaCache::new(bytes))),
        ("zmsg over stretto", through(rows, over_stretto)),
        ("quick_cache", quick),
        ("moka", moka),
        ("stretto", stretto),
    ]
}

/// The share of hits of each way, in percent, at each capacity. Hashes are seeded anew each time, which is
/// what spreads the samples.
fn measure(figures: &mut Figures, name: &str, rows: usize, streams: &[Vec<u32>], each: &[usize]) {
    let rows = Rows::of(rows);
    for entries in each {
        let case = Case::new(name).at("entries", *entries as u64);
        let mut all: Vec<(&str, Vec<f64>)> = Vec::new();
        for stream in streams {
            for (place, (who, mut ask)) in ways(rows, *entries).into_iter().enumerate() {
                let hits = stream.iter().filter(|row| ask(**row as usize)).count();
                let share = 100.0 * hits as f64 / stream.len() as f64;
                match all.get_mut(place) {
                    Some((_, samples)) => samples.push(share),
                    None => all.push((who, vec![share])),
                }
            }
        }
        for (who, samples) in all {
            figures.record(&case, who, Unit::Percent, samples);
        }
    }
}

/// The pages of the trace in the order in which they were asked for, numbered from 0.
fn trace(path: &Path) -> Option<Vec<u32>> {
    let file = std::fs::File::open(path).ok()?;
    let lines = BufReader::new(zstd::Decoder::new(file).ok()?).lines();
    let (mut pages, mut asked) = (std::collections::HashMap::new(), Vec::new());
    for line in lines {
        let line = line.ok()?;
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let (start, count) = (numbers.next()?, numbers.next()?);
        for page in start..start + count {
            let next = u32::try_from(pages.len()).unwrap();
            asked.push(*pages.entry(page).or_insert(next));
        }
    }
    Some(asked)
}

fn main() {
    let Some(mut figures) = Figures::of("hit_ratio") else { return };
    let rounds = if is_quick() { 1 } else { 7 };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(TRACE);
    match trace(&path) {
        None => figures.left_out("the trace OLTP", "it is not beside the repository"),
        Some(asked) => {
            let asked = if is_quick() { asked[..50_000].to_vec() } else { asked };
            let rows = 1 + asked.iter().max().map_or(0, |last| *last as usize);
            let streams = vec![asked; rounds];
            measure(&mut figures, "OLTP", rows, &streams, &[1_000, 2_000, 5_000, 10_000, 20_000]);
        }
    }
    for exponent in [0.8, 0.99] {
        let mut zipf = Zipf::new(KEYS, exponent);
        let requests = if is_quick() { 20_000 } else { REQUESTS };
        let mut stream = || (0..requests).map(|_| zipf.draw() as u32).collect();
        let streams: Vec<Vec<u32>> = (0..rounds).map(|_| stream()).collect();
        let name = format!("Zipf {exponent} of 100,000 keys");
        measure(&mut figures, &name, KEYS, &streams, &[1_000, 5_000, 20_000]);
    }
}
