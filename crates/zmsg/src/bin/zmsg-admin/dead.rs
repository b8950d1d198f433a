//! Dead letters: what the database refused for good.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Subcommand;
use zmsg::core::SystemClock;
use zmsg::queue::{SqlQueueOptions, SqlTaskQueue};
use zmsg::store::SqlStore;
use zmsg::{BehindFilters, DeadLetterId, DeadLetters};

use crate::database::{Database, behind_filters};

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Show the oldest dead letters.
    List {
        #[command(flatten)]
        database: Database,
        /// How many of each route.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try one again: a periodic one now, a delayed one by its queue's next worker.
    Retry {
        #[command(flatten)]
        database: Database,
        /// As listed: periodic:UUID or delayed:UUID.
        id: DeadLetterId,
    },
    /// Drop one for good.
    Drop {
        #[command(flatten)]
        database: Database,
        /// As listed: periodic:UUID or delayed:UUID.
        id: DeadLetterId,
    },
}

pub(crate) async fn run(action: Dead) -> Result<()> {
    match action {
        Dead::List { database, limit } => {
            let opened = database.open().await?;
            list(&letters(&opened.store)?, limit).await?;
            opened.close().await
        }
        Dead::Retry { database, id } => {
            let opened = database.open_to_write(false).await?;
            found(retry(&opened.store, id).await?, id)?;
            println!("tried again: {id}");
            opened.close().await
        }
        Dead::Drop { database, id } => {
            let opened = database.open_to_write(false).await?;
            found(letters(&opened.store)?.drop(id).await?, id)?;
            println!("dropped: {id}");
            opened.close().await
        }
    }
}

fn letters(store: &Arc<dyn SqlStore>) -> Result<DeadLetters> {
    let clock = Arc::new(SystemClock);
    let queue = SqlTaskQueue::new(Arc::clone(store), clock, SqlQueueOptions::default())?;
    Ok(DeadLetters::of(Arc::clone(store), Arc::new(queue)))
}

async fn list(letters: &DeadLetters, limit: usize) -> Result<()> {
    let listed = letters.list(limit).await?;
    if listed.is_empty() {
        println!("no dead letters");
    }
    for letter in listed {
        println!("{}  {}  {}  {}", letter.id, letter.at, letter.summary, letter.cause);
    }
    Ok(())
}

async fn retry(store: &Arc<dyn SqlStore>, id: DeadLetterId) -> Result<bool> {
    match id {
        DeadLetterId::Periodic(_) => {
            let behind: Arc<dyn SqlStore> = Arc::new(BehindFilters::new(Arc::clone(store)));
            let letters = letters(&behind)?;
            behind_filters(store, async { Ok(letters.retry(id).await?) }).await
        }
        // The worker that takes it is an engine's, and tells its filter.
        DeadLetterId::Delayed(_) => Ok(letters(store)?.retry(id).await?),
    }
}

fn found(found: bool, id: DeadLetterId) -> Result<()> {
    if !found {
        bail!("there is no dead letter {id}");
    }
    Ok(())
}
