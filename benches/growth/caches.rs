//! An engine whose L1 holds every key, and a bare cache that holds the same.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use zmsg::{Config, Zmsg};
use zmsg_benches::ready;

/// Small, so that many fit into memory.
const VALUE: [u8; 16] = [7; 16];
/// What L1 counts an entry of these with, and a third more: no shard of it is full before the others.
const ENTRY_BYTES: u64 = 256;

/// Both, filled with as many keys.
pub(crate) struct Caches {
    pub(crate) zmsg: Zmsg,
    quick: quick_cache::sync::Cache<Box<str>, Bytes>,
}

impl Caches {
    /// Each has a copy of its own of every value, as caches have that are filled over time.
    pub(crate) async fn filled(dir: &Path, keys: u64) -> Self {
        let mut config = Config::embedded(dir);
        // No entry ends while this measures.
        config.cache.ttl = Duration::from_secs(86_400);
        config.cache.local_ttl = Duration::from_secs(86_400);
        config.cache.local_bytes_max.0 = (64 << 20) + keys * ENTRY_BYTES;
        let zmsg = Zmsg::open(config).await.unwrap();
        let quick = quick_cache::sync::Cache::new((keys + keys / 4 + 4_096) as usize);
        let mut name = String::new();
        for key in 0..keys {
            name.clear();
            push_name(&mut name, key);
            let _ = zmsg.cache_only(&name, Bytes::copy_from_slice(&VALUE)).await.unwrap();
            quick.insert(name.as_str().into(), Bytes::copy_from_slice(&VALUE));
        }
        Self { zmsg, quick }
    }

    pub(crate) fn zmsg(&self, key: &str) -> Option<Bytes> {
        ready(self.zmsg.get(key)).unwrap()
    }

    pub(crate) fn quick(&self, key: &str) -> Option<Bytes> {
        self.quick.get(key)
    }
}

/// Names of one length, side by side: to read the next one costs the same however many there are.
pub(crate) struct Names(String);

const NAME_BYTES: usize = "feed_00000000".len();

fn push_name(text: &mut String, key: u64) {
    use std::fmt::Write as _;
    write!(text, "feed_{key:08}").unwrap();
}

impl Names {
    /// So many, of the keys that `draw` gives.
    pub(crate) fn drawn(count: usize, mut draw: impl FnMut() -> u64) -> Self {
        let mut text = String::with_capacity(count * NAME_BYTES);
        (0..count).for_each(|_| push_name(&mut text, draw()));
        Self(text)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() / NAME_BYTES
    }

    /// The `at`-th; behind the last comes the first.
    pub(crate) fn get(&self, at: usize) -> &str {
        let first = at % self.len() * NAME_BYTES;
        &self.0[first..first + NAME_BYTES]
    }
}
