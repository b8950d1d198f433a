//! How a PostgreSQL database is reached, and the bounds of a store on it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The server, its time-outs, and the bounds of a [`PostgresStore`](super::PostgresStore).
///
/// A time-out of zero means none.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `postgres://user@host:port/database`, or libpq's `key=value` pairs. Several hosts may be
    /// named; with `target_session_attrs=read-write` the one that takes writes is found.
    pub url: String,
    /// The password, if the URL has none, so that the URL can stand in a file that people read.
    pub password: Option<String>,
    /// Connections at once.
    pub connections_max: usize,
    /// Calls that may wait for a connection; beyond, a call is `Overloaded` at once.
    pub waiters_max: usize,
    /// How long a call waits for a connection before it is `Overloaded`.
    pub acquire_timeout: Duration,
    /// How long connecting may take, TLS and the password included.
    pub connect_timeout: Duration,
    /// How long a statement may run. The server stops it then; if the server does not answer,
    /// the store asks it to and gives the connection up a little later.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// After which the server ends a transaction in which nothing happens: its client hangs.
    pub idle_in_transaction_timeout: Duration,
    /// Statements that stay prepared, on each connection; the one not used for longest goes.
    pub statements_max: usize,
    /// Whether a transaction pooler stands in between, which hands each transaction another
    /// connection of the server. Every call is then one transaction with unnamed statements and
    /// `SET LOCAL`, and there are no notifications.
    pub pooled: bool,
    /// Whether and how the connection is encrypted.
    pub tls: TlsMode,
    /// The name under which the server shows the connections.
    pub application_name: String,
}

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// In the clear to this machine (a loopback address or a Unix socket), verified to all
    /// others. The `sslmode` of the URL can ask for more: `require` means verified here too.
    #[default]
    Auto,
    /// In the clear, wherever the server is.
    Plaintext,
    /// Encrypted; the certificate must be valid for the host and signed by an authority that the
    /// machine trusts, or by one in this PEM file instead.
    Verified {
        /// Certificates of the authorities to trust in place of the machine's.
        ca_file: Option<PathBuf>,
    },
}

impl PostgresOptions {
    /// The defaults for a server: 16 connections and 4,096 calls that wait for one up to 5
    /// seconds, 5 seconds to connect, 10 for a statement and 3 of them for a lock, 30 in an idle
    /// transaction, 256 prepared statements, no pooler.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            connections_max: 16,
            waiters_max: 4096,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(3),
            idle_in_transaction_timeout: Duration::from_secs(30),
            statements_max: 256,
            pooled: false,
            tls: TlsMode::Auto,
            application_name: "zmsg".to_owned(),
        }
    }
}

/// Shows where and how, never the password, which can be part of the URL.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections_max", &self.connections_max)
            .field("waiters_max", &self.waiters_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("idle_in_transaction_timeout", &self.idle_in_transaction_timeout)
            .field("statements_max", &self.statements_max)
            .field("pooled", &self.pooled)
            .field("tls", &self.tls)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_password() {
        let mut options = PostgresOptions::new("postgres://me:hunter2@db/x?password=hunter3");
        options.password = Some("hunter4".to_owned());
        assert!(!format!("{options:?}").contains("hunter"), "{options:?}");
    }
}
