//! The failpoints of this process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Signal, getpid, kill_process};

use crate::args::Args;
use crate::report;

/// Sets what the command line says.
pub(crate) fn set(args: &Args) -> Result<()> {
    for point in &args.watch {
        watch(point)?;
    }
    if let Some(bytes) = args.segment {
        configure("tune::segment_bytes", &format!("return({bytes})"))?;
    }
    if let Some(sabotage) = &args.sabotage {
        configure(&format!("sabotage::{sabotage}"), "return")?;
    }
    match &args.kill_at {
        Some(place) => kill_at(place),
        None => Ok(()),
    }
}

fn configure(point: &str, action: &str) -> Result<()> {
    fail::cfg(point, action).map_err(|error| anyhow!("{point}: {error}"))
}

/// Says once that a point was passed.
fn watch(point: &str) -> Result<()> {
    let (name, passed) = (point.to_owned(), AtomicBool::new(false));
    let pass = move || {
        if !passed.swap(true, Relaxed) {
            report::line(format_args!("N {name}"));
        }
    };
    fail::cfg_callback(point, pass).map_err(|error| anyhow!("{point}: {error}"))
}

/// Kills this process at the n-th time that it comes to a point.
fn kill_at(place: &str) -> Result<()> {
    let (point, hit) = place.rsplit_once(':').context("not POINT:HIT")?;
    let hit: u64 = hit.parse().context("not POINT:HIT")?;
    let (name, hits) = (point.to_owned(), AtomicU64::new(0));
    let strike = move || {
        if hits.fetch_add(1, Relaxed) + 1 == hit {
            report::line(format_args!("K {name}"));
            // Does not come back: nothing after the point happens.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    };
    fail::cfg_callback(point, strike).map_err(|error| anyhow!("{point}: {error}"))
}
