//! The statements of node leases, in both dialects.

use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, Result, Statement, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;

use super::SqlLeaseOptions;
use crate::lease::millis;
use crate::{Layout, Lease, Reserve};

/// Far beyond the longest lease: an end that lies further ahead was written under a clock that
/// has been set back since, and would strand its node.
const ABSURD_MS: i64 = 24 * 3_600_000;

/// The texts, with the dialect's words put in. Each statement is a transaction of its own, except
/// for the two that seed.
#[derive(Debug)]
pub(super) struct Statements {
    acquire: String,
    extend: String,
    release: String,
    state: String,
}

/// What differs between the dialects.
struct Words {
    /// Milliseconds since the Unix epoch by the database's clock.
    now: &'static str,
    /// The greater of two numbers.
    max: &'static str,
    /// Locks the chosen row and passes over those that others are choosing right now.
    lock: &'static str,
    /// One more column to return.
    durably: &'static str,
}

static POSTGRES: Words = Words {
    now: "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    max: "greatest",
    lock: "FOR UPDATE SKIP LOCKED",
    // A ceiling has to be on the disk before it is used, also where somebody turned that off for
    // everything else. It counts for this transaction alone, and behind a pooler too.
    durably: "CASE WHEN current_setting('synchronous_commit') = 'off' \
              THEN set_config('synchronous_commit', 'on', true) END",
};

static SQLITE: Words = Words {
    now: "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
    max: "max",
    // Writers of a file take turns.
    lock: "",
    durably: "NULL",
};

/// The scalar sub-select is evaluated once, which `IN` would not promise. Of the free nodes it
/// takes the one whose ceiling lies furthest in the past.
const ACQUIRE: &str = "\
    UPDATE zmsg_node SET epoch = epoch + 1, owner = ?, holder = ?, acquired_ms = {now}, \
    lease_until_ms = {now} + ?, ceiling_ms = {max}(ceiling_ms, {now}) + ? \
    WHERE cluster = ? AND node = (\
    SELECT node FROM zmsg_node WHERE cluster = ? \
    AND (lease_until_ms + ? < {now} OR lease_until_ms > {now} + ?) \
    AND EXISTS (SELECT 1 FROM zmsg_node_layout WHERE cluster = ? AND layout = ?) \
    ORDER BY ceiling_ms, node LIMIT 1 {lock}) \
    RETURNING node, epoch, ceiling_ms, {now}, {durably}";

const EXTEND: &str = "\
    UPDATE zmsg_node SET lease_until_ms = {now} + ?, ceiling_ms = {max}(ceiling_ms, ?) \
    WHERE cluster = ? AND node = ? AND epoch = ? AND owner = ? AND lease_until_ms > {now} \
    RETURNING ceiling_ms, {durably}";

const RELEASE: &str = "\
    UPDATE zmsg_node SET owner = NULL, lease_until_ms = 0, ceiling_ms = ? \
    WHERE cluster = ? AND node = ? AND epoch = ? AND owner = ? AND lease_until_ms > {now} \
    RETURNING node, {durably}";

const SEED_LAYOUT: &str =
    "INSERT INTO zmsg_node_layout (cluster, layout) VALUES (?, ?) ON CONFLICT DO NOTHING";

/// Nothing, if somebody else's layout was first.
const SEED_NODES: &str = "\
    INSERT INTO zmsg_node (cluster, node) \
    WITH RECURSIVE numbers (node) AS (\
    SELECT 0 UNION ALL SELECT node + 1 FROM numbers WHERE node + 1 < CAST(? AS integer)) \
    SELECT layouts.cluster, numbers.node FROM numbers, zmsg_node_layout AS layouts \
    WHERE layouts.cluster = ? AND layouts.layout = ? ON CONFLICT DO NOTHING";

const STATE: &str = "\
    SELECT layouts.layout, \
    (SELECT count(*) FROM zmsg_node WHERE cluster = layouts.cluster), \
    (SELECT min(lease_until_ms) FROM zmsg_node WHERE cluster = layouts.cluster) - {now} \
    FROM zmsg_node_layout AS layouts WHERE layouts.cluster = ?";

