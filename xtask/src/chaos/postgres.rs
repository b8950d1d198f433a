//! PostgreSQL of our own, which serves all runs, each in a database of its own; and its tables, read
//! past the engine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use zmsg_testbed::private::{PostgresOptions, PrivatePostgres};
use zmsg_testbed::{Database, Postgres};

use super::tables::Tables;

/// How long reading the tables may take.
const BOUND: Duration = Duration::from_secs(30);

/// A server that ends with the value.
#[derive(Debug)]
pub(super) struct Server {
    server: PrivatePostgres,
    runtime: Runtime,
}

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) fn start(programs: &Path) -> Result<Self> {
        let server = PrivatePostgres::launch(programs, &PostgresOptions::new())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { server, runtime })
    }

    /// An empty database, dropped with the returned value.
    pub(super) fn database(&self) -> Database {
        self.runtime.block_on(Postgres::at(self.server.url()).database())
    }

    /// What is in the tables.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn tables(&self, database: &Database) -> Result<Tables> {
        let read = async { tokio::time::timeout(BOUND, read(database.url())).await };
        self.runtime.block_on(read).context("the tables could not be read in time")?
    }
}

async fn read(url: &str) -> Result<Tables> {
    let config: Config = url.parse()?;
    let (client, connection) = config.connect(NoTls).await?;
    // It runs while the queries are waited for, which is all that it is for.
    tokio::runtime::Handle::current().spawn(connection);
    let mut tables = Tables::default();
    for (name, query) in [
        ("effect", "SELECT id, n FROM effects"),
        ("shared", "SELECT id, n, tags, later, marks FROM shared"),
        ("victim", "SELECT id FROM victims"),
        ("delivered", "SELECT op FROM delivered ORDER BY place, stream, seq"),
    ] {
        for row in rows(&client, query).await? {
            tables.take(&format!("{name} {}", row.join(" ")))?;
        }
    }
    Ok(tables)
}

async fn rows(client: &Client, query: &str) -> Result<Vec<Vec<String>>> {
    let messages = client.simple_query(query).await?;
    let fields = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let field = |at| row.get(at).map_or("-".to_owned(), |text| text.replace(' ', ""));
            Some((0..row.len()).map(field).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(fields).collect())
}
