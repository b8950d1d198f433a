//! A process of a server, with its directory, its log and its watchdog.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::directory::{Account, Directory};
use super::processes::{self, Signal};
use super::until;
use super::watchdog::Watchdog;

/// How long a server may take to start on a busy machine, a recovery included.
const START_BOUND: Duration = Duration::from_secs(60);

/// How long a server may take to end when it is asked to.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// How long killed processes may take to be gone.
const KILL_BOUND: Duration = Duration::from_secs(10);

/// The file with the process id, and the file with what the server wrote.
const RUNNING: &str = "running";
const LOG: &str = "log";

/// Ends the server whose process id is in the directory, then removes the directory.
const CLEANUP: &str = r#"
process=$(cat "$1/running" 2>/dev/null)
if [ -n "$process" ]; then
    kill -"$2" "$process"
    kill -CONT "$process"
    looks=0
    while kill -0 "$process" && [ "$looks" -lt 100 ]; do
        sleep 0.1
        looks=$((looks + 1))
    done
    kill -KILL "$process"
fi
rm -rf -- "$1"
"#;

/// A server: its program and arguments, its directory, and the process while it runs.
#[derive(Debug)]
pub(super) struct Server {
    program: OsString,
    args: Mutex<Vec<OsString>>,
    /// What asks the server to end at once.
    ending: Signal,
    child: Mutex<Option<Child>>,
    // Called off before the directory goes: fields are dropped in their order.
    _watchdog: Watchdog,
    directory: Directory,
}

impl Server {
    /// A server that does not run yet, with an empty directory.
    pub(super) fn new(
        program: impl AsRef<OsStr>,
        account: Option<Account>,
        ending: Signal,
    ) -> io::Result<Self> {
        let directory = Directory::create(account)?;
        let watched: [&OsStr; 2] = [directory.path().as_os_str(), OsStr::new(ending.name())];
        let watchdog = Watchdog::start(CLEANUP, watched)?;
        Ok(Self {
            program: program.as_ref().to_owned(),
            args: Mutex::default(),
            ending,
            child: Mutex::default(),
            _watchdog: watchdog,
            directory,
        })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The arguments of the next start.
    pub(super) fn set_args(&self, args: impl IntoIterator<Item = impl Into<OsString>>) {
        *lock(&self.args) = args.into_iter().map(Into::into).collect();
    }

    /// Runs a program to its end, with the account and in the directory of the server.
    pub(super) fn run(&self, program: &Path, args: &[&OsStr]) -> io::Result<()> {
        let output = self.as_owner(program).args(args).output()?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(format!("{}: {}", program.display(), complaint.trim())))
    }

    /// Starts the process and waits until it is ready, which is asked with its id.
    ///
    /// # Errors
    /// If it does not run, ends, or is not ready in a minute; the text holds the end of its log.
    pub(super) fn start(&self, ready: impl Fn(u32) -> bool) -> io::Result<()> {
        let mut child = lock(&self.child);
        if child.is_some() {
            return Err(io::Error::other("the server runs already"));
        }
        let log =
            File::options().create(true).append(true).open(self.directory.path().join(LOG))?;
        // The shell leaves its own process id, which becomes that of the server, before anything
        // has been started that would have to be ended.
        let mut command = self.as_owner(Path::new("/bin/sh"));
        command.args(["-c", &format!("echo $$ > {RUNNING}; exec \"$0\" \"$@\"")]);
        command.arg(&self.program).args(lock(&self.args).iter());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut started = command.spawn()?;
        let id = started.id();
        let mut ended = None;
        let answered = until(START_BOUND, || {
            ended = started.try_wait().ok().flatten();
            ended.is_some() || ready(id)
        });
        *child = Some(started);
        if answered && ended.is_none() {
            return Ok(());
        }
        drop(child);
        self.end(Signal::Kill, KILL_BOUND);
        let what = ended.map_or_else(|| "is not ready".to_owned(), |s| format!("ended ({s})"));
        let text = format!("{} {what}:\n{}", self.program.to_string_lossy(), tail(&self.log()));
        Err(io::Error::other(text))
    }

    /// Asks the process to end and waits for that; kills it if it does not.
    pub(super) fn stop(&self, signal: Signal) {
        self.end(signal, STOP_BOUND);
    }

    /// Ends the process and its children without a chance to do anything.
    pub(super) fn kill(&self) {
        self.end(Signal::Kill, KILL_BOUND);
    }

    /// Ends the process as fast as it can without leaving anything behind in the system.
    pub(super) fn end_now(&self) {
        self.resume();
        self.end(self.ending, KILL_BOUND);
    }

    /// Stops the process and its children where they stand.
    pub(super) fn pause(&self) {
        // The parent first: it must not start more of them.
        let Some(id) = self.id() else { return };
        let _ = processes::send(Signal::Stop, &[id]);
        let _ = processes::send(Signal::Stop, &processes::children(id));
    }

    /// Lets paused processes go on.
    pub(super) fn resume(&self) {
        let Some(id) = self.id() else { return };
        let _ = processes::send(Signal::Continue, &processes::children(id));
        let _ = processes::send(Signal::Continue, &[id]);
    }

    /// The process id while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    /// All that the server wrote.
    pub(super) fn log(&self) -> String {
        let log = fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn end(&self, signal: Signal, bound: Duration) {
        let mut child = lock(&self.child);
        let Some(mut ending) = child.take() else { return };
        let id = ending.id();
        if signal != Signal::Kill {
            let _ = processes::send(signal, &[id]);
        }
        let mut ended = || ending.try_wait().is_ok_and(|status| status.is_some());
        if signal == Signal::Kill || !until(bound, &mut ended) {
            // Standing still it cannot start children that we would miss.
            let _ = processes::send(Signal::Stop, &[id]);
            let children = processes::children(id);
            let _ = ending.kill();
            let _ = processes::send(Signal::Kill, &children);
            let _ = ending.wait();
            until(KILL_BOUND, || !children.iter().any(|&child| processes::is_alive(child)));
        }
        // The number may now become that of somebody else.
        let _ = fs::remove_file(self.directory.path().join(RUNNING));
    }

    fn as_owner(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Ctrl-C at the terminal must not end a server before the tests that use it.
        command.current_dir(self.directory.path()).process_group(0);
        command.env_remove("PGDATA").env_remove("PGPORT").env_remove("PGOPTIONS");
        if let Some(Account { user, group }) = self.directory.account() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
