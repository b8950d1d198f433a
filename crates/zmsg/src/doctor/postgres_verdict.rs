//! What the facts of a PostgreSQL server mean for zmsg.

use std::time::Duration;

use super::finding::{Diagnosis, Finding, Promise};
use super::postgres::{Facts, PLACE};
use crate::config::Config;

/// The oldest version that the tests run on.
const VERSION_MIN: i64 = 15;

/// A server's clock may be so far from ours before the times in ids mislead whoever reads them.
const CLOCK_MAX_MS: i64 = 1000;

/// A session that is older than our connection by this was somebody else's before.
const OLDER: Duration = Duration::from_millis(500);

/// Adds what is wrong.
pub(super) fn judge(facts: &Facts, config: &Config, diagnosis: &mut Diagnosis) {
    diagnosis.looked_at(format!(
        "PostgreSQL {}: {} of {} connections in use, {}, clock {} ms from ours",
        facts.server("server_version"),
        facts.connected,
        facts.server("max_connections"),
        if facts.encrypted { "encrypted" } else { "not encrypted" },
        facts.clock_ahead_ms,
    ));
    durability(facts, diagnosis);
    transactions(facts, diagnosis);
    connections(facts, config, diagnosis);
    pooler(facts, config, diagnosis);
    surroundings(facts, diagnosis);
}

fn durability(facts: &Facts, diagnosis: &mut Diagnosis) {
    let off = |name: &str| facts.server(name) == "off";
    if off("fsync") {
        diagnosis.add(
            Finding::error(PLACE, "fsync is off: a power cut can destroy the whole database")
                .weakens(Promise::Committed)
                .change("fsync = on in postgresql.conf"),
        );
    }
    if off("full_page_writes") {
        let found = "full_page_writes is off: a power cut can tear pages that were committed";
        diagnosis.add(
            Finding::error(PLACE, found)
                .weakens(Promise::Committed)
                .change("full_page_writes = on in postgresql.conf"),
        );
    }
    // The flush, the inbox and the leases ask for more by themselves; other commits do not.
    if off("synchronous_commit") {
        let found = "synchronous_commit is off: a receipt comes before its commit is on the disk";
        diagnosis.add(
            Finding::error(PLACE, found)
                .weakens(Promise::Committed)
                .change("synchronous_commit = on, for the role or the database of the engine too"),
        );
    }
    let standbys = !facts.server("synchronous_standby_names").is_empty();
    if standbys && facts.server("synchronous_commit") == "local" {
        let found = "synchronous_commit is local: a failover to the standby can lose commits";
        diagnosis.add(
            Finding::warning(PLACE, found)
                .weakens(Promise::Committed)
                .change("synchronous_commit = on"),
        );
    }
}

fn transactions(facts: &Facts, diagnosis: &mut Diagnosis) {
    if facts.standby || facts.server("default_transaction_read_only") == "on" {
        let found = "the server takes no writes: it is a standby, or read-only by default";
        diagnosis.add(
            Finding::error(PLACE, found)
                .change("store.url to the primary (target_session_attrs=read-write finds it)"),
        );
    }
    let isolation = facts.server("default_transaction_isolation");
    if !isolation.is_empty() && isolation != "read committed" {
        let found = format!(
            "default_transaction_isolation is {isolation}: more flushes fail and are tried again"
        );
        diagnosis.add(
            Finding::warning(PLACE, found)
                .weakens(Promise::Bounded)
                .change("ALTER ROLE … SET default_transaction_isolation = 'read committed'"),
        );
    }
    if facts.server("autovacuum") == "off" {
        let found = "autovacuum is off: the tables of the queue and the inbox grow and slow down";
        diagnosis.add(
            Finding::warning(PLACE, found).weakens(Promise::Bounded).change("autovacuum = on"),
        );
    }
    for name in ["idle_session_timeout", "transaction_timeout"] {
        let limit = facts.number(name);
        if limit > 0 {
            let found = format!(
                "{name} is {limit} ms: connections of the pool are ended and made anew meanwhile"
            );
            diagnosis.add(
                Finding::note(PLACE, found).change(format!("{name} = 0 for the engine's role")),
            );
        }
    }
}

