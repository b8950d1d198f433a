//! A PostgreSQL server of one's own.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::binaries::Binaries;
use super::directory::unprivileged;
use super::port::free_port;
use super::processes::Signal;
use super::server::Server;
use crate::random;
use crate::required::Requirement;

/// The superuser, whose password is random.
const USER: &str = "zmsg";

/// The directory of the data, inside that of the server.
const DATA: &str = "data";

/// What a private PostgreSQL server is like. By default it loses data when the machine fails, not
/// when it is killed, and takes 300 connections.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    settings: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl PostgresOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes through to the disk, as a server in use does.
    #[must_use]
    pub fn durable(self) -> Self {
        self.setting("fsync", "on").setting("full_page_writes", "on")
    }

    /// Sets a parameter of the server; a later one wins.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Puts a file of mode 0600 into the directory of the data: `server.key`, `server.crt`,
    /// `pg_hba.conf`.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }
}

/// A PostgreSQL server of one's own, on 127.0.0.1, with a superuser and a random password.
///
/// It ends and its data goes when the value is dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    port: u16,
    password: String,
}

impl PrivatePostgres {
    /// Starts one; `None`, said once, where there are no programs.
    ///
    /// # Panics
    /// If there are none and `ZMSG_TEST_REQUIRE` names `binaries`, and if it does not start.
    #[must_use]
    pub fn start(options: PostgresOptions) -> Option<Self> {
        let Some(programs) = Binaries::find().postgres else {
            Requirement::Binaries.leave_out("initdb and postgres are not on this machine");
            return None;
        };
        let started = Self::launch(&programs, &options);
        Some(started.unwrap_or_else(|error| panic!("no private PostgreSQL: {error}")))
    }

    /// Starts one from the programs in this directory.
    ///
    /// # Errors
    /// If it does not start; the text holds the end of its log.
    pub fn launch(programs: &Path, options: &PostgresOptions) -> io::Result<Self> {
        let account = unprivileged()?;
        let server = Server::new(programs.join("postgres"), account, Signal::Quit)?;
        let password = random::hex(16);
        initialize(&server, programs, &password)?;
        for (name, text) in &options.files {
            server.directory().write(Path::new(DATA).join(name), text)?;
        }
        let mut port = free_port();
        // Between the look at a port and the start somebody else may take it.
        for _ in 0..4 {
            server.set_args(arguments(port, options));
            match server.start(|process| is_ready(&server, process)) {
                Err(error) if error.to_string().contains("in use") => port = free_port(),
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { server, port, password }),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every port was taken"))
    }

    /// Where it is, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { port, password, .. } = self;
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres")
    }

    /// The name of the superuser.
    #[must_use]
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The password of the superuser.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.server.directory().path().join(DATA)
    }

    /// All that it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Whether the process was started and not ended by one of the calls below.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.server.id().is_some()
    }

    /// Kills the server and all its backends (SIGKILL). The data stays.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Shuts the server down, connections or not, with a checkpoint (SIGINT). The data stays.
    pub fn stop(&self) {
        self.server.stop(Signal::Int);
    }

    /// Starts the server again, on its port and data.
    ///
    /// # Panics
    /// If it runs already or does not start.
    pub fn restart(&self) {
        let started = self.server.start(|process| is_ready(&self.server, process));
        started.unwrap_or_else(|error| panic!("PostgreSQL does not start again: {error}"));
    }

    /// Stops the server and all its backends where they stand (SIGSTOP).
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets the paused server go on.
    pub fn resume(&self) {
        self.server.resume();
    }
}

fn initialize(server: &Server, programs: &Path, password: &str) -> io::Result<()> {
    let file = server.directory().write("password", password.as_bytes())?;
    let initdb = programs.join("initdb");
    let pwfile = format!("--pwfile={}", file.display());
    let args =
        ["-D", DATA, "-U", USER, &pwfile, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"];
    let args: Vec<&OsStr> = args.iter().chain(&["--no-sync"]).map(OsStr::new).collect();
    let done = server.run(&initdb, &args);
    fs::remove_file(file)?;
    done
}

fn arguments(port: u16, options: &PostgresOptions) -> Vec<String> {
    let port = port.to_string();
    let defaults = [
        ("port", port.as_str()),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        ("shared_buffers", "64MB"),
        ("fsync", "off"),
        ("full_page_writes", "off"),
    ];
    let own = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = defaults.into_iter().chain(own);
    let settings = settings.flat_map(|(name, value)| ["-c".into(), format!("{name}={value}")]);
    ["-D".to_owned(), DATA.to_owned()].into_iter().chain(settings).collect()
}

/// The server writes its process id and its state into its data; a probe of the port could be
/// answered by somebody else.
fn is_ready(server: &Server, process: u32) -> bool {
    let path = server.directory().path().join(DATA).join("postmaster.pid");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let own = lines.next().is_some_and(|line| line.trim() == process.to_string());
    own && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}
