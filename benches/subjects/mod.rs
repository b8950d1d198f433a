//! The calls whose costs are counted instead of timed: what `allocations` and `instructions` share.
//!
//! Each is made with what it needs and nothing else, on one thread: counts are then the same in every run.

mod engine;
mod parts; // without an engine
mod peers;

/// Makes one call.
pub(crate) type Call = Box<dyn FnMut()>;

/// What is called, by whose means, and how to get ready for it.
pub(crate) struct Subject {
    pub(crate) what: &'static str,
    pub(crate) who: &'static str,
    prepare: fn() -> Call,
}

impl Subject {
    /// The call, made so often that everything is there which is kept from one to the next.
    pub(crate) fn warm(&self) -> Call {
        let mut call = (self.prepare)();
        (0..8 * KEYS).for_each(|_| call());
        call
    }
}

pub(crate) const SUBJECTS: [Subject; 21] = [
    of("get, hit in L1", "zmsg", engine::hit),
    of("get, hit in L1", "quick_cache", peers::quick_get),
    of("get, hit in L1", "moka", peers::moka_get),
    of("get, row from SQLite", "zmsg", engine::miss),
    of("cache_only", "zmsg", engine::cache_only),
    of("cache_only", "quick_cache", peers::quick_insert),
    of("cache_only", "moka", peers::moka_insert),
    of("cache_and_periodic_store, no value", "zmsg", engine::periodic),
    of("cache_and_periodic_store, a value", "zmsg", engine::periodic_with_value),
    of("next id", "zmsg", engine::next_id),
    of("next id", "uuid v7", peers::uuid),
    of("next id, as text", "zmsg", engine::next_id_as_text),
    of("next id, as text", "uuid v7", peers::uuid_as_text),
    of("build an insert", "zmsg", parts::insert),
    of("build an upsert", "zmsg", parts::upsert),
    of("build a counter operation", "zmsg", parts::operation),
    of("fold a counter", "zmsg", parts::fold_counter),
    of("fold a map of ten keys", "zmsg", parts::fold_map),
    of("append to a log", "zmsg", parts::append),
    of("check of a filter", "zmsg", parts::check),
    of("check of a filter", "fastbloom", peers::fastbloom_check),
];

const fn of(what: &'static str, who: &'static str, prepare: fn() -> Call) -> Subject {
    Subject { what, who, prepare }
}

/// As many as there are different keys before they repeat.
const KEYS: usize = 256;
/// Keys that a filter holds.
const KEYS_OF_FILTER: usize = 10_000;

fn value() -> bytes::Bytes {
    bytes::Bytes::from(vec![7; 256])
}

/// Names that take turns.
struct Names {
    all: Vec<String>,
    next: usize,
}

impl Names {
    fn new(count: usize) -> Self {
        let name = |number| zmsg_benches::key(number).as_str().to_owned();
        Self { all: (0..count).map(name).collect(), next: 0 }
    }

    fn next(&mut self) -> &str {
        self.next = if self.next + 1 == self.all.len() { 0 } else { self.next + 1 };
        &self.all[self.next]
    }
}
