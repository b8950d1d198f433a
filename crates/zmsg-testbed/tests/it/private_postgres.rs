//! A private PostgreSQL, killed, restarted and paused.

use std::time::Duration;

use tokio_postgres::{Client, Error, NoTls};
use zmsg_testbed::private::{PoolMode, PostgresOptions, PrivatePgbouncer, PrivatePostgres};

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    tasks.detach_all();
    Ok(client)
}

async fn number(client: &Client, query: &str) -> Result<i64, Error> {
    client.query_one(query, &[]).await?.try_get(0)
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_and_a_restart_on_the_same_port() {
    let options = PostgresOptions::new().setting("max_connections", "20");
    let Some(server) = PrivatePostgres::start(options) else { return };
    let client = connect(&server.url()).await.unwrap();
    client.batch_execute("CREATE TABLE t (n bigint); INSERT INTO t VALUES (7)").await.unwrap();
    assert_eq!(
        number(&client, "SELECT setting::bigint FROM pg_settings WHERE name = 'max_connections'")
            .await
            .unwrap(),
        20
    );

    server.kill();
    assert!(!server.is_running());
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(connect(&server.url()).await.is_err());

    server.restart();
    let client = connect(&server.url()).await.unwrap();
    assert_eq!(number(&client, "SELECT n FROM t").await.unwrap(), 7);
    assert!(server.log().contains("automatic recovery in progress"), "{}", server.log());

    server.stop();
    server.restart();
    let client = connect(&server.url()).await.unwrap();
    assert_eq!(number(&client, "SELECT n FROM t").await.unwrap(), 7);
}

#[tokio::test]
async fn a_paused_server_answers_nothing_on_open_connections_until_it_goes_on() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new()) else { return };
    let client = connect(&server.url()).await.unwrap();
    assert_eq!(number(&client, "SELECT 1::bigint").await.unwrap(), 1);
    server.pause();
    let mut asked = std::pin::pin!(number(&client, "SELECT 2::bigint"));
    let bound = Duration::from_millis(200);
    assert!(tokio::time::timeout(bound, &mut asked).await.is_err());
    server.resume();
    assert_eq!(asked.await.unwrap(), 2);
}

#[tokio::test]
async fn only_who_knows_the_password_gets_in_and_the_data_goes_with_the_value() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new().durable()) else { return };
    let url = server.url().replace(server.password(), "wrong");
    let refused = connect(&url).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("28P01"), "{refused:?}");
    let client = connect(&server.url()).await.unwrap();
    let fsync = client.query_one("SHOW fsync", &[]).await.unwrap();
    assert_eq!(fsync.get::<_, &str>(0), "on");

    let data = server.data();
    assert!(data.exists());
    drop(server);
    assert!(!data.exists() && !data.parent().unwrap().exists());
    assert!(client.batch_execute("SELECT 1").await.is_err());
}

#[tokio::test]
async fn through_the_pooler_two_clients_share_one_connection_by_transaction() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new()) else { return };
    let settings = ["default_pool_size = 1"];
    let pooler = PrivatePgbouncer::start(&server, PoolMode::Transaction, &settings);
    let Some(pooler) = pooler else { return };
    let (one, two) = (connect(&pooler.url()).await.unwrap(), connect(&pooler.url()).await.unwrap());
    let process = |client: Client| async move {
        let rows = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
        rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    };
    let (one, two) = (process(one).await, process(two).await);
    assert!(one.is_some() && one == two, "{one:?} {two:?}");
}