/// The database's present, in milliseconds since the Unix epoch.
pub(super) fn now(dialect: Dialect) -> &'static str {
    words(dialect).now
}

fn words(dialect: Dialect) -> &'static Words {
    match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::Sqlite => &SQLITE,
    }
}

impl Statements {
    pub(super) fn new(dialect: Dialect) -> Self {
        let words = words(dialect);
        let write = |text: &str| {
            text.replace("{now}", words.now)
                .replace("{max}", words.max)
                .replace("{lock}", words.lock)
                .replace("{durably}", words.durably)
        };
        Self {
            acquire: write(ACQUIRE),
            extend: write(EXTEND),
            release: write(RELEASE),
            state: write(STATE),
        }
    }

    /// Returns node, epoch, ceiling and the database's time; nothing, if no node is free.
    pub(super) fn acquire(
        &self,
        options: &SqlLeaseOptions,
        want: &Reserve,
        owner: Uuid,
    ) -> Result<Statement> {
        let cluster = || Value::from(options.cluster.as_str());
        let binds = vec![
            Value::Uuid(owner),
            Value::from(options.holder.as_str()),
            duration(options.lease)?,
            duration(want.ahead)?,
            cluster(),
            cluster(),
            duration(options.grace)?,
            Value::Int(ABSURD_MS),
            cluster(),
            Value::from(want.layout.to_string()),
        ];
        Ok(Statement::query(self.acquire.as_str(), binds))
    }

    /// Returns the ceiling; nothing, if the lease is no longer its holder's.
    pub(super) fn extend(
        &self,
        options: &SqlLeaseOptions,
        lease: &Lease,
        ceiling_ms: UnixMillis,
    ) -> Result<Statement> {
        let mut binds = vec![duration(options.lease)?, number(ceiling_ms)?];
        binds.extend(whose(options, lease)?);
        Ok(Statement::query(self.extend.as_str(), binds))
    }

    /// Returns the node; nothing, if the lease is no longer its holder's.
    pub(super) fn release(
        &self,
        options: &SqlLeaseOptions,
        lease: &Lease,
        ceiling_ms: UnixMillis,
    ) -> Result<Statement> {
        let mut binds = vec![number(ceiling_ms)?];
        binds.extend(whose(options, lease)?);
        Ok(Statement::query(self.release.as_str(), binds))
    }

    /// Returns the layout, how many nodes there are, and in how many milliseconds the first of
    /// their leases ends; nothing, for a cluster that was never seeded.
    pub(super) fn state(&self, options: &SqlLeaseOptions) -> Statement {
        Statement::query(self.state.as_str(), vec![Value::from(options.cluster.as_str())])
    }

    /// Writes the layout down, then makes its nodes: for one transaction. Of many who do so at
    /// once, the first has its way.
    pub(super) fn seed(&self, options: &SqlLeaseOptions, layout: &Layout) -> [Statement; 2] {
        let cluster = || Value::from(options.cluster.as_str());
        let layout_text = || Value::from(layout.to_string());
        let nodes = Value::Int(layout.nodes().into());
        [
            Statement::new(SEED_LAYOUT, vec![cluster(), layout_text()]),
            Statement::new(SEED_NODES, vec![nodes, cluster(), layout_text()]),
        ]
    }
}

/// The binds that tell one lease of a node from every other.
fn whose(options: &SqlLeaseOptions, lease: &Lease) -> Result<[Value; 4]> {
    Ok([
        Value::from(options.cluster.as_str()),
        Value::Int(lease.node.into()),
        number(lease.epoch)?,
        Value::Uuid(lease.owner),
    ])
}

fn duration(duration: Duration) -> Result<Value> {
    number(millis(duration))
}

fn number(value: u64) -> Result<Value> {
    i64::try_from(value).map(Value::Int).map_err(|_| {
        Error::invalid_input("a number of a node's lease does not fit the database")
            .with_context("number", value)
    })
}
