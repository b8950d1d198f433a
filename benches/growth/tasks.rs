//! Hits in L1, by how many tasks ask at once.

use std::time::Duration;

use zmsg_benches::{Case, Figures, Unit, Zipf, is_quick, rate_in};

use crate::caches::{Caches, Names};

const TASKS: [u64; 6] = [1, 4, 16, 64, 256, 1_024];
const KEYS: u64 = 100_000;
const LOOKUPS: usize = 1 << 16;

/// A task lets others run after so many calls: a hit never waits, and one that asks for nothing else would
/// keep its thread for itself.
const CALLS_AT_ONCE: u64 = 32;

/// What all calls share, for as long as the process lives: a count of who refers to it would cost more
/// than the call.
struct Shared {
    caches: Caches,
    names: Names,
}

impl Shared {
    fn name(&self, task: u64, made: u64) -> &str {
        // Each task at another place of the same lookups.
        self.names.get((task * 7_919 + made) as usize)
    }
}

pub(crate) fn measure(figures: &mut Figures) {
    let (runtime, dir) = (zmsg_benches::runtime(), tempfile::tempdir().unwrap());
    let mut zipf = Zipf::new(KEYS as usize, 0.99);
    let names = Names::drawn(LOOKUPS, || zipf.draw() as u64);
    let caches = runtime.block_on(Caches::filled(dir.path(), KEYS));
    let shared: &'static Shared = Box::leak(Box::new(Shared { caches, names }));
    let round = Duration::from_millis(if is_quick() { 40 } else { 250 });
    for &tasks in crate::points(&TASKS) {
        let mut zmsg = || {
            runtime.block_on(rate_in(round, tasks, move |task, made| async move {
                let found = shared.caches.zmsg.get(shared.name(task, made)).await.unwrap();
                assert!(found.is_some(), "each is a hit");
                let_others_run(made).await;
            }))
        };
        let mut quick = || {
            runtime.block_on(rate_in(round, tasks, move |task, made| async move {
                assert!(shared.caches.quick(shared.name(task, made)).is_some(), "each is a hit");
                let_others_run(made).await;
            }))
        };
        let ways = &mut [("zmsg", &mut zmsg as _), ("quick_cache", &mut quick as _)];
        let case = Case::new("get in L1, zipf 0.99").at("tasks", tasks);
        figures.turns(&case, Unit::PerSecond, ways);
    }
    let _ = runtime.block_on(shared.caches.zmsg.close(None)).unwrap();
}

async fn let_others_run(made: u64) {
    if made.is_multiple_of(CALLS_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}
