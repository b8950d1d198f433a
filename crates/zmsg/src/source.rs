//! Where the value of a key comes from when no cache has it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;
use zmsg_bloom::{MembershipFilter, Verdict};
use zmsg_cache::Origin;
use zmsg_core::{Error, Key, Result, Statement, Value};
use zmsg_sqlbuilder::{identifiers, render};
use zmsg_store::SqlStore;

use crate::assemble::Filter;

type LoadFuture = Pin<Box<dyn Future<Output = Result<Option<Bytes>>> + Send>>;
type LoadFn = Arc<dyn Fn(Key) -> LoadFuture + Send + Sync>;

/// A source: serves every key whose prefix, up to a `_` or `:`, is its own.
///
/// Of several sources that match, the longest prefix serves: `feed_meta_7` goes to `feed_meta`
/// before `feed`. The whole key is bound, prefix included.
#[derive(Clone)]
pub struct Source {
    prefix: String,
    load: Load,
    keys: Option<String>,
    ttl: Option<Duration>,
}

#[derive(Clone)]
enum Load {
    Sql(String),
    Call(LoadFn),
}

impl Source {
    /// A source that runs `sql`: one `?`, bound to the key; one column, at most one row.
    pub fn sql(prefix: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), load: Load::Sql(sql.into()), keys: None, ttl: None }
    }

    /// A source that calls `load`.
    pub fn call<F, Fut>(prefix: impl Into<String>, load: F) -> Self
    where
        F: Fn(Key) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        let load: LoadFn = Arc::new(move |key| Box::pin(load(key)));
        Self { prefix: prefix.into(), load: Load::Call(load), keys: None, ttl: None }
    }

    /// A query that gives every key of the source in its first column. With it the filter is
    /// seeded and may rule keys out; without it the filter answers "maybe" for this source.
    #[must_use]
    pub fn keys(mut self, sql: impl Into<String>) -> Self {
        self.keys = Some(sql.into());
        self
    }

    /// How long the source's values live in the tiers, unless a call says otherwise.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.ends_with(['_', ':']) {
            let message = "a source's prefix is not empty and does not end in its separator";
            return Err(Error::invalid_input(message).with_context("prefix", prefix));
        }
        if let Some(keys) = &self.keys {
            zmsg_sqlbuilder::sql(keys.clone(), ())
                .statement()
                .map_err(|error| error.with_context("keys of the source", prefix))?;
        }
        if let Load::Sql(sql) = &self.load {
            render(sql, 1, zmsg_sqlbuilder::Dialect::Sqlite).map_err(|error| {
                error.with_context("source", prefix).with_context(
                    "hint",
                    "a source's query has exactly one ?, which is bound to the key",
                )
            })?;
        }
        Ok(())
    }

    /// The tables a raw statement must not touch without naming its keys.
    fn guarded_tables(&self) -> Result<Vec<String>> {
        match (&self.keys, &self.load) {
            (None, _) => Ok(Vec::new()),
            (Some(keys), Load::Sql(sql)) => {
                let mut tables = tables_of(sql)?;
                tables.extend(tables_of(keys)?);
                Ok(tables)
            }
            (Some(keys), Load::Call(_)) => tables_of(keys),
        }
    }
}

impl From<crate::config::SourceConfig> for Source {
    fn from(config: crate::config::SourceConfig) -> Self {
        let source = Self::sql(config.prefix, config.sql);
        Self { keys: config.keys, ttl: config.ttl, ..source }
    }
}

/// The tables that a query reads: the names between FROM or JOIN and the clause that follows.
/// Aliases among them do no harm: they guard a table that does not exist.
fn tables_of(sql: &str) -> Result<Vec<String>> {
    const ENDS: [&str; 17] = [
        "where",
        "group",
        "order",
        "limit",
        "having",
        "window",
        "union",
        "except",
        "intersect",
        "on",
        "using",
        "select",
        "values",
        "fetch",
        "offset",
        "for",
        "returning",
    ];
    let words = identifiers(sql)?;
    let text = sql.to_lowercase().replace('"', "");
    let mut tables = Vec::new();
    let mut listed = false;
    for (index, word) in words.iter().enumerate() {
        let word = word.to_lowercase();
        match word.as_str() {
            "from" | "join" => listed = true,
            end if ENDS.contains(&end) => listed = false,
            _ if !listed => {}
            _ => {
                // The schema of `schema.table` is no table.
                let next = words.get(index + 1).map(|next| next.to_lowercase());
                if !next.is_some_and(|next| text.contains(&format!("{word}.{next}"))) {
                    tables.push(word);
                }
            }
        }
    }
    Ok(tables)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.load, Load::Sql(_)) { "sql" } else { "call" };
        write!(f, "Source({}, {kind})", self.prefix)
    }
}

