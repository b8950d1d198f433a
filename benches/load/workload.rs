//! A workload, as its file describes it; `benches/workloads` has some to begin with.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::mix::Kind;

/// What is done to which engine, how, and for how long.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What the engine works on.
    pub backend: Backend,
    /// Where the servers are, if the file says so.
    pub servers: Servers,
    /// Calls that begin this early are made and not measured.
    pub warm_up: Duration,
    /// How long calls are measured, from then on.
    pub duration: Duration,
    /// Whether the store is compared with the writes that were made.
    pub verify: bool,
    /// Whether the periodic route has its journal: each of its writes is then on the disk when its call ends.
    pub journal: bool,
    /// What every random choice begins with.
    pub seed: u64,
    /// What makes the calls.
    pub drive: Drive,
    /// The rows, and which of them are asked for.
    pub keys: Keys,
    /// How long writes of the delayed route wait in the queue.
    pub delay: Duration,
    /// The share of each kind of call.
    pub mix: BTreeMap<Kind, u32>,
}

/// What the engine works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// SQLite in a temporary directory.
    Embedded,
    /// PostgreSQL and Redis.
    Servers,
}

/// Where the servers are. What a file leaves open comes from the environment.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// The database in which the program makes a table of its own.
    pub postgres: Option<String>,
    /// The Redis that goes with it.
    pub redis: Option<String>,
}

impl fmt::Debug for Servers {
    /// Without the addresses: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("postgres", &self.postgres.is_some())
            .field("redis", &self.redis.is_some())
            .finish()
    }
}

/// What makes the calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drive {
    /// Tasks that make one call after the other.
    Closed {
        /// How many.
        tasks: usize,
    },
    /// Calls that begin at given moments, whether or not earlier ones have ended.
    Open {
        /// Calls per second.
        rate: f64,
        /// How they are spread over the second.
        arriving: Arriving,
        /// Calls that may be under way; beyond it the generator waits, and says how late it is.
        in_flight_max: usize,
    },
}

/// How the calls of an open loop are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arriving {
    /// As those of many users who do not know of each other.
    Poisson,
    /// At equal distances.
    Fixed,
}

/// The rows, and which of them are asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Rows in the table before anything is measured.
    pub rows: usize,
    /// The exponent of Zipf's law; all rows alike without it.
    pub zipf: Option<f64>,
    /// Bytes of a value.
    #[serde(default = "value_bytes")]
    pub value_bytes: usize,
    /// Keys of one `get_many`.
    #[serde(default = "many")]
    pub many: usize,
}

/// The file itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    backend: Backend,
    #[serde(default)]
    servers: Servers,
    #[serde(default)]
    warm_up_s: f64,
    duration_s: f64,
    #[serde(default)]
    verify: bool,
    #[serde(default = "journal")]
    journal: bool,
    #[serde(default = "seed")]
    seed: u64,
    #[serde(default = "delay_ms")]
    delay_ms: u64,
    closed: Option<Closed>,
    open: Option<Open>,
    keys: Keys,
    mix: BTreeMap<Kind, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    tasks: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    rate: f64,
    #[serde(default = "arriving")]
    arriving: Arriving,
    #[serde(default = "in_flight_max")]
    in_flight_max: usize,
}

fn journal() -> bool {
    true
}
fn seed() -> u64 {
    7
}
fn delay_ms() -> u64 {
    20
}
fn value_bytes() -> usize {
    256
}
fn many() -> usize {
    16
}
fn arriving() -> Arriving {
    Arriving::Poisson
}
fn in_flight_max() -> usize {
    1_024
}

