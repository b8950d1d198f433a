//! One write, whose effect can be found by its number: once, twice, or not at all.

use std::time::Duration;

use fastrand::Rng;
use zmsg::{OnMissing, Receipt, Result, Sql, Zmsg, counter, map, slice, sql};

use crate::args::Mix;
use crate::engine::ROWS;

/// What a write does, and by which route. The names are those of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A row of its own, by the store route; twice would count 2.
    StoreOwn,
    /// An element of a shared list, by the store route.
    StoreTag,
    /// A row that is to be deleted.
    StoreVictim,
    /// The end of the row that the same task made last, by the delayed route.
    DelayedEnd,
    /// As the first three of the store route, delayed.
    DelayedOwn,
    DelayedTag,
    /// Can never work: a dead letter.
    DelayedDoomed,
    /// A counter in a row of its own, which the flush inserts.
    PeriodicOwn,
    /// An element of a shared list.
    PeriodicTag,
    /// The same, with a value for the caches.
    PeriodicShown,
    /// An entry of a shared map.
    PeriodicMark,
    /// One more in a shared counter.
    PeriodicCount,
    /// A statement that is not folded.
    PeriodicStatement,
    /// A counter in a row that is not there: a dead letter.
    PeriodicDoomed,
    /// A row that the database refuses at the commit: a dead letter, after a search for it.
    PeriodicOrphan,
}

use Kind::{
    DelayedDoomed, DelayedEnd, DelayedOwn, DelayedTag, PeriodicCount, PeriodicDoomed, PeriodicMark,
    PeriodicOrphan, PeriodicOwn, PeriodicShown, PeriodicStatement, PeriodicTag, StoreOwn, StoreTag,
    StoreVictim,
};

/// How often each comes, by mix: store, delayed, periodic.
const WEIGHTS: [(Kind, u64, &str); 15] = [
    (StoreOwn, 4, "store-own"),
    (StoreTag, 2, "store-tag"),
    (StoreVictim, 2, "store-victim"),
    (DelayedOwn, 4, "delayed-own"),
    (DelayedTag, 2, "delayed-tag"),
    (DelayedEnd, 2, "delayed-end"),
    (DelayedDoomed, 1, "delayed-doomed"),
    (PeriodicOwn, 4, "periodic-own"),
    (PeriodicTag, 6, "periodic-tag"),
    (PeriodicShown, 2, "periodic-shown"),
    (PeriodicMark, 3, "periodic-mark"),
    (PeriodicCount, 4, "periodic-count"),
    (PeriodicStatement, 2, "periodic-statement"),
    (PeriodicDoomed, 1, "periodic-doomed"),
    (PeriodicOrphan, 0, "periodic-orphan"),
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        WEIGHTS.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    /// The next one of a task.
    pub(crate) fn draw(mix: Mix, random: &mut Rng, has_victim: bool) -> Self {
        // A search for what is refused takes a flush apart: seldom, or nothing else would happen.
        if matches!(mix, Mix::All | Mix::Periodic) && random.u64(..150) == 0 {
            return PeriodicOrphan;
        }
        let wanted = |name: &str| match mix {
            Mix::All => true,
            Mix::Store => name.starts_with("store"),
            Mix::Delayed => name.starts_with("delayed") || name == "store-victim",
            Mix::Periodic => name.starts_with("periodic"),
            Mix::Batch => false,
        };
        let weights = || {
            let fits = |kind: Kind| kind != DelayedEnd || has_victim;
            WEIGHTS.iter().filter(move |(kind, _, name)| wanted(name) && fits(*kind))
        };
        let mut at = random.u64(..weights().map(|(_, weight, _)| weight).sum::<u64>().max(1));
        for (kind, weight, _) in weights() {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        PeriodicCount
    }
}

/// A write with its number. `row` is that of the shared rows, or the number of the write whose row is
/// to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub(crate) op: u64,
    pub(crate) kind: Kind,
    pub(crate) row: u64,
}

