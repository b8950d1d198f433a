//! The failpoints of this process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Signal, getpid, kill_process};

use crate::args::Args;
use crate::report;

/// Sets what the command line says.
pub(crate) fn set(args: &Args) -> Result<()> {
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
