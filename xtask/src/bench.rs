//! `cargo xtask bench`: every target beside its peers, and what the figures say.

pub(crate) mod analyse;
mod chart;
mod criterion;
mod figures;
mod machine;
mod pairs;
pub(crate) mod report;
mod results;
mod statistics;
mod table;
mod targets;

use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use self::results::Results;
use crate::services::{Install, Services};

/// What to measure, and what to do with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only show that everything works: seconds for each target, as the tests are compiled, and no
    /// figure that is worth anything
    #[arg(long)]
    quick: bool,
    /// Only targets whose names contain this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Keep the results under this name
    #[arg(long, value_name = "NAME", default_value = "latest")]
    save: String,
    /// Compare with the results that were kept under this name
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Install servers with the package manager, if there is no other way
    #[arg(long)]
    install: bool,
    /// Name the targets, and measure nothing
    #[arg(long)]
    list: bool,
}

/// Measures, keeps the results, and shows them beside the peers' and the baseline's. A target that fails
/// costs no other: the results say so, and are kept after each.
///
/// # Errors
/// If a target does not build or failed, there is no way to get the servers, or the baseline is not
/// there.
pub(crate) fn run(args: &Args) -> Result<()> {
    let names = targets::names(&args.only)?;
    ensure!(!names.is_empty(), "no target is called so: `cargo xtask bench --list` names them");
    if args.list {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let baseline = args.baseline.as_deref().map(Results::load).transpose()?;
    let targets = targets::build(&names, args.quick)?;
    let services = Services::up_durable(Install::wanted(args.install))?;
    let mut results = Results::begin(machine::facts(&services)?, args.quick)?;
    let (bar, mut failed) = (bar(targets.len() as u64), Vec::new());
    for target in &targets {
        bar.set_message(target.name.clone());
        let found = target.measure(&services, args.quick, |line| {
            bar.suspend(|| println!("  {line}"));
        });
        match found {
            Ok((figures, left_out)) => results.add(figures, left_out),
            Err(error) => {
                results.failed(&target.name, &error);
                failed.push(target.name.as_str());
            }
        }
        results.save(&args.save)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let path = results.save(&args.save)?;
    println!("\n{}", table::peers(&results));
    if let Some(baseline) = &baseline {
        println!("{}", table::baseline(&results, baseline));
    }
    println!("{}\nkept in {}", table::machine(&results), path.display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn bar(targets: u64) -> ProgressBar {
    let bar = ProgressBar::new(targets);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
