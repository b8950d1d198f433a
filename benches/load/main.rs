//! Puts the engine under the load that a file describes, and tells what the calls took.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use zmsg_benches::load::{Backend, Engine, Memory, Places, Report, Workload, run};

/// Puts zmsg under load and tells what the calls took.
#[derive(Debug, Parser)]
struct Args {
    /// A workload: `benches/workloads` has some to copy
    file: PathBuf,
    /// Only read the workload, and say what it works on: `embedded` or `servers`
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match load(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn load(args: &Args) -> Result<()> {
    let workload = Workload::load(&args.file)?;
    let backend = match workload.backend {
        Backend::Embedded => "embedded",
        Backend::Servers => "servers",
    };
    if args.check {
        println!("{backend}");
        return Ok(());
    }
    let places = Places::of(&workload)?;
    println!("{}: {backend}, {} rows", args.file.display(), workload.keys.rows);
    let engine = Engine::open(&workload, places.as_ref()).await?;
    let (warm_up, duration) = (workload.warm_up.as_secs_f64(), workload.duration.as_secs_f64());
    println!("warm-up for {warm_up} s, then {duration} s that are measured");
    let calls = engine.clone();
    let measured = run(&workload, move |call| calls.clone().call(call)).await;
    println!("{}", Report { workload: &workload, measured: &measured });
    if let Some(memory) = Memory::now() {
        println!("memory: {memory}");
    }
    let differences = engine.finish(&measured).await?;
    if !workload.verify {
        return Ok(());
    }
    differences.iter().for_each(|difference| eprintln!("difference: {difference}"));
    if !differences.is_empty() {
        bail!("the store does not hold what was written");
    }
    println!("every write that was accepted is in the store, once");
    Ok(())
}
