//! The file: how it is opened, and what statements may not do to it.

use std::path::PathBuf;

use zmsg_core::{ErrorKind, Statement};
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore, Step, Synchronous};

use crate::sqlite::Sqlite;

async fn pragma(store: &SqliteStore, name: &str) -> zmsg_core::Value {
    let query = Statement::query(format!("PRAGMA {name}"), vec![]);
    store.execute(&query).await.unwrap().rows[0].values()[0].clone()
}

#[tokio::test]
async fn the_file_is_in_wal_mode_synced_and_checked() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    assert_eq!(pragma(&store, "journal_mode").await, "wal".into());
    assert_eq!(pragma(&store, "synchronous").await, 2.into());
    assert_eq!(pragma(&store, "foreign_keys").await, 1.into());
    assert_eq!(pragma(&store, "trusted_schema").await, 0.into());
    store.close().await.unwrap();
    let normal = SqliteOptions { synchronous: Synchronous::Normal, ..file.options() };
    assert_eq!(pragma(&SqliteStore::open(normal).await.unwrap(), "synchronous").await, 1.into());
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_its_log_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let file = Sqlite::fresh();
    let store = file.store().await;
    store.execute(&Statement::new("CREATE TABLE t (v)", vec![])).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{suffix}", file.path().display()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn closing_leaves_one_whole_file() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    store.execute(&Statement::new("CREATE TABLE t (v)", vec![])).await.unwrap();
    store.close().await.unwrap();
    let wal = PathBuf::from(format!("{}-wal", file.path().display()));
    assert!(!wal.exists(), "the log was written back");
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let file = Sqlite::fresh();
    let open = |path: PathBuf| SqliteStore::open(SqliteOptions::new(path));
    let no_folder = open(file.path().join("deeper/zmsg.db")).await.unwrap_err();
    assert_eq!(no_folder.kind(), ErrorKind::InvalidConfig);
    assert!(no_folder.to_string().contains("deeper"), "{no_folder}");
    for no_file in [":memory:", ""] {
        assert_eq!(open(no_file.into()).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    std::fs::write(file.path(), "this is no database, and long enough to see that".repeat(99))
        .unwrap();
    assert_eq!(open(file.path()).await.unwrap_err().kind(), ErrorKind::Corrupted);
}

#[tokio::test]
async fn statements_cannot_weaken_the_connection_or_leave_the_file() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    let elsewhere = file.path().with_file_name("elsewhere.db");
    let attach = format!("ATTACH '{}' AS other", elsewhere.display());
    for text in [
        "PRAGMA foreign_keys = OFF",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "PRAGMA trusted_schema = ON",
        "PRAGMA busy_timeout = 0",
        "EXPLAIN COMMIT",
        "DETACH main",
        "UPDATE sqlite_schema SET sql = ''",
        "SELECT load_extension('x')",
        attach.as_str(),
    ] {
        let statement = Statement::new(text, vec![]);
        let outcomes = [
            store.execute(&statement).await.map(drop),
            store.fetch(&statement).await.map(drop),
            store
                .execute_all(vec![Step::any(statement.clone())])
                .await
                .map(drop)
                .map_err(|it| it.error),
        ];
        for outcome in outcomes {
            let kind = outcome.map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::InvalidInput), "{text}");
        }
    }
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn foreign_keys_are_enforced() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    for table in ["CREATE TABLE a (id INTEGER PRIMARY KEY)", "CREATE TABLE b (a REFERENCES a (id))"]
    {
        store.execute(&Statement::new(table, vec![])).await.unwrap();
    }
    let orphan = Statement::new("INSERT INTO b VALUES (1)", vec![]);
    assert_eq!(store.execute(&orphan).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn data_that_only_a_running_statement_can_judge_is_invalid_data() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    for text in ["SELECT json_extract('{', '$.a')", "SELECT abs(-9223372036854775808)"] {
        let error = store.fetch(&Statement::query(text, vec![])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}: {error}");
    }
}

#[tokio::test]
async fn a_prepared_statement_follows_the_schema() {
    let file = Sqlite::fresh();
    let store = file.store().await;
    let run = async |text: &str| store.execute(&Statement::new(text, vec![])).await;
    let all = Statement::query("SELECT * FROM t", vec![]);
    run("CREATE TABLE t (a INTEGER)").await.unwrap();
    run("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(store.fetch(&all).await.unwrap()[0].columns(), ["a"]);
    run("ALTER TABLE t ADD COLUMN b INTEGER DEFAULT 2").await.unwrap();
    for _ in 0..4 {
        let rows = store.fetch(&all).await.unwrap();
        assert_eq!(
            (rows[0].columns(), rows[0].int(1).unwrap()),
            (&["a".into(), "b".into()][..], 2)
        );
    }
    run("DROP TABLE t").await.unwrap();
    for _ in 0..4 {
        assert_eq!(store.fetch(&all).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