/// A registered source, as the cache asks it.
#[derive(Debug)]
pub(crate) struct SourceOrigin {
    source: Source,
    guarded_tables: Vec<String>,
    /// This process has seeded the filter with every key of this source, or another node may
    /// have: only then may it rule one out.
    seeded: AtomicBool,
    /// What the filter calls this source: its prefix and its query of keys.
    scope: String,
    store: Arc<dyn SqlStore>,
    filter: Arc<dyn MembershipFilter>,
}

impl SourceOrigin {
    pub(crate) fn keys_sql(&self) -> Option<&str> {
        self.source.keys.as_deref()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.source.prefix
    }

    /// True for a key that this source serves.
    pub(crate) fn is_own(&self, sources: &Sources, key: &str) -> bool {
        std::ptr::eq(self, Arc::as_ptr(&sources.of(key)))
    }

    pub(crate) fn set_seeded(&self, seeded: bool) {
        self.seeded.store(seeded, Ordering::Release);
    }

    /// What the filter says of a key of this source.
    pub(crate) fn verdict(&self, key: &str) -> Verdict {
        if self.is_covered() { self.filter.check(key) } else { Verdict::Unknown }
    }

    /// Whether the filter knows every key of this source.
    pub(crate) fn is_covered(&self) -> bool {
        self.seeded.load(Ordering::Acquire) && self.filter.covers(&self.scope)
    }

    /// Whether the filter should know the keys of this source and does not. One whose keys could
    /// not be read is not asked for again until it is registered anew.
    pub(crate) fn is_uncovered(&self) -> bool {
        self.seeded.load(Ordering::Acquire) && !self.filter.covers(&self.scope)
    }

    pub(crate) fn scope(&self) -> &str {
        &self.scope
    }
}

#[async_trait]
impl Origin for SourceOrigin {
    fn rules_out(&self, key: &Key) -> bool {
        self.verdict(key.as_str()) == Verdict::Absent
    }

    async fn confirm_absent(&self, key: &Key) -> Result<bool> {
        self.filter.confirm_absent_in(&self.scope, key).await
    }

    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        let sql = match &self.source.load {
            Load::Sql(sql) => sql,
            Load::Call(call) => return call(key.clone()).await,
        };
        let query = Statement::query(sql.clone(), vec![Value::from(key)]);
        let rows = self.store.fetch(&query).await?;
        let fault = |message: &'static str| {
            Err(Error::invalid_input(message).with_context("source", &self.source.prefix))
        };
        match rows.as_slice() {
            [] => Ok(None),
            [row] if row.values().len() == 1 => Ok(row.at(0)?.to_bytes()),
            [_] => fault("a source's query gives one column"),
            _ => fault("a source's query gives at most one row"),
        }
    }

    fn ttl(&self) -> Option<Duration> {
        self.source.ttl
    }
}

/// A loader that one call brought along.
pub(crate) struct CallOrigin<F>(pub(crate) F);

impl<F> fmt::Debug for CallOrigin<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallOrigin")
    }
}

#[async_trait]
impl<F, Fut> Origin for CallOrigin<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Bytes>>> + Send + 'static,
{
    async fn load(&self, _key: &Key) -> Result<Option<Bytes>> {
        (self.0)().await
    }
}

type ByPrefix = HashMap<String, Arc<SourceOrigin>>;

/// All sources, found by the longest prefix of a key.
#[derive(Debug)]
pub(crate) struct Sources {
    store: Arc<dyn SqlStore>,
    filter: Filter,
    by_prefix: RwLock<ByPrefix>,
    fallback: Arc<SourceOrigin>,
}

