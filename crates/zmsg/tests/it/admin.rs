//! Administration beside engines: `zmsg-admin`, and what it does about filters that nodes share.

mod behind;
mod command;
mod queue;

use std::path::Path;
use std::sync::Arc;

use tokio::process::Command;
use tokio_util::task::TaskTracker;
use zmsg::bloom::FilterState;
use zmsg::core::Statement;
use zmsg::store::SqlStore;
use zmsg::{Config, Presence, Zmsg, open_store};

use crate::support::eventually;

/// What a run of the command said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

/// Runs `zmsg-admin` with variables of its own and none of ours.
async fn admin(words: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmsg-admin"));
    command.args(words).env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    Said {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn admin_does(words: &[&str]) -> String {
    let said = admin(words, &[]).await;
    assert!(said.ok, "{words:?}: {}{}", said.out, said.err);
    said.out
}

/// The database of a configuration, beside the engines that are open on it.
async fn beside(config: &Config) -> Arc<dyn SqlStore> {
    open_store(config, &TaskTracker::new()).await.unwrap()
}

async fn run(store: &dyn SqlStore, text: impl Into<String>) {
    store.execute(&Statement::new(text, vec![])).await.unwrap();
}

/// The shared filter of a node is trusted, and rules keys out that no row has.
async fn trusted(zmsg: &Zmsg) {
    eventually("the shared filter is trusted", async || {
        let ready = zmsg.stats().await.filter.state == FilterState::Ready;
        ready && zmsg.db_hit("feed_never").await.unwrap() == Presence::Absent
    })
    .await;
}

/// Every row that is committed when this asks; none of them may be absent.
async fn no_row_is_absent(zmsg: &Zmsg, store: &dyn SqlStore) -> usize {
    let rows = store.fetch(&Statement::query("SELECT id FROM feeds", vec![])).await.unwrap();
    for row in &rows {
        let id = row.text(0).unwrap();
        assert_ne!(zmsg.db_hit(id).await.unwrap(), Presence::Absent, "{id}");
    }
    rows.len()
}

/// Scripts that insert `rows` feeds each.
fn scripts(dir: &Path, scripts: u32, rows: u32) {
    for script in 0..scripts {
        let values: Vec<_> =
            (0..rows).map(|row| format!("('feed_m{script}_{row}', 'm')")).collect();
        let text = format!("INSERT INTO feeds (id, data) VALUES {};", values.join(", "));
        std::fs::write(dir.join(format!("{}_rows.sql", script + 2)), text).unwrap();
    }
}
