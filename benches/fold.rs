//! Folding a thousand operations of one column into one.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use zmsg_aggregate::Fold;
use zmsg_core::{CounterOp, MapOp, Number, OpKind, SliceOp};

const OPERATIONS: u64 = 1_000;

/// A name, and the n-th operation.
type Case = (&'static str, fn(u64) -> OpKind);

fn fold(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold/1,000 operations");
    group.throughput(Throughput::Elements(OPERATIONS));
    let cases: [Case; 3] = [
        ("counter, add one", |_| OpKind::Counter(CounterOp::Inc(Number::Int(1)))),
        ("slice, append", |n| OpKind::Slice(SliceOp::Add(vec![json!(n)]))),
        ("map, set one of ten keys", |n| {
            OpKind::Map(MapOp::Set(format!("user_{}", n % 10), json!(n)))
        }),
    ];
    for (name, operation) in cases {
        let operations: Vec<OpKind> = (0..OPERATIONS).map(operation).collect();
        group.bench_function(name, |b| b.iter(|| fold_all(black_box(&operations))));
    }
    group.finish();
}

fn fold_all(operations: &[OpKind]) -> Option<Fold> {
    operations
        .iter()
        .map(|kind| Fold::of(kind).expect("a small operation"))
        .reduce(|folded, next| folded.then(next).expect("operations that compose"))
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = fold }
criterion_main!(benches);
