//! The engine under load: opened, with its rows, and what each kind of call does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tempfile::TempDir;
use zmsg::{Config, Error, JournalMode, Source, Sql, Zmsg, counter, sql};

use super::measure::{Failure, Measured};
use super::mix::{Call, Kind};
use super::workload::{Backend, Workload, WorkloadError};
use super::written;

/// Where PostgreSQL is, unless the workload says it: the variable that the tests use too.
const POSTGRES_URL: &str = "ZMSG_TEST_POSTGRES_URL";
/// Where Redis is.
const REDIS_URL: &str = "ZMSG_TEST_REDIS_URL";
/// Rows that one statement makes.
const ROWS_AT_ONCE: usize = 10_000;
/// How long the engine may take to close.
const TO_CLOSE: Duration = Duration::from_secs(60);

/// The servers of a run.
#[derive(Clone)]
pub struct Places {
    /// Where PostgreSQL is, with the database.
    pub postgres: String,
    /// Where Redis is.
    pub redis: String,
}

impl std::fmt::Debug for Places {
    /// Without the addresses: they may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

impl Places {
    /// The servers that the workload names, or else the environment; `None` if it wants none.
    ///
    /// # Errors
    /// If it wants servers and one is not named.
    pub fn of(workload: &Workload) -> Result<Option<Self>, WorkloadError> {
        Self::among(workload, |variable| std::env::var(variable).ok())
    }

    fn among(
        workload: &Workload,
        environment: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, WorkloadError> {
        if workload.backend == Backend::Embedded {
            return Ok(None);
        }
        let place = |given: &Option<String>, field, variable| {
            let found = given.clone().or_else(|| environment(variable));
            found.filter(|url| !url.is_empty()).ok_or(WorkloadError::NoServer { field, variable })
        };
        let servers = &workload.servers;
        Ok(Some(Self {
            postgres: place(&servers.postgres, "servers.postgres", POSTGRES_URL)?,
            redis: place(&servers.redis, "servers.redis", REDIS_URL)?,
        }))
    }

    /// The name of the database: engines on one database share a namespace in Redis, those on others
    /// must not.
    fn database(&self) -> &str {
        let path = self.postgres.split_once("://").map_or("", |(_, rest)| rest);
        let name = path.split_once('/').map_or("", |(_, name)| name);
        name.split('?').next().filter(|name| !name.is_empty()).unwrap_or("postgres")
    }
}

/// An engine with a table of its own, whose rows the calls are about.
#[derive(Debug, Clone)]
pub struct Engine {
    zmsg: Zmsg,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Held for its end.
    _directory: TempDir,
    /// The table, and the first part of its keys.
    name: String,
    rows: usize,
    value: Bytes,
    text: String,
    delay: Duration,
    store: String,
    queue: String,
}

impl Engine {
    /// Opens it on these servers, or embedded without any, and makes the rows.
    ///
    /// # Errors
    /// If the engine does not open, or the rows cannot be made.
    pub async fn open(workload: &Workload, places: Option<&Places>) -> Result<Self> {
        let directory = tempfile::tempdir().context("could not make a temporary directory")?;
        let mut config = Config::embedded(directory.path());
        if let Some(places) = places {
            config.store.url.clone_from(&places.postgres);
            config.redis.url = Some(places.redis.clone());
            config.redis.namespace = format!("zmsg-load-{}", places.database());
        }
        if !workload.journal {
            config.periodic.journal = JournalMode::Off;
        }
        let zmsg = Zmsg::open(config.clone()).await.context("could not open the engine")?;
        let name = format!("load{:08x}", fastrand::u32(..));
        let text = "x".repeat(workload.keys.value_bytes);
        let count = |column: &str| {
            format!("UPDATE {name} SET data = ?, {column} = {column} + 1 WHERE id = ?")
        };
        let shared = Shared {
            config,
            _directory: directory,
            rows: workload.keys.rows,
            value: Bytes::from(text.clone()),
            text,
            delay: workload.delay,
            store: count("stored"),
            queue: count("queued"),
            name,
        };
        let engine = Self { zmsg, shared: Arc::new(shared) };
        engine.fill().await.context("could not make the rows")?;
        Ok(engine)
    }

    async fn fill(&self) -> zmsg::Result<()> {
        let Shared { name, rows, text, .. } = &*self.shared;
        let create = format!(
            "CREATE TABLE {name} (id TEXT PRIMARY KEY, data TEXT NOT NULL, \
             stored BIGINT NOT NULL DEFAULT 0, queued BIGINT NOT NULL DEFAULT 0, \
             hits BIGINT NOT NULL DEFAULT 0)"
        );
        self.zmsg.sql_exec(sql(create, ())).await?;
        for first in (0..*rows).step_by(ROWS_AT_ONCE) {
            let last = (first + ROWS_AT_ONCE).min(*rows) - 1;
            // Both databases understand it.
            let insert = format!(
                "INSERT INTO {name} (id, data) WITH RECURSIVE numbers(i) AS \
                 (SELECT {first} UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}) \
                 SELECT '{name}_' || i, '{text}' FROM numbers"
            );
            self.zmsg.sql_exec(sql(insert, ())).await?;
        }
        let source = Source::sql(name.clone(), format!("SELECT data FROM {name} WHERE id = ?"));
        // By these the membership filter knows which rows are there.
        self.zmsg.register(source.keys(format!("SELECT id FROM {name}")))
    }

    /// The engine itself.
    pub fn zmsg(&self) -> &Zmsg {
        &self.zmsg
    }

