//! The shared PostgreSQL server of the tests, and a database for each of them.

use std::process;
use std::thread;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Config, NoTls};

use crate::random;
use crate::required::{POSTGRES_URL, Requirement, variable};
use crate::url;

/// How long creating or dropping a database may take on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// The PostgreSQL server of `ZMSG_TEST_POSTGRES_URL`; `None`, said once, where there is none.
///
/// # Panics
/// If there is none and `ZMSG_TEST_REQUIRE` names `postgres`.
#[must_use]
pub fn postgres() -> Option<Postgres> {
    let found = variable(POSTGRES_URL);
    if found.is_none() {
        Requirement::Postgres.leave_out(&format!("{POSTGRES_URL} is not set"));
    }
    found.map(Postgres::at)
}

/// A PostgreSQL server that all tests share: each works in a database of its own.
#[derive(Debug, Clone)]
pub struct Postgres {
    url: String,
}

impl Postgres {
    /// A server at this URL, whose user may create databases.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// Where it is, with its password and the database that is there from the start.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates an empty database, dropped again with the returned value.
    ///
    /// # Panics
    /// If the server does not create it within a minute.
    pub async fn database(&self) -> Database {
        let name = format!("zmsg_test_{}_{}", process::id(), random::hex(6));
        // Nobody can be connected to template0, so that creations do not get in each other's way.
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
        let created = timeout(BOUND, execute(&self.url, &create)).await;
        created
            .unwrap_or_else(|_| panic!("no database within {BOUND:?}"))
            .unwrap_or_else(|error| panic!("could not create a database: {error:?}"));
        Database { url: url::with_database(&self.url, &name), server: self.url.clone(), name }
    }
}

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    url: String,
    server: String,
    name: String,
}

impl Database {
    /// Where it is, with the password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL as it is through another address, that of a proxy or a pooler.
    #[must_use]
    pub fn url_at(&self, address: std::net::SocketAddr) -> String {
        url::with_address(&self.url, &address.to_string())
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    /// Drops the database, whoever is connected. A server that is gone has taken it along.
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let server = self.server.clone();
        // A thread with a runtime of its own: the caller may stand inside one or not.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let _ = runtime.block_on(async { timeout(BOUND, execute(&server, &drop)).await });
        });
        let _ = dropped.join();
    }
}

async fn execute(url: &str, statement: &str) -> Result<(), tokio_postgres::Error> {
    let mut config: Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::select! {
        done = client.batch_execute(statement) => done,
        // The connection ends first only with an error, which the statement then reports too.
        ended = connection => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_is_fresh_and_gone_again_after_its_test() {
        let Some(server) = postgres() else { return };
        let database = server.database().await;
        execute(database.url(), "CREATE TABLE t (id int)").await.unwrap();
        let other = server.database().await;
        execute(other.url(), "CREATE TABLE t (id int)").await.unwrap();

        let url = database.url().to_owned();
        drop(database);
        let error = execute(&url, "SELECT 1").await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("3D000"), "{error:?}");
    }
}