fn connections(facts: &Facts, config: &Config, diagnosis: &mut Diagnosis) {
    let reserved =
        facts.number("superuser_reserved_connections") + facts.number("reserved_connections");
    let most = facts.number("max_connections") - reserved;
    let wanted = i64::try_from(config.store.connections_max).unwrap_or(i64::MAX);
    // Ours is one of those that are connected.
    let free = most - facts.connected + 1;
    let change = "store.connections_max, or max_connections in postgresql.conf";
    if wanted > most {
        let found = format!("the pool may open {wanted} connections and the server allows {most}");
        diagnosis.add(Finding::error(PLACE, found).weakens(Promise::Bounded).change(change));
    } else if wanted > free {
        let found = format!("the pool may open {wanted} connections and {free} are free now");
        diagnosis.add(Finding::warning(PLACE, found).weakens(Promise::Bounded).change(change));
    }
}

fn pooler(facts: &Facts, config: &Config, diagnosis: &mut Diagnosis) {
    if config.store.pooled {
        let found = "store.pooled: each call sets up its transaction, and waiting tasks are polled";
        diagnosis.add(Finding::note(PLACE, found));
        return;
    }
    let wanted = i64::try_from(config.store.statement_timeout.as_millis()).unwrap_or(i64::MAX);
    let lost = facts.session.contains_key("statement_timeout")
        && facts.in_session("statement_timeout") != wanted;
    if facts.older_by > OLDER || lost {
        let found = "a pooler stands in between: the session is not ours alone, and what is set or \
                     prepared in it may be gone at the next call";
        diagnosis.add(
            Finding::error(PLACE, found)
                .weakens(Promise::Flushed)
                .change("store.pooled: true, or connect past the pooler"),
        );
    } else if facts.port.is_some_and(|port| named_port(&config.store.url) != Some(port)) {
        let found = "the server listens on another port than the URL names: something stands in \
                     between, perhaps a pooler";
        diagnosis.add(
            Finding::note(PLACE, found).change("store.pooled: true, if it pools transactions"),
        );
    }
}

fn surroundings(facts: &Facts, diagnosis: &mut Diagnosis) {
    let version = facts.number("server_version_num") / 10_000;
    if version < VERSION_MIN {
        let found = format!("version {version} is not tested; {VERSION_MIN} is the oldest that is");
        diagnosis.add(Finding::error(PLACE, found).change("upgrade the server"));
    }
    let encoding = facts.server("server_encoding");
    if encoding != "UTF8" {
        let found = format!("the database is encoded as {encoding}: not every text can be stored");
        diagnosis.add(Finding::error(PLACE, found).change("CREATE DATABASE … ENCODING 'UTF8'"));
    }
    if facts.remote && !facts.encrypted {
        let found = "the connection leaves this machine and is not encrypted";
        diagnosis.add(
            Finding::warning(PLACE, found)
                .change("store.url with sslmode=require, and store.allow_plaintext: false"),
        );
    }
    let ahead = facts.clock_ahead_ms;
    if ahead.abs() > CLOCK_MAX_MS + facts.clock_error_ms {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let found = format!(
            "the clock of the server is {} ms {way} ours: ids and delays follow the two clocks",
            ahead.abs()
        );
        diagnosis.add(Finding::warning(PLACE, found).change("run a time service on both machines"));
    }
}

/// The port of a URL of one host.
fn named_port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (_, port) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unzip();
    port.map_or(Some(5432), |port| port.parse().ok())
}

impl Facts {
    fn server(&self, name: &str) -> &str {
        self.server.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.server(name).parse().unwrap_or(0)
    }

