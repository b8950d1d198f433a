//! What a process that never came back left in its journal.

use std::path::Path;

use anyhow::{Context, Result, bail};
use zmsg::{Config, JournalMode, Zmsg};

/// Opens an engine beside those that run, for as long as it takes.
pub(crate) async fn run(directory: &Path, config: &Path) -> Result<()> {
    let mut config = Config::load(config)?;
    if config.store.url.starts_with("sqlite:") {
        bail!(
            "an embedded engine recovers its own directory when it is opened: start the application, \
             or `feed --directory`, on {}",
            directory.display()
        );
    }
    // A node of its own, which writes nothing else.
    config.directory = std::env::temp_dir().join(format!("zmsg-adopt-{}", std::process::id()));
    config.periodic.journal = JournalMode::Off;
    let zmsg = Zmsg::open(config).await.context("could not open an engine on the servers")?;
    let adopted = zmsg.adopt(directory).await;
    let _ = zmsg.close(None).await?;
    let adopted = adopted?;
    println!(
        "streams: {}, operations: {}, of them kept as dead letters: {}",
        adopted.streams, adopted.ops, adopted.dead_lettered
    );
    Ok(())
}
