//! Which database, and who else may work on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_util::task::TaskTracker;
use zmsg::store::SqlStore;
use zmsg::{Config, ErrorKind, FileLock, Secret, distrust_filters, open_store};

/// Scripts of migrations may take as long as they need, or nearly.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The work is one by one; a script that runs for long has its beat beside it.
const CONNECTIONS_MAX: usize = 3;

/// The database of a command: one of the two.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Database {
    /// sqlite:PATH or postgres://USER@HOST/DATABASE. For PostgreSQL the variables ZMSG__STORE__…
    /// count (CA_FILE, POOLED …); the password may be in ZMSG__STORE__PASSWORD or PGPASSWORD.
    #[arg(long, env = "ZMSG_URL", hide_env_values = true)]
    url: Option<String>,
    /// The configuration of an engine, in place of --url: its store.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn SqlStore>,
    connections: TaskTracker,
    _lock: Option<FileLock>,
}

impl Database {
    /// The database of a URL.
    pub(crate) fn at(url: String) -> Self {
        Self::of(Some(url), None)
    }

    /// What was given on the command line.
    pub(crate) fn of(url: Option<String>, config: Option<PathBuf>) -> Self {
        Self { url, config }
    }

    /// Opens what is there, to look at it or to change what running engines do not mind.
    pub(crate) async fn open(&self) -> Result<Opened> {
        let config = self.config()?;
        if let Some(path) = sqlite_path(&config) {
            must_exist(&path)?;
        }
        Opened::of(&config, None).await
    }

    /// Opens the database to write rows. A file is locked for as long as it is open, since an
    /// engine whose own filter was not told of a row would call it absent; on PostgreSQL engines
    /// may run, and [`behind_filters`] is for their filters.
    pub(crate) async fn open_to_write(&self, create: bool) -> Result<Opened> {
        let config = self.config()?;
        let Some(path) = sqlite_path(&config) else { return Opened::of(&config, None).await };
        if create {
            make_folder_of(&path)?;
        } else {
            must_exist(&path)?;
        }
        let lock = match FileLock::database(&path, true) {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                bail!("an engine has the database open; close it, or ask it to do this")
            }
            locked => locked?,
        };
        Opened::of(&config, Some(lock)).await
    }

    fn config(&self) -> Result<Config> {
        let mut config = match (&self.url, &self.config) {
            (Some(url), None) => of_url(url)?,
            (None, Some(file)) => Config::load(file)?,
            (Some(_), Some(_)) => {
                bail!(
                    "--url (or the variable ZMSG_URL) and --config name a database each: give one"
                )
            }
            (None, None) => bail!(
                "which database? give --url sqlite:PATH, --url postgres://USER@HOST/DATABASE \
                 or --config FILE"
            ),
        };
        let store = &mut config.store;
        if is_postgres(&store.url) && !has_password(&config) {
            let password = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
            config.store.password = password.map(Secret::new);
        }
        config.store.connections_max = CONNECTIONS_MAX;
        config.store.statement_timeout = STATEMENT_TIMEOUT;
        Ok(config)
    }
}

impl Opened {
    async fn of(config: &Config, lock: Option<FileLock>) -> Result<Self> {
        let connections = TaskTracker::new();
        let store =
            open_store(config, &connections).await.context("could not open the database")?;
        Ok(Self { store, connections, _lock: lock })
    }

    /// Waits until every connection has ended.
    pub(crate) async fn close(self) -> Result<()> {
        self.store.close().await?;
        self.connections.close();
        self.connections.wait().await;
        Ok(())
    }
}

/// Runs work that may bring rows about which the filters that nodes share were not told of.
pub(crate) async fn behind_filters<T>(
    store: &Arc<dyn SqlStore>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    distrust_filters(store).await.context("nothing was done")?;
    let done = work.await;
    let told = distrust_filters(store).await;
    let done = done?;
    told.context(
        "the work is done, but filters that nodes share may not know its rows: \
         run `zmsg-admin distrust-filters`",
    )?;
    Ok(done)
}

/// The variables of an engine's store count for a URL of ours too; a path begins where we stand.
fn of_url(url: &str) -> Result<Config> {
    if !url.starts_with("sqlite:") && !is_postgres(url) {
        // The rest may hold a password.
        let scheme = url.split_once(':').map_or("a path alone", |(scheme, _)| scheme);
        bail!(
            "--url: there is no backend for {}; use sqlite:PATH or postgres://USER@HOST/DATABASE",
            scheme.escape_debug()
        );
    }
    let mut config = Config::from_env()?;
    config.store.url = url.to_owned();
    config.directory = PathBuf::new();
    config.validate()?;
    Ok(config)
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

fn has_password(config: &Config) -> bool {
    let store = &config.store;
    let rest = store.url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let in_url = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    in_url
        || rest.contains("password=")
        || store.password.is_some()
        || store.password_file.is_some()
}

fn sqlite_path(config: &Config) -> Option<PathBuf> {
    let path = config.store.url.strip_prefix("sqlite:")?;
    Some(config.directory.join(path.strip_prefix("//").unwrap_or(path)))
}

fn must_exist(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    bail!("there is no database at {}", path.display())
}

fn make_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))
}
