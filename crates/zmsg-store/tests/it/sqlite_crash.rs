//! A process that is killed while it writes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use zmsg_core::Statement;
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore, Step};

use crate::sqlite::Sqlite;

/// Where the child finds its file; without it, the child's test has nothing to do.
const FILE: &str = "ZMSG_STORE_CRASH_FILE";

/// How many acknowledgements the parent waits for before it kills.
const ACKNOWLEDGED: usize = 300;

#[test]
fn a_killed_process_loses_no_acknowledged_write() {
    let file = Sqlite::fresh();
    for round in 0..3 {
        let acknowledged = run_and_kill(&file);
        let (firsts, seconds) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(found(&file));
        assert_eq!(firsts, seconds, "round {round}: a transaction came back in part");
        let lost: Vec<_> = acknowledged.difference(&firsts).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
    }
}

/// Runs the child until it has acknowledged enough, and kills it with SIGKILL.
fn run_and_kill(file: &Sqlite) -> BTreeSet<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite_crash::writes_until_it_is_killed", "--nocapture"])
        .env(FILE, file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // What was in the pipe when the child died was acknowledged too.
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some(id) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("ack ")) {
            acknowledged.insert(id.to_owned());
        }
        if acknowledged.len() == ACKNOWLEDGED {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= ACKNOWLEDGED, "the child ended by itself");
    acknowledged
}

async fn found(file: &Sqlite) -> (BTreeSet<String>, BTreeSet<String>) {
    let store = file.store().await;
    let ids = async |table: &str| -> BTreeSet<String> {
        let query = Statement::query(format!("SELECT id FROM {table}"), vec![]);
        let rows = store.fetch(&query).await.unwrap();
        rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
    };
    let found = (ids("first").await, ids("second").await);
    let check = store.fetch(&Statement::query("PRAGMA integrity_check", vec![])).await.unwrap();
    assert_eq!(check[0].text(0).unwrap(), "ok");
    found
}

/// The child: many writers, each says what was acknowledged as soon as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = Arc::new(SqliteStore::open(SqliteOptions::new(path)).await.unwrap());
    for table in ["first", "second"] {
        let create = format!("CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY)");
        store.execute(&Statement::new(create, vec![])).await.unwrap();
    }
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            loop {
                let id = uuid::Uuid::now_v7().to_string();
                let insert = |table| {
                    let text = format!("INSERT INTO {table} VALUES (?)");
                    Step::any(Statement::new(text, vec![id.as_str().into()]))
                };
                store.execute_all(vec![insert("first"), insert("second")]).await.unwrap();
                writeln!(std::io::stdout(), "ack {id}").unwrap();
            }
        });
    }
    writers.join_next().await;
}
