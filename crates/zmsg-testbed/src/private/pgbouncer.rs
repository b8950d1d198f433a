//! A pooler of one's own before a PostgreSQL server of one's own.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::binaries::Binaries;
use super::directory::unprivileged;
use super::port::free_port;
use super::postgres::PrivatePostgres;
use super::processes::Signal;
use super::server::Server;
use crate::required::Requirement;

/// When a pooler gives a connection of the server to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// After each transaction.
    Transaction,
}

/// A PgBouncer before a server, with the server's user and password.
#[derive(Debug)]
pub struct PrivatePgbouncer {
    server: Server,
    port: u16,
    user: String,
    password: String,
}

impl PrivatePgbouncer {
    /// Starts one; `None`, said once, where there is no program. `settings` are further lines of
    /// its configuration.
    ///
    /// # Panics
    /// If there is none and `ZMSG_TEST_REQUIRE` names `binaries`, and if it does not start.
    #[must_use]
    pub fn start(before: &PrivatePostgres, mode: PoolMode, settings: &[&str]) -> Option<Self> {
        let Some(program) = Binaries::find().pgbouncer else {
            Requirement::Binaries.leave_out("pgbouncer is not on this machine");
            return None;
        };
        let started = Self::launch(&program, before, mode, settings);
        Some(started.unwrap_or_else(|error| panic!("no private PgBouncer: {error}")))
    }

    fn launch(
        program: &Path,
        before: &PrivatePostgres,
        mode: PoolMode,
        settings: &[&str],
    ) -> io::Result<Self> {
        let server = Server::new(program, unprivileged()?, Signal::Quit)?;
        let (user, password) = (before.user().to_owned(), before.password().to_owned());
        let users = format!("\"{user}\" \"{password}\"\n");
        server.directory().write("users", users.as_bytes())?;
        let port = free_port();
        let text = configuration(port, before.port(), mode, settings);
        server.directory().write("pgbouncer.ini", text.as_bytes())?;
        server.set_args(["pgbouncer.ini"]);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        server.start(|_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())?;
        Ok(Self { server, port, user, password })
    }

    /// Where it is, with the password of the server.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { port, user, password, .. } = self;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/postgres")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}

fn configuration(port: u16, server: u16, mode: PoolMode, settings: &[&str]) -> String {
    let mode = match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    };
    let more: String = settings.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = users\npool_mode = {mode}\n\
         max_client_conn = 500\ndefault_pool_size = 20\n{more}"
    )
}