impl Workload {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or a field is missing, unknown or out of its range.
    pub fn load(path: &Path) -> Result<Self, WorkloadError> {
        let text = fs::read_to_string(path)
            .map_err(|cause| WorkloadError::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str) -> Result<Self, WorkloadError> {
        let file: File = toml::from_str(text).map_err(WorkloadError::Malformed)?;
        let drive = file.drive()?;
        let File { backend, servers, verify, journal, seed, keys, mix, .. } = file;
        within("keys.rows", keys.rows as f64, 1.0, 10_000_000.0)?;
        within("keys.value_bytes", keys.value_bytes as f64, 1.0, f64::from(1 << 20))?;
        within("keys.many", keys.many as f64, 1.0, 1_000.0)?;
        if let Some(exponent) = keys.zipf {
            within("keys.zipf", exponent, 0.0, 5.0)?;
        }
        if mix.values().all(|share| *share == 0) {
            return Err(field("mix", "has no call with a share above 0"));
        }
        Ok(Self {
            backend,
            servers,
            warm_up: seconds("warm_up_s", file.warm_up_s, 0.0)?,
            duration: seconds("duration_s", file.duration_s, 0.001)?,
            verify,
            journal,
            seed,
            drive,
            keys,
            delay: Duration::from_millis(file.delay_ms),
            mix,
        })
    }
}

impl File {
    fn drive(&self) -> Result<Drive, WorkloadError> {
        match (&self.closed, &self.open) {
            (Some(Closed { tasks }), None) => {
                within("closed.tasks", *tasks as f64, 1.0, 100_000.0)?;
                Ok(Drive::Closed { tasks: *tasks })
            }
            (None, Some(open)) => {
                within("open.rate", open.rate, 0.1, 1_000_000.0)?;
                let Open { rate, arriving, in_flight_max } = *open;
                within("open.in_flight_max", in_flight_max as f64, 1.0, 1_000_000.0)?;
                Ok(Drive::Open { rate, arriving, in_flight_max })
            }
            (Some(_), Some(_)) => {
                Err(field("open", "is there beside `closed`: a run has one loop"))
            }
            (None, None) => {
                Err(field("closed", "is missing, and so is `open`: a run has one loop"))
            }
        }
    }
}

fn seconds(name: &'static str, value: f64, low: f64) -> Result<Duration, WorkloadError> {
    within(name, value, low, 86_400.0)?;
    Ok(Duration::from_secs_f64(value))
}

fn within(name: &'static str, value: f64, low: f64, high: f64) -> Result<(), WorkloadError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(field(name, format!("is {value}, and has to be between {low} and {high}")))
}

fn field(field: &'static str, problem: impl Into<String>) -> WorkloadError {
    WorkloadError::Field { field, problem: problem.into() }
}

/// Why a workload cannot be run.
#[derive(Debug)]
pub enum WorkloadError {
    /// The file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It is no TOML, or a field is unknown, missing or of another type: the text shows the line.
    Malformed(toml::de::Error),
    /// A field cannot be as it is.
    Field {
        /// Its path in the file.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// It wants servers, and nobody says where one is.
    NoServer {
        /// The field of the file that could say it.
        field: &'static str,
        /// The variable that could say it.
        variable: &'static str,
    },
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "could not read {}", path.display()),
            Self::Malformed(cause) => {
                write!(f, "the workload is malformed: {}", cause.to_string().trim())
            }
            Self::Field { field, problem } => write!(f, "`{field}` {problem}"),
            Self::NoServer { field, variable } => write!(
                f,
                "the workload wants servers: give `{field}` or the variable {variable}, or run it by `cargo xtask load`"
            ),
        }
    }
}

impl std::error::Error for WorkloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "backend = 'embedded'\nduration_s = 1\n[closed]\ntasks = 4\n[keys]\nrows = 10\n[mix]\nget = 1\n";

    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        Workload::parse(&GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn what_a_file_leaves_out_has_its_default() {
        let workload = Workload::parse(GOOD).unwrap();
        assert_eq!(workload.drive, Drive::Closed { tasks: 4 });
        assert_eq!((workload.warm_up, workload.verify), (Duration::ZERO, false));
        assert!(workload.journal);
        assert_eq!((workload.keys.value_bytes, workload.keys.zipf), (256, None));
        let open =
            Workload::parse(&GOOD.replace("[closed]\ntasks = 4", "[open]\nrate = 50")).unwrap();
        let expected =
            Drive::Open { rate: 50.0, arriving: Arriving::Poisson, in_flight_max: 1_024 };
        assert_eq!(open.drive, expected);
    }

    #[test]
    fn an_error_names_the_field() {
        for (from, to, names) in [
            ("tasks = 4", "task = 4", "unknown field `task`"),
            ("tasks = 4", "tasks = 0", "`closed.tasks` is 0, and has to be between"),
            ("get = 1", "gett = 1", "unknown variant `gett`"),
            ("get = 1", "get = 0", "`mix` has no call"),
            ("get = 1", "", "`mix` has no call"),
            ("rows = 10\n", "", "missing field `rows`"),
            ("rows = 10\n", "rows = 10\nzipf = -1\n", "`keys.zipf` is -1"),
            ("duration_s = 1", "duration_s = nan", "`duration_s` is NaN"),
            ("[closed]\ntasks = 4\n", "", "`closed` is missing"),
            ("[closed]", "[open]\nrate = 1\n[closed]", "`open` is there beside `closed`"),
            ("[closed]\ntasks = 4", "[open]\nrate = 0", "`open.rate` is 0"),
            ("'embedded'", "'cloud'", "unknown variant `cloud`"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn an_error_of_the_text_shows_its_line() {
        let error = refused("tasks = 4", "tasks = 'four'");
        assert!(error.contains("line 4") && error.contains("tasks = 'four'"), "{error}");
    }

    #[test]
    fn the_workloads_of_the_project_can_be_run() {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let files = fs::read_dir(place).unwrap().map(|file| file.unwrap().path());
        let read: Vec<_> = files.map(|path| Workload::load(&path).unwrap()).collect();
        assert!(read.len() >= 3);
    }

    #[test]
    fn addresses_are_not_shown() {
        let servers = Servers { postgres: Some("postgres://a:s3cret@h/d".into()), redis: None };
        assert!(!format!("{servers:?}").contains("s3cret"));
    }
}
