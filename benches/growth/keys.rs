//! A hit in L1, by how many keys it holds.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use zmsg_benches::{Case, Figures, Unit};

use crate::caches::{Caches, Names};

const KEYS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Different lookups before they repeat: so many that what they touch is in no cache of the processor,
/// where the keys are as many.
const LOOKUPS: usize = 1 << 20;
/// What the most keys take, twice over: another machine may not have it.
const MEMORY_BYTES: u64 = 6 << 30;

pub(crate) fn measure(figures: &mut Figures) {
    for &keys in crate::points(&KEYS) {
        if keys > 1_000_000 && available_bytes().is_some_and(|bytes| bytes < MEMORY_BYTES) {
            figures
                .left_out("get in L1 with 10,000,000 keys", "less than 6 GiB of memory are free");
            continue;
        }
        let (runtime, dir) = (zmsg_benches::runtime(), tempfile::tempdir().unwrap());
        let caches = runtime.block_on(Caches::filled(dir.path(), keys));
        let mut random = fastrand::Rng::with_seed(7);
        let names = Names::drawn(LOOKUPS, || random.u64(..keys));
        figures.turns(
            &Case::new("get in L1, uniform").at("keys", keys),
            Unit::Nanoseconds,
            &mut [
                ("zmsg", &mut || lookups(&names, |key| caches.zmsg(key))),
                ("quick_cache", &mut || lookups(&names, |key| caches.quick(key))),
            ],
        );
        let _ = runtime.block_on(caches.zmsg.close(None)).unwrap();
    }
}

/// Nanoseconds of one lookup.
fn lookups(names: &Names, get: impl Fn(&str) -> Option<Bytes>) -> f64 {
    let began = Instant::now();
    for at in 0..names.len() {
        assert!(get(black_box(names.get(at))).is_some(), "each is a hit");
    }
    began.elapsed().as_nanos() as f64 / names.len() as f64
}

/// What the system could give to a process; `None` where it does not say.
fn available_bytes() -> Option<u64> {
    let facts = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
