//! A million increments while everything goes wrong with the server that can.

use std::time::Duration;

use zmsg_core::Statement;
use zmsg_sqlbuilder::counter;
use zmsg_testbed::private::{PostgresOptions, PrivatePostgres};
use zmsg_testbed::{Postgres, Proxy, Repeat};

use crate::server::Server;

const MANY: usize = 1_000_000;
const FAULTS: usize = 60;

const STORM: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_increments_are_counted_once_whatever_happens_to_the_server() {
    let starting = tokio::task::spawn_blocking(|| PrivatePostgres::start(PostgresOptions::new()));
    let Some(private) = starting.await.unwrap() else { return };
    let server = Server::on(&Postgres::at(private.url())).await;
    let proxy = Proxy::before(server.database.url());
    let node = server.node(&proxy.url(server.database.url())).await;
    proxy.swallow_answer("COMMIT\0", Repeat::Every(7));
    let mut random = fastrand::Rng::with_seed(11);
    let private = std::sync::Arc::new(private);
    let (mut kills, mut storms) = (0, 0);
    for turn in 1..=MANY {
        let id = random.i64(1..=100);
        node.submit(counter("counts", "n").inc(1).where_eq("id", id));
        if turn % (MANY / FAULTS) != 0 {
            continue;
        }
        match random.u8(0..10) {
            0 | 1 => {
                kills += 1;
                let (private, stops) = (std::sync::Arc::clone(&private), random.bool());
                let again = move || {
                    if stops {
                        private.stop()
                    } else {
                        private.kill()
                    }
                    private.restart();
                };
                tokio::task::spawn_blocking(again).await.unwrap();
            }
            2..=4 => {
                storms += 1;
                let _ = server.store.execute(&Statement::query(STORM, vec![])).await;
            }
            5 | 6 => proxy.cut_answer_after(random.usize(1..300)),
            7 => proxy.reset_all(),
            _ => {}
        }
        // Time for flushes between two faults.
        tokio::time::sleep(TURN).await;
    }
    proxy.swallow_nothing();
    node.finish().await;
    assert_eq!(server.total().await, i64::try_from(MANY).unwrap());
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
    let swallowed = proxy.counts().swallowed;
    assert!(kills > 3 && storms > 3 && swallowed > 10, "{kills}, {storms}, {swallowed}");
}

const TURN: Duration = Duration::from_millis(30);