impl Sources {
    /// No sources but zmsg's own table, which serves every other key.
    pub(crate) fn new(store: Arc<dyn SqlStore>, filter: &Filter) -> Result<Self> {
        let own = Source::sql("zmsg_data", "SELECT data FROM zmsg_data WHERE id = ?")
            .keys("SELECT id FROM zmsg_data");
        let fallback = Arc::new(origin(own, &store, filter)?);
        let filter = filter.clone();
        Ok(Self { store, filter, by_prefix: RwLock::default(), fallback })
    }

    /// Adds or replaces a source; true if the filter has to be seeded with its keys.
    pub(crate) fn register(&self, source: Source) -> Result<bool> {
        source.validate()?;
        let guarded = source.keys.is_some();
        let prefix = source.prefix.clone();
        let origin = Arc::new(origin(source, &self.store, &self.filter)?);
        self.by_prefix.write().unwrap_or_else(PoisonError::into_inner).insert(prefix, origin);
        Ok(guarded)
    }

    /// The source that serves a key.
    pub(crate) fn of(&self, key: &str) -> Arc<SourceOrigin> {
        Arc::clone(self.find(&self.by_prefix(), key))
    }

    /// True for the source that zmsg's own table is.
    pub(crate) fn is_fallback(&self, source: &SourceOrigin) -> bool {
        std::ptr::eq(source, Arc::as_ptr(&self.fallback))
    }

    /// True if no source but zmsg's own table serves the key.
    pub(crate) fn is_own(&self, key: &str) -> bool {
        Arc::ptr_eq(&self.of(key), &self.fallback)
    }

    /// Every source whose keys the filter can be seeded with.
    pub(crate) fn guarded(&self) -> Vec<Arc<SourceOrigin>> {
        let by_prefix = self.by_prefix();
        let all = by_prefix.values().chain([&self.fallback]);
        all.filter(|origin| origin.keys_sql().is_some()).map(Arc::clone).collect()
    }

    /// A guarded table that is touched and is not one of this key's source, if there is such.
    pub(crate) fn foreign_guard(
        &self,
        key: Option<&str>,
        touches: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let by_prefix = self.by_prefix();
        let own = key.map(|key| self.find(&by_prefix, key));
        let foreign = by_prefix.values().chain([&self.fallback]).filter(|origin| {
            origin.keys_sql().is_some() && own.is_none_or(|own| !Arc::ptr_eq(own, origin))
        });
        let mut tables = foreign.flat_map(|origin| &origin.guarded_tables);
        tables.find(|table| touches(table)).cloned()
    }

    fn find<'a>(&'a self, by_prefix: &'a ByPrefix, key: &str) -> &'a Arc<SourceOrigin> {
        let ends = key.rmatch_indices(['_', ':']).map(|(end, _)| end);
        let found = ends.filter_map(|end| by_prefix.get(&key[..end])).next();
        found.unwrap_or(&self.fallback)
    }

    // A map is whole after every operation, so a poisoned lock is safe to use.
    fn by_prefix(&self) -> RwLockReadGuard<'_, ByPrefix> {
        self.by_prefix.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn origin(source: Source, store: &Arc<dyn SqlStore>, filter: &Filter) -> Result<SourceOrigin> {
    let keys = xxh3_64(source.keys.as_deref().unwrap_or_default().as_bytes());
    Ok(SourceOrigin {
        scope: format!("{} {keys:016x}", source.prefix.escape_debug()),
        guarded_tables: source.guarded_tables()?,
        source,
        // A filter that nodes share says itself what it was seeded with.
        seeded: AtomicBool::new(filter.registry.is_some()),
        store: Arc::clone(store),
        filter: Arc::clone(&filter.filter),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_query_are_found_in_every_spelling() {
        for (sql, tables) in [
            ("SELECT data FROM feeds WHERE id = ?", &["feeds"][..]),
            ("SELECT data FROM main.feeds WHERE id = ?", &["feeds"]),
            ("SELECT data FROM \"main\".\"Feeds\" WHERE id = ?", &["feeds"]),
            ("select a from x, y where x.i = y.i", &["x", "y"]),
            ("SELECT a FROM x JOIN y ON x.i = y.i WHERE a = ?", &["x", "y"]),
            ("SELECT a FROM (SELECT a FROM inner_one WHERE b = ?) ORDER BY a", &["inner_one"]),
            ("SELECT id FROM x UNION ALL SELECT id FROM y", &["x", "y"]),
        ] {
            assert_eq!(tables_of(sql).unwrap(), tables, "{sql}");
        }
    }
}