    fn in_session(&self, name: &str) -> i64 {
        self.session.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn healthy() -> Facts {
        let mut facts = Facts { connected: 3, port: Some(5432), ..Facts::default() };
        for (name, value) in [
            ("server_version_num", "150018"),
            ("server_version", "15.18"),
            ("server_encoding", "UTF8"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
            ("max_connections", "100"),
            ("superuser_reserved_connections", "3"),
        ] {
            facts.server.insert(name.into(), value.into());
        }
        facts.session.insert("statement_timeout".into(), "10000".into());
        facts
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.store.url = "postgres://app@db/app".into();
        config
    }

    fn findings(facts: &Facts, config: &Config) -> Vec<Finding> {
        let mut diagnosis = Diagnosis::default();
        judge(facts, config, &mut diagnosis);
        diagnosis.findings
    }

    fn only(change: impl FnOnce(&mut Facts, &mut Config)) -> Finding {
        let (mut facts, mut config) = (healthy(), config());
        change(&mut facts, &mut config);
        let mut found = findings(&facts, &config);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Facts, &mut Config) {
        move |facts, _| drop(facts.server.insert(name.into(), value.into()))
    }

    #[test]
    fn a_healthy_server_is_not_complained_about() {
        assert_eq!(findings(&healthy(), &config()), []);
    }

    #[test]
    fn what_a_power_cut_takes_is_an_error_that_names_the_setting() {
        for name in ["fsync", "full_page_writes", "synchronous_commit"] {
            let found = only(set(name, "off"));
            assert_eq!(
                (found.severity, found.weakens),
                (Severity::Error, Some(Promise::Committed))
            );
            assert!(found.change.unwrap().contains(name));
        }
        let found = only(|facts, config| {
            set("synchronous_commit", "local")(facts, config);
            set("synchronous_standby_names", "other")(facts, config);
        });
        assert_eq!(found.severity, Severity::Warning);
        for harmless in ["local", "remote_write", "remote_apply"] {
            let mut facts = healthy();
            facts.server.insert("synchronous_commit".into(), harmless.into());
            assert_eq!(findings(&facts, &config()), []);
        }
    }

    #[test]
    fn a_server_that_takes_no_writes_is_an_error() {
        assert_eq!(only(|facts, _| facts.standby = true).severity, Severity::Error);
        assert_eq!(only(set("default_transaction_read_only", "on")).severity, Severity::Error);
    }

    #[test]
    fn settings_that_cost_time_are_warnings_and_notes() {
        let found = only(set("default_transaction_isolation", "serializable"));
        assert!(found.severity == Severity::Warning && found.found.contains("serializable"));
        assert_eq!(only(set("autovacuum", "off")).severity, Severity::Warning);
        assert_eq!(only(set("idle_session_timeout", "60000")).severity, Severity::Note);
    }

    #[test]
    fn a_pool_that_the_server_cannot_serve_is_found() {
        let found = only(|_, config| config.store.connections_max = 98);
        assert!(found.severity == Severity::Error && found.found.contains("allows 97"), "{found}");
        let found = only(|facts, _| facts.connected = 90);
        assert!(found.severity == Severity::Warning && found.found.contains("8 are free"));
        let mut facts = healthy();
        facts.connected = 82;
        assert_eq!(findings(&facts, &config()), []);
    }

    #[test]
    fn a_pooler_that_nobody_spoke_of_is_an_error() {
        let older = |facts: &mut Facts, _: &mut Config| facts.older_by = Duration::from_secs(1);
        assert_eq!(only(older).weakens, Some(Promise::Flushed));
        let lost = |facts: &mut Facts, _: &mut Config| {
            facts.session.insert("statement_timeout".into(), "0".into());
        };
        assert_eq!(only(lost).severity, Severity::Error);
        assert_eq!(only(|facts, _| facts.port = Some(5433)).severity, Severity::Note);
        let told = only(|facts, config| {
            older(facts, config);
            config.store.pooled = true;
        });
        assert_eq!(told.severity, Severity::Note);
    }

    #[test]
    fn old_versions_other_encodings_clear_text_and_clocks_are_found() {
        assert!(only(set("server_version_num", "140011")).found.contains("14"));
        assert!(only(set("server_encoding", "SQL_ASCII")).found.contains("SQL_ASCII"));
        assert!(only(|facts, _| facts.remote = true).found.contains("not encrypted"));
        assert!(only(|facts, _| facts.clock_ahead_ms = -1500).found.contains("1500 ms behind"));
        let mut facts = healthy();
        (facts.clock_ahead_ms, facts.clock_error_ms) = (1500, 600);
        assert_eq!(findings(&facts, &config()), []);
        (facts.remote, facts.encrypted) = (true, true);
        assert_eq!(findings(&facts, &config()), []);
    }

    #[test]
    fn the_port_of_a_url_is_understood() {
        for (url, port) in [
            ("postgres://u:p@h/db", Some(5432)),
            ("postgres://u:p@h:5433/db?x=1", Some(5433)),
            ("postgres://[::1]/db", Some(5432)),
            ("postgres://[::1]:7/db", Some(7)),
        ] {
            assert_eq!(named_port(url), port, "{url}");
        }
    }
}
