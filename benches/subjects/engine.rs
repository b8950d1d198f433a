//! Calls of an engine on its embedded default, without a journal.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use tokio::runtime::Runtime;
use zmsg::{Config, JournalMode, Zmsg, counter, sql};
use zmsg_benches::ready;

use super::{Call, KEYS, Names, value};

/// How often each key is read before hits are counted.
const PASSES: usize = 64;
/// Longer than this measures.
const NEVER: Duration = Duration::from_secs(86_400);

struct Engine {
    zmsg: Zmsg,
    /// Of one thread, which runs whatever a call starts.
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Engine {
    fn open() -> Self {
        let (dir, mut builder) =
            (tempfile::tempdir().unwrap(), tokio::runtime::Builder::new_current_thread());
        let runtime = builder.enable_all().build().unwrap();
        let mut config = Config::embedded(dir.path());
        config.cache.ttl = NEVER;
        config.cache.local_ttl = NEVER;
        config.periodic.journal = JournalMode::Off;
        config.periodic.interval = NEVER;
        config.periodic.age_max = NEVER;
        config.periodic.ops_max = u64::MAX;
        // More ids in a millisecond than are asked for: no call waits for the next one.
        (config.ids.time_bits, config.ids.node_bits, config.ids.sequence_bits) = (40, 1, 22);
        let zmsg = runtime.block_on(Zmsg::open(config)).unwrap();
        Self { zmsg, runtime, _dir: dir }
    }

    fn cache(&self, name: &str) {
        let _ = ready(self.zmsg.cache_only(name, value()).into_future()).unwrap();
    }

    /// Rows that a source serves under any number.
    fn with_rows(self) -> Self {
        self.runtime.block_on(async {
            for text in [
                "CREATE TABLE rows (id INTEGER PRIMARY KEY, data TEXT NOT NULL)",
                "INSERT INTO rows WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n \
                 WHERE i < 999) SELECT i, printf('%0256d', i) FROM n",
            ] {
                self.zmsg.sql_exec(sql(text, ()).no_keys()).await.unwrap();
            }
        });
        let by_key = "SELECT data FROM rows WHERE id = CAST(substr(?, 5) AS INTEGER) % 1000";
        self.zmsg.source("row", by_key).unwrap();
        self
    }
}

pub(super) fn hit() -> Call {
    let (engine, mut names) = (Engine::open(), Names::new(KEYS));
    names.all.iter().for_each(|name| engine.cache(name));
    // The thread has then made its copies of what it reads often.
    for name in std::iter::repeat_n(&names.all, PASSES).flatten() {
        assert!(ready(engine.zmsg.get(name)).unwrap().is_some());
    }
    Box::new(move || {
        let found = ready(engine.zmsg.get(black_box(names.next()))).unwrap();
        assert!(found.is_some());
    })
}

/// Of rows that nobody has asked for.
pub(super) fn miss() -> Call {
    let (engine, mut name, mut row) = (Engine::open().with_rows(), String::new(), 0_u32);
    Box::new(move || {
        row += 1;
        name.clear();
        write!(name, "row_{row}").unwrap();
        let found = engine.runtime.block_on(engine.zmsg.get(&name)).unwrap();
        assert!(found.is_some());
    })
}

pub(super) fn cache_only() -> Call {
    let (engine, mut names, value) = (Engine::open(), Names::new(KEYS), value());
    Box::new(move || {
        let write = engine.zmsg.cache_only(names.next(), value.clone());
        let _ = ready(write.into_future()).unwrap();
    })
}

pub(super) fn periodic() -> Call {
    periodic_of(None)
}

pub(super) fn periodic_with_value() -> Call {
    periodic_of(Some(value()))
}

fn periodic_of(value: Option<bytes::Bytes>) -> Call {
    let (engine, mut names) = (Engine::open(), Names::new(KEYS));
    Box::new(move || {
        let id = names.next();
        let operation = counter("counts", "n").inc(1).where_eq("id", id);
        let write = engine.zmsg.cache_and_periodic_store(id, value.clone(), operation);
        let _ = ready(write.into_future()).unwrap();
    })
}

pub(super) fn next_id() -> Call {
    let engine = Engine::open();
    Box::new(move || {
        let _ = black_box(ready(engine.zmsg.ids().next()).unwrap());
    })
}

pub(super) fn next_id_as_text() -> Call {
    let engine = Engine::open();
    Box::new(move || {
        let _ = black_box(ready(engine.zmsg.next_id("feed")).unwrap());
    })
}
