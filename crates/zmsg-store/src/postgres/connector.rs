//! Making connections to the server.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, ErrorKind, Result};

use super::error::{Phase, from_postgres};
use super::transaction::Access;
use super::{PostgresOptions, tls};

/// How long asking the server to stop a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// All that a connection needs to come into being.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    setup: String,
    begin: [String; 2],
    connect_timeout: Duration,
    tracker: TaskTracker,
    runtime: Handle,
}

/// A connection that is ready for work.
pub(super) struct Connected {
    pub(super) client: Client,
    /// New sessions are read-only by order of the database's owner, or the server is a standby.
    pub(super) read_only: bool,
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions, tracker: TaskTracker) -> Result<Self> {
        let mut config: Config = options.url.parse().map_err(|_| {
            // The cause could quote a part of the URL, and so of the password.
            Error::invalid_config("the URL of postgres cannot be read")
        })?;
        if let Some(password) = &options.password {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name(&options.application_name);
        }
        if !options.connect_timeout.is_zero() {
            config.connect_timeout(options.connect_timeout);
        }
        // A server that vanished without a word is noticed in a minute, not in two hours.
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3);
        let tls = tls::connector(&options.tls, &mut config)?;
        let setup = if options.pooled { String::new() } else { settings(options, ";SET ") };
        // Behind a pooler nothing can be set but for a transaction.
        let local = if options.pooled { settings(options, ";SET LOCAL ") } else { String::new() };
        // Whatever the database's default: ledgers, inboxes and checks rest on each statement seeing
        // what was committed before it.
        let level = "ISOLATION LEVEL READ COMMITTED";
        let begin =
            ["READ ONLY", "READ WRITE"].map(|access| format!("BEGIN {level} {access}{local}"));
        let connect_timeout = options.connect_timeout;
        let runtime = Handle::current();
        Ok(Self { config, tls, setup, begin, connect_timeout, tracker, runtime })
    }

    /// What begins a transaction.
    pub(super) fn begin(&self, access: Access) -> &str {
        match access {
            Access::Read => &self.begin[0],
            Access::Write => &self.begin[1],
        }
    }

    /// Connects, with the password if asked, and sets the connection up.
    pub(super) async fn connect(&self) -> Result<Connected> {
        let connecting = async {
            let (client, driver) = self.dial().await?;
            self.spawn(driver);
            self.set_up(client).await
        };
        self.in_time(connecting).await
    }

    /// Connects and leaves the driving of the connection to the caller.
    pub(super) async fn dial(&self) -> Result<(Client, Driver)> {
        let failed = |error| from_postgres(error, Phase::Connect).error;
        match &self.tls {
            None => {
                let (client, driver) = self.config.connect(NoTls).await.map_err(failed)?;
                Ok((client, Driver::Plain(Box::new(driver))))
            }
            Some(tls) => {
                let (client, driver) = self.config.connect(tls.clone()).await.map_err(failed)?;
                Ok((client, Driver::Encrypted(Box::new(driver))))
            }
        }
    }

    /// Bounds the making of a connection.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.connect_timeout.is_zero() {
            return work.await;
        }
        timeout(self.connect_timeout, work).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, "could not connect to postgres in time")
                .temporary())
        })
    }

    async fn set_up(&self, client: Client) -> Result<Connected> {
        // The second is on with the first, and on a standby whatever the first is.
        let query =
            format!("SHOW default_transaction_read_only;SHOW transaction_read_only{}", self.setup);
        let answers = client.simple_query(&query).await;
        let answers = answers.map_err(|error| from_postgres(error, Phase::Connect).error)?;
        let read_only = answers.iter().any(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
            _ => false,
        });
        Ok(Connected { client, read_only })
    }

    fn spawn(&self, driver: Driver) {
        let drive = async move {
            let ended = match driver {
                Driver::Plain(driver) => driver.await,
                Driver::Encrypted(driver) => driver.await,
            };
            if let Err(error) = ended {
                // Whoever was waiting for an answer hears of it; an idle connection is replaced.
                tracing::debug!(%error, "a connection to postgres ended");
            }
        };
        self.tracker.spawn_on(drive, &self.runtime);
    }

    /// Runs something beside the callers.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(work, &self.runtime);
    }

    /// Asks the server to stop what a connection is doing. Whether it does, the connection tells.
    pub(super) async fn cancel(&self, token: &CancelToken) {
        let asked = async {
            match &self.tls {
                None => token.cancel_query(NoTls).await,
                Some(tls) => token.cancel_query(tls.clone()).await,
            }
        };
        if !matches!(timeout(CANCEL_TIMEOUT, asked).await, Ok(Ok(()))) {
            tracing::debug!("could not ask postgres to stop a statement");
        }
    }
}

/// The half of a connection that moves the bytes.
pub(super) enum Driver {
    Plain(Box<tokio_postgres::Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    Encrypted(
        Box<
            tokio_postgres::Connection<
                Socket,
                <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream,
            >,
        >,
    ),
}

/// The settings that every statement counts on, each as `;SET …` or `;SET LOCAL …`.
fn settings(options: &PostgresOptions, set: &str) -> String {
    let mut text = String::new();
    for (name, limit) in [
        ("statement_timeout", options.statement_timeout),
        ("lock_timeout", options.lock_timeout),
        ("idle_in_transaction_session_timeout", options.idle_in_transaction_timeout),
    ] {
        // Writing to a String cannot fail.
        let _ = write!(text, "{set}{name} = {}", limit.as_millis().min(i32::MAX as u128));
    }
    // The lexer that finds the binds reads strings as the standard does.
    let _ = write!(text, "{set}standard_conforming_strings = on");
    // A statement by itself has no BEGIN that says so. Lanes look, behind a lock, for those before them: in an
    // older snapshot they would not find them.
    let _ = write!(text, "{set}default_transaction_isolation = 'read committed'");
    text
}
