//! The facts of a PostgreSQL server, as a connection of the engine sees them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, Result, Statement, SystemClock, Value};
use zmsg_store::SqlStore;

use super::finding::{Diagnosis, Finding};
use super::postgres_verdict::judge;
use crate::config::Config;

pub(super) const PLACE: &str = "postgres";

const SETTINGS: &str = "SELECT name, setting, reset_val FROM pg_settings WHERE name IN (\
    'autovacuum', 'default_transaction_isolation', 'default_transaction_read_only', 'fsync', \
    'full_page_writes', 'idle_session_timeout', 'max_connections', 'reserved_connections', \
    'server_encoding', 'server_version', 'server_version_num', 'statement_timeout', \
    'superuser_reserved_connections', 'synchronous_commit', 'synchronous_standby_names', \
    'transaction_timeout')";

const SESSION: &str = "SELECT pg_is_in_recovery(), \
    (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL), \
    COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), \
    host(inet_client_addr()), \
    inet_server_port(), \
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
    COALESCE((extract(epoch FROM clock_timestamp() - \
        (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())) \
        * 1000000)::bigint, 0)";

/// What a server says of itself and of our session.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Settings, as they are in our session.
    pub(super) session: BTreeMap<String, String>,
    /// Settings, as a new session of ours has them before we change any.
    pub(super) server: BTreeMap<String, String>,
    /// A standby: it takes no writes.
    pub(super) standby: bool,
    /// Connections of all clients, ours included.
    pub(super) connected: i64,
    pub(super) encrypted: bool,
    /// The connection comes from another machine.
    pub(super) remote: bool,
    /// The port on which the server took the connection; `None` for a Unix socket.
    pub(super) port: Option<u16>,
    /// How much later the clock of the server is than ours, and how exactly that is known.
    pub(super) clock_ahead_ms: i64,
    pub(super) clock_error_ms: i64,
    /// How much longer the session exists than we are connected.
    pub(super) older_by: Duration,
}

/// Connects as an engine would, asks and judges.
pub(super) async fn examine(config: &Config, tasks: &TaskTracker, diagnosis: &mut Diagnosis) {
    let begin = Instant::now();
    let facts = async {
        let store = crate::assemble::store(config, tasks).await?;
        let facts = collect(&store, begin).await;
        store.close().await?;
        facts
    };
    match facts.await {
        Ok(facts) => judge(&facts, config, diagnosis),
        Err(error) => {
            let found = format!("the database cannot be examined: {error}");
            diagnosis.add(Finding::error(PLACE, found).change("store.url, or the server"));
        }
    }
}

async fn collect(store: &Arc<dyn SqlStore>, begin: Instant) -> Result<Facts> {
    let mut facts = Facts::default();
    for row in store.fetch(&Statement::query(SETTINGS, vec![])).await? {
        let (name, setting, reset) = (row.text(0)?, row.text(1)?, row.text(2)?);
        facts.session.insert(name.to_owned(), setting.to_owned());
        facts.server.insert(name.to_owned(), reset.to_owned());
    }
    let before = SystemClock.wall();
    let asked = Instant::now();
    let rows = store.fetch(&Statement::query(SESSION, vec![])).await?;
    let (took, connected_for) = (asked.elapsed(), begin.elapsed());
    let Some(row) = rows.first() else { return Ok(facts) };
    facts.standby = row.at(0)? == &Value::Bool(true);
    facts.connected = row.int(1)?;
    facts.encrypted = row.at(2)? == &Value::Bool(true);
    let client = row.at(3)?.as_text().and_then(|address| address.parse::<IpAddr>().ok());
    facts.remote = client.is_some_and(|address| !address.is_loopback());
    facts.port = row.at(4)?.as_int().and_then(|port| u16::try_from(port).ok());
    // Somewhere within the time that the question took.
    let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
    let ours = i64::try_from(before).unwrap_or(i64::MAX).saturating_add(half);
    facts.clock_ahead_ms = (row.int(5)? / 1000).saturating_sub(ours);
    facts.clock_error_ms = half + 1;
    let age = Duration::from_micros(u64::try_from(row.int(6)?).unwrap_or(0));
    facts.older_by = age.saturating_sub(connected_for);
    Ok(facts)
}