    /// Makes a call, and gives the bytes of its values.
    ///
    /// # Errors
    /// If the engine gives an error, or reads what is not there or not what is.
    pub async fn call(self, call: Call) -> Result<u64, Failure> {
        let Self { zmsg, shared } = &self;
        let key = shared.key(call.row);
        let value = || shared.value.clone();
        let write = match call.kind {
            Kind::Get => return found(zmsg.get(key).await?),
            Kind::GetMany => {
                let keys = call.others.iter().map(|row| shared.key(*row)).chain([key]);
                let all = zmsg.get_many(keys).await?.into_iter();
                return all.map(|one| found(one?)).sum();
            }
            Kind::GetAbsent => {
                return match zmsg.get(shared.key(shared.rows + call.row)).await? {
                    None => Ok(0),
                    Some(_) => Err(Failure::of("found what is not there")),
                };
            }
            Kind::NextId => return Ok(zmsg.next_id("msg").await.map(|_| 0)?),
            Kind::CacheOnly => zmsg.cache_only(key, value()),
            Kind::Del => zmsg.del(key),
            // Of no source: the engine's own table.
            Kind::Put => zmsg.put(format!("own{key}"), value()),
            Kind::CacheAndStore => {
                let update = shared.update(&shared.store, &key);
                zmsg.cache_and_store(key, value(), update)
            }
            Kind::CacheAndDelayStore => {
                let update = shared.update(&shared.queue, &key);
                zmsg.cache_and_delay_store(key, value(), update).delay(shared.delay)
            }
            Kind::CacheAndPeriodicStore => {
                let hit = counter(&shared.name, "hits").inc(1).where_eq("id", &key);
                zmsg.cache_and_periodic_store(key, None, hit)
            }
        };
        let _ = write.await?;
        Ok(match call.kind {
            Kind::Del | Kind::CacheAndPeriodicStore => 0,
            _ => shared.value.len() as u64,
        })
    }

    /// Closes the engine and opens it anew, as the next start would; waits until the queue is empty, and
    /// compares the store with what was written. Then the table is gone.
    ///
    /// # Errors
    /// If it does not close or open, or the queue does not become empty.
    pub async fn finish(self, measured: &Measured) -> Result<Vec<String>> {
        let Self { zmsg, shared } = self;
        let closed = zmsg.close(TO_CLOSE).await.context("could not close the engine")?;
        drop(zmsg);
        let zmsg = Zmsg::open(shared.config.clone()).await.context("could not open it anew")?;
        written::drained(&zmsg).await?;
        let mut differences = written::differences(&zmsg, &shared.name, measured).await?;
        if !closed.is_clean() {
            differences.push(format!("closing left something behind: {closed:?}"));
        }
        zmsg.sql_exec(sql(format!("DROP TABLE {}", shared.name), ())).await?;
        let _ = zmsg.close(TO_CLOSE).await?;
        Ok(differences)
    }
}

impl Shared {
    fn key(&self, row: usize) -> String {
        format!("{}_{row}", self.name)
    }

    fn update(&self, statement: &str, key: &str) -> Sql {
        sql(statement, (self.text.as_str(), key))
    }
}

fn found(value: Option<Bytes>) -> Result<u64, Failure> {
    value.map(|value| value.len() as u64).ok_or_else(|| Failure::of("a row was not found"))
}

impl Failure {
    /// A failure of a bare client, or of what was read, that did nothing.
    pub fn of(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), is_unknown: false }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { kind: format!("{:?}", error.kind()), is_unknown: error.is_outcome_unknown() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run;
    use super::*;

    fn workload(backend: &str, rest: &str) -> Workload {
        let text = format!(
            "backend = '{backend}'\nduration_s = 0.05\nverify = true\n{rest}\n[closed]\ntasks = 4\n[keys]\nrows = 20\n"
        );
        let mix = "[mix]\nget = 4\nget_many = 1\nget_absent = 1\nnext_id = 1\ncache_only = 1\ndel = 1\nput = 1\n\
                   cache_and_store = 1\ncache_and_delay_store = 1\ncache_and_periodic_store = 4\n";
        Workload::parse(&(text + mix)).unwrap()
    }

    #[tokio::test]
    async fn every_kind_of_call_does_what_it_should_and_every_write_is_in_the_store() {
        let workload = workload("embedded", "delay_ms = 1");
        let engine = Engine::open(&workload, None).await.unwrap();
        let calls = engine.clone();
        let measured = run(&workload, move |call| calls.clone().call(call)).await;
        assert_eq!(measured.failures(), [""; 0]);
        assert_eq!(engine.finish(&measured).await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn a_write_that_nobody_counted_is_noticed() {
        let workload = workload("embedded", "");
        let engine = Engine::open(&workload, None).await.unwrap();
        let measured = Measured::from(tokio::time::Instant::now());
        for kind in [Kind::CacheAndStore, Kind::CacheAndPeriodicStore] {
            engine.clone().call(Call { kind, row: 3, others: vec![] }).await.unwrap();
        }
        let differences = engine.finish(&measured).await.unwrap();
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[0].contains("cache_and_store"), "{differences:?}");
    }

    #[test]
    fn a_server_that_nobody_names_is_asked_for() {
        let wanted = workload("servers", "[servers]\nredis = 'redis://h'");
        let environment = |variable| (variable == REDIS_URL).then(|| "redis://other".to_owned());
        let error = Places::among(&wanted, environment).unwrap_err().to_string();
        assert!(error.contains("`servers.postgres`") && error.contains(POSTGRES_URL), "{error}");

        let environment = |_| Some("postgres://u:p@h:1/app?sslmode=disable".to_owned());
        let places = Places::among(&wanted, environment).unwrap().unwrap();
        assert_eq!((places.redis.as_str(), places.database()), ("redis://h", "app"));
        assert!(Places::among(&workload("embedded", ""), |_| None).unwrap().is_none());
    }
}
