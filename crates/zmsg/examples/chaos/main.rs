//! The process that `cargo xtask chaos` kills: an engine under a mix of writes that reports each one.
//!
//! Lines on stdout, each in one piece: `R` the engine is open, everything earlier recovered;
//! `S OP KIND ROW` a write is about to be made; `A OP` it was acknowledged, as durable as its route
//! promises; `E OP ERROR` it was not, `N OP` it was refused; `I ID` an id was given out; `K POINT`
//! killed at a failpoint; `C` the engine is closed. With `--finish` the process drains, checks what its caches and
//! its filter say, closes, and shows the tables: `T TABLE FIELDS…`, and `Z` at their end. `W` tells of a read that
//! was wrong.
//!
//! What the writes do stands in `write.rs`; those of a batch queue, whose log is its own, in `batch.rs`.

mod args;
mod engine; // how it is configured
mod work;
mod write;
mod batch;
mod points;
mod parent;
mod finish;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Args, Mix};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    parent::follow()?;
    points::set(&args)?;
    if args.create {
        return engine::create(&args).await;
    }
    let zmsg = engine::open(&args).await?;
    for orphan in &args.adopt {
        zmsg.adopt(orphan).await?;
    }
    if args.finish {
        report::line(format_args!("R"));
        return finish::run(&args, zmsg).await;
    }
    match args.mix {
        Mix::Batch => {
            let queue = batch::open(&args, &args.dir, &zmsg).await?;
            report::line(format_args!("R"));
            batch::run(&args, queue).await?;
        }
        _ => {
            report::line(format_args!("R"));
            work::run(&args, &zmsg).await;
        }
    }
    let _ = zmsg.close(engine::DEADLINE).await?;
    report::line(format_args!("C"));
    Ok(())
}
