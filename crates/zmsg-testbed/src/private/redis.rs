//! A Redis server of one's own.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binaries::Binaries;
use super::port::free_port;
use super::processes::Signal;
use super::server::Server;
use crate::random;
use crate::required::Requirement;

/// The configuration, which a sentinel writes anew itself.
const FILE: &str = "redis.conf";

/// How long a probe waits for an answer.
const PROBE: Duration = Duration::from_millis(500);

/// What a private Redis server is like. By default it keeps nothing on the disk and has a random
/// password.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    directives: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    open: bool,
    sentinel: bool,
}

impl RedisOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line to its configuration, `appendonly yes`; a later one wins.
    #[must_use]
    pub fn directive(mut self, line: impl Into<String>) -> Self {
        self.directives.push(line.into());
        self
    }

    /// Puts a file of mode 0600 into its directory, which is also its working directory.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Asks nobody for a password.
    #[must_use]
    pub fn without_password(mut self) -> Self {
        self.open = true;
        self
    }

    /// Runs as a sentinel; what it watches is told by directives.
    #[must_use]
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }
}

/// A Redis server of one's own, on 127.0.0.1.
///
/// It ends and its data goes when the value is dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    server: Server,
    port: u16,
    password: Option<String>,
}

impl PrivateRedis {
    /// Starts one; `None`, said once, where there is no program.
    ///
    /// # Panics
    /// If there is none and `ZMSG_TEST_REQUIRE` names `binaries`, and if it does not start.
    #[must_use]
    pub fn start(options: RedisOptions) -> Option<Self> {
        let Some(program) = Binaries::find().redis else {
            Requirement::Binaries.leave_out("redis-server is not on this machine");
            return None;
        };
        let started = Self::launch(&program, &options);
        Some(started.unwrap_or_else(|error| panic!("no private Redis: {error}")))
    }

    /// Starts one from this program.
    ///
    /// # Errors
    /// If it does not start; the text holds the end of its log.
    pub fn launch(program: &Path, options: &RedisOptions) -> io::Result<Self> {
        let server = Server::new(program, None, Signal::Kill)?;
        let password = (!options.open).then(|| random::hex(16));
        for (name, text) in &options.files {
            server.directory().write(name, text)?;
        }
        server.set_args([FILE].into_iter().chain(options.sentinel.then_some("--sentinel")));
        // Between the look at a port and the start somebody else may take it.
        for _ in 0..4 {
            let port = free_port();
            let text = configuration(port, password.as_deref(), options);
            server.directory().write(FILE, text.as_bytes())?;
            match server.start(|process| is_ready(port, password.as_deref(), process)) {
                Err(error) if error.to_string().contains("in use") => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { server, port, password }),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every port was taken"))
    }

    /// Where it is, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{}/", password.unwrap_or_default(), self.port)
    }

    /// Its password.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory, which holds the data.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.server.directory().path().to_owned()
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

    /// What it answers to a command without quoted arguments, as it comes over the connection; nothing
    /// if it does not answer.
    #[must_use]
    pub fn ask(&self, command: &str) -> String {
        answer(self.port, self.password.as_deref(), command).unwrap_or_default()
    }

    /// Whether it has received all that `primary` has written so far.
    #[must_use]
    pub fn has_data_of(&self, primary: &Self) -> bool {
        let offset = |server: &Self| {
            let info = server.ask("INFO replication");
            info.lines().find(|line| line.starts_with("master_repl_offset:")).map(str::to_owned)
        };
        // The primary first: what it writes meanwhile does not count.
        let written = offset(primary);
        written.is_some() && written == offset(self)
    }

    /// Kills the server (SIGKILL). What it had on the disk stays.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Shuts the server down (SIGTERM); it saves what it is configured to save.
    pub fn stop(&self) {
        self.server.stop(Signal::Term);
    }

    /// Starts the server again, on its port and data.
    ///
    /// # Panics
    /// If it runs already or does not start.
    pub fn restart(&self) {
        let ready = |process| is_ready(self.port, self.password.as_deref(), process);
        let started = self.server.start(ready);
        started.unwrap_or_else(|error| panic!("Redis does not start again: {error}"));
    }

    /// Stops the server where it stands (SIGSTOP).
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets the paused server go on.
    pub fn resume(&self) {
        self.server.resume();
    }
}

fn configuration(port: u16, password: Option<&str>, options: &RedisOptions) -> String {
    let mut text = format!("bind 127.0.0.1\nport {port}\ndaemonize no\n");
    if let Some(password) = password {
        text += &format!("requirepass {password}\n");
    }
    if !options.sentinel {
        text += "save \"\"\nappendonly no\n";
    }
    for directive in &options.directives {
        text += &format!("{directive}\n");
    }
    text
}

/// Whether this very process answers on the port, with its data loaded.
fn is_ready(port: u16, password: Option<&str>, process: u32) -> bool {
    let answer = answer(port, password, "INFO").unwrap_or_default();
    answer.contains(&format!("\nprocess_id:{process}\r")) && !answer.contains("\nloading:1\r")
}

fn answer(port: u16, password: Option<&str>, command: &str) -> io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    let login = password.map(|password| format!("AUTH {password}\r\n")).unwrap_or_default();
    stream.write_all(format!("{login}{command}\r\nQUIT\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // A sentinel knows no QUIT: its answer ends with the patience of the probe.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