impl Write {
    pub(crate) fn new(op: u64, kind: Kind, victim: Option<u64>, random: &mut Rng) -> Self {
        let row = match (kind, victim) {
            (DelayedEnd, Some(victim)) => victim,
            _ => random.u64(..ROWS),
        };
        Self { op, kind, row }
    }

    /// Makes it.
    pub(crate) async fn send(&self, zmsg: &Zmsg, random: &mut Rng) -> Result<Receipt> {
        let Self { op, row, .. } = *self;
        let (own, shared) = (format!("op_{op}"), format!("row_{row}"));
        let delay = Duration::from_millis(random.u64(..12));
        match self.kind {
            StoreOwn => zmsg.cache_and_store(&own, "1", once(&own)).await,
            StoreTag => {
                let tag = slice("shared", "tags").add(op).where_eq("id", &shared);
                zmsg.cache_and_store(&shared, "tagged", tag).await
            }
            StoreVictim => {
                let victim = format!("victim_{op}");
                let insert = sql("INSERT INTO victims (id) VALUES (?)", (&victim,));
                zmsg.cache_and_store(&victim, "alive", insert).await
            }
            DelayedEnd => {
                let victim = format!("victim_{row}");
                let delete = sql("DELETE FROM victims WHERE id = ?", (&victim,));
                zmsg.del_delay_store(&victim, delete).delay(delay).await
            }
            DelayedOwn => zmsg.cache_and_delay_store(&own, "1", once(&own)).delay(delay).await,
            DelayedTag => {
                let tag = slice("shared", "later").add(op).where_eq("id", &shared);
                zmsg.cache_and_delay_store(&shared, "tagged", tag).delay(delay).await
            }
            DelayedDoomed => {
                let key = format!("doomed_{op}");
                let insert = sql("INSERT INTO no_such_table (id) VALUES (1)", ());
                zmsg.cache_and_delay_store(&key, "doomed", insert).delay(delay).await
            }
            _ => self.send_periodic(zmsg).await,
        }
    }

    async fn send_periodic(&self, zmsg: &Zmsg) -> Result<Receipt> {
        let Self { op, row, .. } = *self;
        let (own, shared) = (format!("op_{op}"), format!("row_{row}"));
        match self.kind {
            PeriodicOwn => {
                let count = counter("effects", "n").inc(1).where_eq("id", &own);
                let count = count.on_missing(OnMissing::Insert);
                zmsg.cache_and_periodic_store(&own, None, count).await
            }
            PeriodicTag => {
                let tag = slice("shared", "tags").add(op).where_eq("id", &shared);
                zmsg.cache_and_periodic_store(&shared, None, tag).await
            }
            PeriodicShown => {
                let tag = slice("shared", "tags").add(op).where_eq("id", &shared);
                zmsg.cache_and_periodic_store(&shared, Some("shown".into()), tag).await
            }
            PeriodicMark => {
                let mark = map("shared", "marks").set(op.to_string(), 1).where_eq("id", &shared);
                zmsg.cache_and_periodic_store(&shared, None, mark).await
            }
            PeriodicStatement => zmsg.cache_and_periodic_store(&own, None, once(&own)).await,
            PeriodicDoomed => {
                let missing = format!("doomed_{op}");
                let count = counter("shared", "n").inc(1).where_eq("id", &missing);
                zmsg.cache_and_periodic_store(&missing, None, count).await
            }
            PeriodicOrphan => {
                // Its number is in the text: a dead letter shows no values.
                let orphan = format!("INSERT INTO orphans (id, parent) VALUES ({op}, -1)");
                let key = format!("doomed_{op}");
                zmsg.cache_and_periodic_store(&key, None, sql(orphan, ())).await
            }
            _ => {
                let count = counter("shared", "n").inc(1).where_eq("id", &shared);
                zmsg.cache_and_periodic_store(&shared, None, count).await
            }
        }
    }
}

/// Counts how often it ran.
fn once(id: &str) -> Sql {
    let text = "INSERT INTO effects (id, n) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET n = effects.n + 1";
    sql(text, (id,))
}
