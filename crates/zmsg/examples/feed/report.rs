//! What the run did and how long it took.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use zmsg::{CloseReport, Stats};

use crate::expected::Expected;
use crate::input::Stream;
use crate::latency::Latencies;

pub(crate) fn print(
    stream: &Stream,
    expected: &Expected,
    latencies: &Latencies,
    stats: &Stats,
    closed: &CloseReport,
    elapsed: Duration,
) {
    println!("{}", calls(latencies));
    println!("{}", tiers(stats));
    brief(stream, expected, elapsed);
    println!(
        "periodic route: {} operations accepted, {} statements issued while it ran, {} flushes; {} operations flushed at close",
        expected.periodic_ops, stats.periodic.statements, stats.periodic.flushes, closed.flushed,
    );
    let store = &stats.store;
    println!(
        "database: {} writes accepted on all routes, {} statements in {} commits",
        expected.writes, store.statements, store.commits,
    );
    println!(
        "close: {} tasks left in the queue for the next start; {} reads came before their deferred write",
        closed.queued, expected.late_reads,
    );
}

/// The stream and how long it took; what the servers made difficult, if they did.
pub(crate) fn brief(stream: &Stream, expected: &Expected, elapsed: Duration) {
    println!(
        "{} messages ({} malformed lines), {} users, {} directed pairs, {} conversations in {:.2?}: {:.0} messages/s",
        stream.messages.len(),
        stream.malformed,
        stream.users(),
        stream.directed_pairs(),
        expected.conversations.len(),
        elapsed,
        stream.messages.len() as f64 / elapsed.as_secs_f64(),
    );
    if expected.retries + expected.degraded > 0 {
        println!(
            "servers: {} calls repeated, {} writes that the shared cache was told of later",
            expected.retries, expected.degraded,
        );
    }
}

fn calls(latencies: &Latencies) -> Table {
    let mut table = table(["call", "count", "p50", "p99", "max"]);
    for (call, histogram) in &latencies.0 {
        table.add_row([
            (*call).to_owned(),
            histogram.len().to_string(),
            nanos(histogram.value_at_quantile(0.5)),
            nanos(histogram.value_at_quantile(0.99)),
            nanos(histogram.max()),
        ]);
    }
    align(&mut table);
    table
}

fn tiers(stats: &Stats) -> Table {
    let cache = &stats.cache;
    let mut table = table(["reads answered by", "count"]);
    for (tier, count) in [
        ("L1", cache.l1_hits),
        ("L1, known absent", cache.negative_hits),
        ("L2", cache.l2_hits),
        ("filter, absent", cache.absent_by_filter),
        ("source", cache.loads),
        ("another caller's load", cache.coalesced),
    ] {
        table.add_row([tier.to_owned(), count.to_string()]);
    }
    align(&mut table);
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn nanos(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        n if n < 1_000.0 => format!("{n:.0} ns"),
        n if n < 1_000_000.0 => format!("{:.1} µs", n / 1_000.0),
        n => format!("{:.2} ms", n / 1_000_000.0),
    }
}
