//! What the command takes, and what it says.

use zmsg::sql;
use zmsg_testbed::private::{PostgresOptions, PrivatePostgres};

use super::{admin, admin_does};
use crate::servers::Servers;
use crate::support::{DEADLINE, eventually};

#[tokio::test]
async fn a_database_that_is_not_named_clearly_is_refused() {
    for (words, variables, part) in [
        (vec!["migrate", "status"], vec![], "which database?"),
        (vec!["migrate", "status", "--url", "a.db"], vec![], "no backend for a path alone"),
        (
            vec!["nodes", "list"],
            vec![("ZMSG_URL", "mysql://app:s3cret@db/x")],
            "no backend for mysql",
        ),
        (
            vec!["dead-letters", "list", "--url", "sqlite:a.db", "--config", "zmsg.yaml"],
            vec![],
            "give one",
        ),
        (
            vec!["nodes", "list", "--config", "x.yaml"],
            vec![("ZMSG_URL", "sqlite:a.db")],
            "give one",
        ),
        (vec!["nodes", "list", "--config", "/nowhere/x.yaml"], vec![], "/nowhere/x.yaml"),
        (vec!["nodes", "list", "--url", "sqlite:/nowhere/a.db"], vec![], "no database at /nowhere"),
        (
            vec!["migrate", "status", "--url", "postgres://app:s3cret@127.0.0.1/x"],
            vec![("ZMSG__STORE__PASSWORD", "other")],
            "store.password: is given more than once",
        ),
        (
            vec!["distrust-filters", "--url", "postgres://app:s3cret@127.0.0.1:1/x"],
            vec![],
            "could not open the database",
        ),
    ] {
        let said = admin(&words, &variables).await;
        assert!(!said.ok && said.err.contains(part), "{words:?}: {}{}", said.out, said.err);
        assert!(!said.err.contains("s3cret"), "{}", said.err);
    }
}

#[tokio::test]
async fn a_password_comes_from_the_environment_or_the_file_of_an_engine() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new()) else { return };
    let (url, password) = (server.url(), server.password());
    let bare = url.replacen(&format!(":{password}@"), "@", 1);
    assert!(!bare.contains(password), "{bare}");
    let status = ["migrate", "status", "--url", &bare];
    let without = admin(&status, &[]).await;
    assert!(!without.ok, "the server asks for it");
    for name in ["PGPASSWORD", "ZMSG__STORE__PASSWORD"] {
        let with = admin(&status, &[(name, password)]).await;
        assert!(with.ok && with.out.contains("pending"), "{name}: {}", with.err);
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("zmsg.yaml"), folder.path().join("password"));
    std::fs::write(&secret, format!("{password}\n")).unwrap();
    let text = format!("store:\n  url: {bare}\n  password_file: {}\n", secret.display());
    std::fs::write(&file, text).unwrap();
    let up = admin_does(&["migrate", "up", "--config", file.to_str().unwrap()]).await;
    assert!(up.contains("applied: ") && up.contains("zmsg_filter"), "{up}");
    let status = admin_does(&["migrate", "status", "--config", file.to_str().unwrap()]).await;
    assert!(!status.contains("pending"), "{status}");
}

#[tokio::test]
async fn the_file_of_an_engine_names_an_embedded_database_in_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zmsg.yaml");
    let directory = folder.path().join("data");
    std::fs::write(&file, format!("directory: {}\n", directory.display())).unwrap();
    let config = file.to_str().unwrap();
    let up = admin_does(&["migrate", "up", "--config", config]).await;
    assert!(up.contains("applied: ") && directory.join("zmsg.db").is_file(), "{up}");
    assert!(admin_does(&["nodes", "list", "--config", config]).await.contains("no node is held"));
    let none = admin_does(&["distrust-filters", "--config", config]).await;
    assert!(none.ends_with(" 0\n"), "{none}");
    let down = admin_does(&["migrate", "down", "--config", config, "--steps", "99"]).await;
    assert!(down.contains("taken back: ") && down.contains("zmsg_filter"), "{down}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_listed_and_freed_and_an_engine_goes_on_with_unique_ids() {
    let Some(servers) = Servers::ready().await else { return };
    let zmsg = servers.node().await;
    let (url, number) = (servers.database.url(), zmsg.stats().await.ids.node.unwrap().to_string());
    let before = zmsg.next_id("feed").await.unwrap();
    let listed = admin_does(&["nodes", "list", "--url", url]).await;
    let held = format!("zmsg  {number}  ");
    assert!(listed.starts_with(&held) && listed.contains("  epoch 1  "), "{listed}");
    assert!(listed.contains(&format!("process {}", std::process::id())), "{listed}");
    assert!(!listed.contains("FAR AHEAD"), "{listed}");

    let ceiling = "SELECT max(ceiling_ms) FROM zmsg_node";
    let reserved = zmsg.sql_exec(sql(ceiling, ())).await.unwrap().rows[0].int(0).unwrap();
    let freed = admin_does(&["nodes", "free", "--url", url, "zmsg", &number]).await;
    assert!(freed.starts_with("freed"), "{freed}");
    let kept = zmsg.sql_exec(sql(ceiling, ())).await.unwrap().rows[0].int(0).unwrap();
    assert!(kept >= reserved, "the ceiling stays");
    eventually("the engine has leased a node again", async || {
        admin_does(&["nodes", "list", "--url", url]).await.starts_with("zmsg  ")
    })
    .await;
    assert_ne!(zmsg.next_id("feed").await.unwrap(), before);
    for (cluster, node) in [("zmsg", "1023"), ("other", "0")] {
        let free = admin(&["nodes", "free", "--url", url, cluster, node], &[]).await;
        assert!(!free.ok && free.err.contains("nobody holds node"), "{}", free.err);
    }
    let _ = zmsg.close(DEADLINE).await.unwrap();
}
