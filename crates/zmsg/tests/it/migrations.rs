//! `load_dir(..).migrate()` in the engine; the runner has its own suite.

use crate::support::Engine;

#[tokio::test]
async fn a_directory_is_migrated_once_and_rolled_back() {
    let engine = Engine::open().await;
    let schema = tempfile::tempdir().unwrap();
    let first = schema.path().join("1_posts");
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("up.sql"), "CREATE TABLE posts (id TEXT);").unwrap();
    std::fs::write(first.join("down.sql"), "DROP TABLE posts;").unwrap();
    let dir = engine.zmsg.load_dir(schema.path());
    dir.migrate().await.unwrap();
    dir.migrate().await.unwrap();
    assert_eq!(engine.count("SELECT count(*) FROM posts").await, 0);
    assert_eq!(dir.status().await.unwrap().len(), 1);
    dir.rollback(1).await.unwrap();
    let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'posts'";
    assert_eq!(engine.count(tables).await, 0);
}

#[tokio::test]
async fn an_edited_file_is_refused_by_name() {
    let engine = Engine::open().await;
    let schema = tempfile::tempdir().unwrap();
    let file = schema.path().join("1_posts.sql");
    std::fs::write(&file, "CREATE TABLE posts (id TEXT);").unwrap();
    let dir = engine.zmsg.load_dir(schema.path());
    dir.migrate().await.unwrap();
    std::fs::write(&file, "CREATE TABLE posts (id TEXT, extra TEXT);").unwrap();
    let error = dir.migrate().await.unwrap_err().to_string();
    assert!(error.contains("posts"), "{error}");
}
