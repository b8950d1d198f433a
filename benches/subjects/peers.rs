//! The same calls of peers.

use std::hint::black_box;

use bytes::Bytes;
use uuid::Uuid;

use super::{Call, KEYS, KEYS_OF_FILTER, Names, value};

fn quick() -> quick_cache::sync::Cache<String, Bytes> {
    quick_cache::sync::Cache::new(16 * KEYS)
}

pub(super) fn quick_get() -> Call {
    let (cache, mut names) = (quick(), Names::new(KEYS));
    names.all.iter().for_each(|name| cache.insert(name.clone(), value()));
    Box::new(move || assert!(cache.get(black_box(names.next())).is_some()))
}

pub(super) fn quick_insert() -> Call {
    let (cache, mut names, value) = (quick(), Names::new(KEYS), value());
    Box::new(move || cache.insert(names.next().to_owned(), value.clone()))
}

fn moka() -> moka::sync::Cache<String, Bytes> {
    moka::sync::Cache::new(16 * KEYS as u64)
}

pub(super) fn moka_get() -> Call {
    let (cache, mut names) = (moka(), Names::new(KEYS));
    names.all.iter().for_each(|name| cache.insert(name.clone(), value()));
    cache.run_pending_tasks();
    Box::new(move || assert!(cache.get(black_box(names.next())).is_some()))
}

pub(super) fn moka_insert() -> Call {
    let (cache, mut names, value) = (moka(), Names::new(KEYS), value());
    Box::new(move || cache.insert(names.next().to_owned(), value.clone()))
}

pub(super) fn uuid() -> Call {
    Box::new(|| {
        black_box(Uuid::now_v7());
    })
}

pub(super) fn uuid_as_text() -> Call {
    Box::new(|| {
        black_box(Uuid::now_v7().to_string());
    })
}

pub(super) fn fastbloom_check() -> Call {
    let mut names = Names::new(KEYS_OF_FILTER);
    let filter = fastbloom::AtomicBloomFilter::with_false_pos(0.01).expected_items(KEYS_OF_FILTER);
    names.all.iter().for_each(|name| {
        filter.insert(name.as_str());
    });
    Box::new(move || assert!(filter.contains(black_box(names.next()))))
}
