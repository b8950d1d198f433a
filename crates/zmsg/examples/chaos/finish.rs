//! The last process on a directory: it drains, closes, and shows what is in the tables.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use zmsg::aggregate::DeadLetters;
use zmsg::core::Statement;
use zmsg::store::SqlStore;
use zmsg::{DeadLetterId, Zmsg, open_store};

use crate::args::Args;
use crate::batch;
use crate::engine::{self, DEADLINE};
use crate::report::line;

/// How long the queue may take to be empty: leases of killed workers have to end first.
const DRAINED_WITHIN: Duration = Duration::from_secs(20);

/// Dead letters that are shown of each route.
const LETTERS_MAX: usize = 100_000;

pub(crate) async fn run(args: &Args, zmsg: Zmsg) -> Result<()> {
    for dir in std::iter::once(&args.dir).chain(&args.adopt).filter(|dir| batch::is_in(dir)) {
        for letter in batch::drain(args, dir, &zmsg).await? {
            line(format_args!("T dead {}", one_line(&letter)));
        }
    }
    drained(&zmsg).await?;
    let store = open_store(&engine::config(args), &TaskTracker::new()).await?;
    let effects = fields(&*store, "SELECT id, CAST(n AS TEXT) FROM effects ORDER BY id").await?;
    for row in &effects {
        check_read(&zmsg, row).await?;
        line(format_args!("T effect {}", row.join(" ")));
    }
    let shared = "SELECT id, CAST(n AS TEXT), CAST(tags AS TEXT), CAST(later AS TEXT), \
                  CAST(marks AS TEXT) FROM shared ORDER BY id";
    for row in fields(&*store, shared).await? {
        // Lists and maps of numbers: what is between their elements says nothing.
        let row: Vec<String> = row.into_iter().map(|field| field.replace(' ', "")).collect();
        line(format_args!("T shared {}", row.join(" ")));
    }
    let delivered = "SELECT CAST(op AS TEXT) FROM delivered ORDER BY place, stream, seq";
    for row in fields(&*store, delivered).await? {
        line(format_args!("T delivered {}", row.join(" ")));
    }
    for row in fields(&*store, "SELECT id FROM victims ORDER BY id").await? {
        line(format_args!("T victim {}", row.join(" ")));
    }
    for letter in letters(&zmsg, &store).await? {
        line(format_args!("T dead {letter}"));
    }
    let closed = zmsg.close(DEADLINE).await?;
    ensure!(closed.is_clean(), "the engine did not close cleanly: {closed:?}");
    let rows = fields(&*store, "SELECT CAST(count(*) AS TEXT) FROM zmsg_ledger").await?;
    line(format_args!("T ledger {}", rows[0].join(" ")));
    store.close().await?;
    line(format_args!("Z"));
    Ok(())
}

/// What is in the table is seen through the engine, whatever its filter says.
async fn check_read(zmsg: &Zmsg, row: &[String]) -> Result<()> {
    let [id, n] = row else { bail!("a row of another shape: {row:?}") };
    let found = zmsg.get(id).await?;
    if found.as_deref() != Some(n.as_bytes()) {
        line(format_args!("W {id} is {n} in its table and is read as {found:?}"));
    }
    Ok(())
}

async fn drained(zmsg: &Zmsg) -> Result<()> {
    let begun = Instant::now();
    loop {
        zmsg.flush().await?;
        let queue = zmsg.stats().await.queue.context("the queue could not be asked")?;
        if queue.pending + queue.leased == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < DRAINED_WITHIN, "the queue does not become empty: {queue:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn fields(store: &dyn SqlStore, query: &str) -> Result<Vec<Vec<String>>> {
    let rows = store.fetch(&Statement::query(query, Vec::new())).await?;
    let field = |value: &zmsg::Value| {
        let bytes = value.to_bytes().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let shown = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let values = rows.iter().map(|row| row.values().iter().map(|it| shown(field(it))).collect());
    Ok(values.collect())
}

/// The keys of what is in the dead letters, and why it is there.
async fn letters(zmsg: &Zmsg, store: &Arc<dyn SqlStore>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (letters, mut after) = (DeadLetters::new(Arc::clone(store)), None);
    loop {
        let page = letters.list(after, LETTERS_MAX).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for letter in &page {
            let keys: Vec<String> = letter.keys.iter().map(ToString::to_string).collect();
            found.push(one_line(&format!("{} {}", keys.join(","), letter.cause)));
        }
    }
    for letter in zmsg.dead_letters().list(LETTERS_MAX).await? {
        if let DeadLetterId::Delayed(_) = letter.id {
            // Its kind, its key, and the statements.
            let key = letter.summary.split(' ').nth(1).unwrap_or_default().trim_end_matches(':');
            found.push(one_line(&format!("{key} {}", letter.cause)));
        }
    }
    Ok(found)
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
