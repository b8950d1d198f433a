//! The handle that applications hold: each method is a line to a collaborator.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zmsg_aggregate::Recovery;
use zmsg_core::{Error, ErrorKind, IntoTask, Key, Result};
use zmsg_idgen::{Id, IdGenerator};
use zmsg_sqlbuilder::{Sql, sql};

use crate::builder::Builder;
use crate::close::{CloseReport, Closing};
use crate::config::Config;
use crate::dead::DeadLetters;
use crate::migrate::SchemaDir;
use crate::payload::IntoBytes;
use crate::read::{Presence, Reader};
use crate::source::{Source, Sources};
use crate::stats::Stats;
use crate::upkeep::FilterUpkeep;
use crate::write::{Delayed, Outbox, Request, Route, SqlResult, Write, Writer};

/// The engine. Cloning the handle is one reference count; all clones are one engine.
///
/// Call [`close`](Self::close) before the process ends. If the last handle is merely dropped, the
/// background work stops by itself, with a last flush if the runtime lives long enough, and
/// nobody learns what was left.
#[derive(Debug, Clone)]
pub struct Zmsg {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) closed: AtomicBool,
    pub(crate) reader: Reader,
    pub(crate) writer: Arc<Writer>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) filter_upkeep: FilterUpkeep,
    pub(crate) ids: IdGenerator,
    pub(crate) closing: Arc<Closing>,
    pub(crate) recovery: Recovery,
    /// Where this engine keeps its journals; `None` if it has no directory.
    pub(crate) journals: Option<PathBuf>,
}

impl Zmsg {
    /// Opens the engine that `config` describes.
    ///
    /// # Errors
    /// `InvalidConfig` with every problem at once; `Conflict` if another engine has the
    /// directory open; what the backends say if they cannot be opened.
    pub async fn open(config: Config) -> Result<Self> {
        Self::builder(config).open().await
    }

    /// A builder, for parts of one's own: a store, a cache, a filter, a queue, a clock.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    // ---- reads -----------------------------------------------------------------------------

    /// The value of a key, or `None` if there is no such row.
    ///
    /// L1, then one flight per key through filter and L2 to the key's source. A hit in L1
    /// allocates nothing, takes no lock of ours and boxes no future; of a key that it reads often, a thread
    /// makes a copy for itself once a change, of up to 4 KiB.
    ///
    /// # Errors
    /// What the source says if it cannot be asked; `Overloaded` if too many already wait for
    /// this key; `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer; the load goes on for others who wait.
    pub async fn get(&self, key: impl AsRef<str>) -> Result<Option<Bytes>> {
        let key = key.as_ref();
        self.open_for_calls()?;
        if let Some(hit) = self.inner.reader.peek(key) {
            return Ok(hit);
        }
        let key = Key::new(key)?;
        // Boxed, so that the future of a hit stays small.
        Box::pin(self.inner.reader.miss(key)).await
    }

