//! A disk that fails while a transaction is being committed.

use std::process::{Command, Stdio};

use zmsg_core::{Error, ErrorKind, ErrorStatus, Statement, Value};
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore};

use crate::sqlite::Sqlite;

/// Where the child finds its file; without it, the child's test has nothing to do.
const FILE: &str = "ZMSG_STORE_DISK_FILE";

#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_fails_at_the_commit_leaves_the_outcome_unknown_and_loses_nothing() {
    let file = Sqlite::fresh();
    let table = Statement::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)", vec![]);
    let store = file.store().await;
    store.execute(&table).await.unwrap();
    store.close().await.unwrap();

    // No file of the child may grow beyond 1,000 blocks of 512 bytes: its writes fail then.
    let limited = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite_disk::writes_until_the_disk_fails", "--nocapture"])
        .env(FILE, file.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let shown = String::from_utf8(output.stdout).unwrap();
    let told = shown.lines().find_map(|line| line.split_once("acknowledged ")).unwrap().1;
    let acknowledged: i64 = told.parse().unwrap();
    assert!(acknowledged > 10);

    let store = file.store().await;
    let ids = Statement::query("SELECT id FROM t ORDER BY id", vec![]);
    let rows = store.fetch(&ids).await.unwrap();
    let found: Vec<i64> = rows.iter().map(|row| row.int(0).unwrap()).collect();
    assert!(found.starts_with(&(0..acknowledged).collect::<Vec<_>>()), "{found:?}");
}

/// The child: writes rows that are as long as they are many, until one fails.
#[tokio::test]
async fn writes_until_the_disk_fails() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
    let mut acknowledged = 0_i64;
    let error: Error = loop {
        let row: Vec<Value> = vec![acknowledged.into(), vec![7_u8; 10_000].into()];
        match store.execute(&Statement::new("INSERT INTO t VALUES (?, ?)", row)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    let said = (error.kind(), error.status());
    assert_eq!(said, (ErrorKind::Unavailable, ErrorStatus::OutcomeUnknown), "{error}");
    let count = Statement::query("SELECT count(*) FROM t", vec![]);
    assert_eq!(store.fetch(&count).await.unwrap()[0].int(0).unwrap(), acknowledged);
    println!("\nacknowledged {acknowledged}");
}