    /// The value of a key, decoded from JSON.
    ///
    /// # Errors
    /// As for [`get`](Self::get); `Corrupted` if the value is not the JSON of a `T`: the entry is
    /// then dropped from the caches, so that it cannot poison later reads.
    pub async fn get_as<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let key = key.as_ref();
        let Some(bytes) = self.get(key).await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(cause) => {
                self.inner.writer.applier.invalidate(&[Key::new(key)?]).await;
                Err(Error::new(ErrorKind::Corrupted, "the value is not what was asked for")
                    .with_context("key", key)
                    .with_context("type", std::any::type_name::<T>())
                    .with_source(cause))
            }
        }
    }

    /// Many keys at once: each answer stands where its key stood. There is no snapshot across
    /// keys.
    ///
    /// # Errors
    /// `InvalidInput` if a key is invalid; otherwise errors come per key.
    pub async fn get_many<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        self.open_for_calls()?;
        let keys = keys.into_iter().map(Key::new).collect::<Result<Vec<_>>>()?;
        Ok(self.inner.reader.get_many(keys).await)
    }

    /// The value of a key; on a miss `load` brings it, once for all who ask at the same time.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and what `load` says.
    ///
    /// # Cancel safety
    /// As for [`get`](Self::get): the load runs as a task of its own.
    ///
    /// "Absent" is cached as well, for `cache.negative_ttl`, whoever found it: a key is best read
    /// through one loader or one source, not both.
    pub async fn get_or_load<F, Fut>(&self, key: impl AsRef<str>, load: F) -> Result<Option<Bytes>>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        let key = key.as_ref();
        self.open_for_calls()?;
        if let Some(hit) = self.inner.reader.peek(key) {
            return Ok(hit);
        }
        Box::pin(self.inner.reader.get_or_load(Key::new(key)?, load)).await
    }

    /// Whether a row can exist, by the filter alone: possible, certainly not, or not known.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid key; what a shared filter says if it cannot be asked.
    pub async fn db_hit(&self, key: impl AsRef<str>) -> Result<Presence> {
        self.open_for_calls()?;
        self.inner.reader.presence(&Key::new(key)?).await
    }

    // ---- writes ----------------------------------------------------------------------------

    /// Writes a value to zmsg's own table and shows it: the store route.
    ///
    /// Durable in the database when it returns. A key that a source serves is refused: its reads
    /// would never see the value.
    pub fn put(&self, key: impl AsRef<str>, value: impl IntoBytes) -> Write<'_> {
        let value = value.into_bytes();
        let insert = self.own_row(key.as_ref()).map(|key| {
            sql("INSERT INTO zmsg_data (id, data) VALUES (?, ?)", (&key, &value))
                .on_conflict("id")
                .do_update("data")
        });
        match insert {
            Ok(insert) => self.write(Route::Store, key, Some(value), Some(insert)),
            Err(error) => Write::new(self, Err(error)),
        }
    }

    /// As [`put`](Self::put), with the value as JSON.
    pub fn put_as<T: Serialize>(&self, key: impl AsRef<str>, value: &T) -> Write<'_> {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.put(key, bytes),
            Err(cause) => Write::new(
                self,
                Err(Error::invalid_input("the value cannot be written as JSON")
                    .with_context("key", key.as_ref())
                    .with_source(cause)),
            ),
        }
    }

    /// Deletes a value that [`put`](Self::put) wrote.
    pub fn remove(&self, key: impl AsRef<str>) -> Write<'_> {
        let delete = self
            .own_row(key.as_ref())
            .map(|key| sql("DELETE FROM zmsg_data WHERE id = ?", (&key,)));
        match delete {
            Ok(delete) => self.write(Route::Store, key, None, Some(delete)),
            Err(error) => Write::new(self, Err(error)),
        }
    }

    /// Puts a value into the caches and nowhere else. No durability is promised.
    pub fn cache_only(&self, key: impl AsRef<str>, value: impl IntoBytes) -> Write<'_> {
        self.write(Route::CacheOnly, key, Some(value.into_bytes()), None::<Sql>)
    }

    /// Commits `task`, then shows `value`: the store route. Committed when it returns.
    pub fn cache_and_store(
        &self,
        key: impl AsRef<str>,
        value: impl IntoBytes,
        task: impl IntoTask,
    ) -> Write<'_> {
        self.write(Route::Store, key, Some(value.into_bytes()), Some(task))
    }

    /// Hands `task` to the task queue and shows `value` at once: the delayed route. As durable as
    /// the queue when it returns; in the tables after its [`delay`](Write::delay), exactly once.
    pub fn cache_and_delay_store(
        &self,
        key: impl AsRef<str>,
        value: impl IntoBytes,
        task: impl IntoTask,
    ) -> Write<'_> {
        let route = Route::Delay { deletes: false };
        self.write(route, key, Some(value.into_bytes()), Some(task))
    }

    /// Folds `task` into the buffer: the periodic route. In memory when it returns; in the tables
    /// at the next flush, exactly once. With a value, shows it at once; with `None` the cached
    /// row stays as it is until the flush invalidates it.
    pub fn cache_and_periodic_store(
        &self,
        key: impl AsRef<str>,
        value: Option<Bytes>,
        task: impl IntoTask,
    ) -> Write<'_> {
        self.write(Route::Periodic, key, value, Some(task))
    }

    /// Takes a key out of the caches. The row stays; the next read loads it.
    pub fn del(&self, key: impl AsRef<str>) -> Write<'_> {
        self.write(Route::CacheDel, key, None, None::<Sql>)
    }

    /// Commits `task`, which deletes the row, and takes the key out of the caches.
    pub fn del_store(&self, key: impl AsRef<str>, task: impl IntoTask) -> Write<'_> {
        self.write(Route::Store, key, None, Some(task))
    }

    /// Hands `task`, which deletes the row, to the task queue; reads see it gone at once.
    pub fn del_delay_store(&self, key: impl AsRef<str>, task: impl IntoTask) -> Write<'_> {
        self.write(Route::Delay { deletes: true }, key, None, Some(task))
    }

    /// A delayed write as a statement for a transaction of your own, through any driver: an outbox.
    /// The write and whatever else that transaction does are then one commit.
    ///
    /// `delay` is counted from when the statement runs; `None` takes the configured one. Where the
    /// queue is in Redis, these tasks are in the database all the same, and their workers run beside.
    /// [`Outbox::ordered_by`] puts it in a lane.
    ///
    /// # Errors
    /// As for [`cache_and_delay_store`](Self::cache_and_delay_store), before anything is sent;
    /// `Unsupported` if the tasks of this engine are not in the database.
    pub fn outbox(
        &self,
        key: impl AsRef<str>,
        task: impl IntoTask,
        delay: impl Into<Option<Duration>>,
    ) -> Result<Outbox> {
        let writer = self.writer()?;
        let (key, task) = (Key::new(key)?, task.into_task()?);
        let (value, ttl, delay, lane) = (None, None, delay.into(), None);
        writer.outbox(Delayed { key, value, task, ttl, delay, deletes: false, lane })
    }

    /// Tells the workers of all nodes that a transaction with an [`outbox`](Self::outbox) statement has
    /// committed, where they hear of it through Redis (`queue.backend: outbox`). Elsewhere this does
    /// nothing: PostgreSQL tells them itself. Who is not told finds the task by the next poll, within a
    /// second.
    ///
    /// # Errors
    /// `Closed` after [`close`](Self::close).
    pub fn outbox_committed(&self) -> Result<()> {
        if let Some(wake) = &self.writer()?.wake {
            wake.all();
        }
        Ok(())
    }

    /// Runs one statement of your own, now: a plain `SELECT` beside the writer, anything else in
    /// a transaction of its own. `RETURNING` gives its rows. On a table that the
    /// filter guards it names the keys of its rows with `.keys([..])`, or says `.no_keys()`.
    /// Named keys leave the caches; other keys whose rows it changes stay in them until their TTL.
    ///
    /// # Errors
    /// `InvalidInput` for transaction control, several statements, an UPDATE or DELETE without a
    /// condition, or keys that are not stated; otherwise what the database says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the statement whole: it commits or it does not happen.
    pub async fn sql_exec(&self, statement: Sql) -> Result<SqlResult> {
        let writer = self.writer()?;
        writer.sql_exec(statement.statement()?).await
    }

    // ---- ids -------------------------------------------------------------------------------

    /// A new id: `prefix_<snowflake>`, or the bare number for an empty prefix. Unique across all who share the lease, whatever the
    /// clocks do; strictly increasing in this process.
    ///
    /// # Errors
    /// `InvalidInput` for an unusable prefix; `Unavailable` while the node lease is lost.
    ///
    /// # Cancel safety
    /// Dropping the future wastes at most the id.
    pub async fn next_id(&self, prefix: &str) -> Result<Id> {
        self.open_for_calls()?;
        self.inner.ids.next_id(prefix).await
    }

    /// The id generator itself, for batches and bare numbers.
    pub fn ids(&self) -> &IdGenerator {
        &self.inner.ids
    }

    // ---- the rest --------------------------------------------------------------------------

    /// Registers a source: `sql` serves every key with this prefix. See [`Source`] for closures,
    /// seeding and TTLs.
    ///
    /// # Errors
    /// `InvalidInput` for an empty prefix or a query without exactly one `?`.
    pub fn source(&self, prefix: impl Into<String>, sql: impl Into<String>) -> Result<()> {
        self.register(Source::sql(prefix, sql))
    }

    /// Registers a source.
    ///
    /// # Errors
    /// As for [`source`](Self::source).
    pub fn register(&self, source: Source) -> Result<()> {
        if self.inner.sources.register(source)? {
            self.inner.filter_upkeep.wants_rebuild();
        }
        Ok(())
    }

    /// A directory of the application's own migrations.
    pub fn load_dir(&self, dir: impl AsRef<Path>) -> SchemaDir {
        let Inner { closing, filter_upkeep, writer, .. } = &*self.inner;
        let (store, tracker) = (Arc::clone(&closing.store), writer.tracker.clone());
        let (dir, config) = (dir.as_ref().to_owned(), closing.own_store.clone());
        SchemaDir::new(dir, store, config, filter_upkeep.clone(), tracker)
    }

    /// Flushes the periodic route now, and says what it did. What the database refused is in the
    /// [dead letters](Self::dead_letters) and in the report's count of them, not in the result.
    ///
    /// # Errors
    /// What the store says; what was not flushed stays in the buffer.
    pub async fn flush(&self) -> Result<zmsg_aggregate::FlushReport> {
        self.open_for_calls()?;
        self.inner.writer.aggregator.flush_all().await
    }

    /// The dead letters of both deferred routes.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self)
    }

    /// Counters of every part, since the engine opened.
    pub async fn stats(&self) -> Stats {
        Stats::of(&self.inner).await
    }

    /// Stops intake, lets running work finish, flushes, and says what is still pending and
    /// where. `None` takes the deadline of the configuration. Calls from now on fail with
    /// `Closed`; whoever calls `close` again waits for the same end and gets the same report.
    ///
    /// # Errors
    /// None but a panic while closing: what went wrong is in the report, which comes soon after
    /// the deadline at the latest.
    ///
    /// # Cancel safety
    /// Dropping the future only stops waiting: closing goes on.
    pub async fn close(&self, deadline: impl Into<Option<Duration>>) -> Result<CloseReport> {
        self.inner.closed.store(true, Ordering::SeqCst);
        let Inner { closing, writer, ids, .. } = &*self.inner;
        closing.close(writer, ids, deadline.into()).await
    }

    fn write(
        &self,
        route: Route,
        key: impl AsRef<str>,
        value: Option<Bytes>,
        task: Option<impl IntoTask>,
    ) -> Write<'_> {
        let request = Key::new(key).and_then(|key| {
            let task = task.map(IntoTask::into_task).transpose()?;
            Ok(Request::new(route, key, value, task))
        });
        Write::new(self, request)
    }

    /// The writer, if the engine is open and its background tasks are well.
    pub(crate) fn writer(&self) -> Result<&Arc<Writer>> {
        self.open_for_calls()?;
        self.inner.closing.tasks.healthy()?;
        Ok(&self.inner.writer)
    }

    pub(crate) fn open_for_calls(&self) -> Result<()> {
        if self.inner.closed.load(Ordering::Relaxed) {
            return Err(Error::closed("zmsg"));
        }
        Ok(())
    }

    fn own_row(&self, key: &str) -> Result<Key> {
        let key = Key::new(key)?;
        if self.inner.sources.is_own(key.as_str()) {
            return Ok(key);
        }
        Err(Error::invalid_input(
            "a source serves this key, so a value in zmsg's own table would never be read; write \
             to the source's table with cache_and_store",
        )
        .with_context("key", key))
    }
}
