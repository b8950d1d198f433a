//! Administration from the command line: migrations, dead letters, and what is wrong with servers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use zmsg::aggregate::sqlite_functions;
use zmsg::core::SystemClock;
use zmsg::queue::{SqlQueueOptions, SqlTaskQueue};
use zmsg::store::migrate::{Plan, Report, State, create};
use zmsg::store::{Migrations, Migrator, SqlStore, SqliteOptions, SqliteStore};
use zmsg::{Config, DeadLetterId, DeadLetters, ErrorKind, FileLock};

#[derive(Debug, Parser)]
#[command(name = "zmsg-admin", about = "Migrations, dead letters and servers of zmsg")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, apply, take back and show migrations: zmsg's own tables, then those of --dir.
    Migrate {
        #[command(subcommand)]
        action: Migrate,
    },
    /// List, retry or drop what the database refused for good.
    DeadLetters {
        #[command(subcommand)]
        action: Dead,
    },
    /// Check the settings of the servers and the directory; fails if a promise does not hold.
    Doctor {
        /// The configuration of the engine; variables of the environment count as they do there.
        #[arg(long)]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct Database {
    /// The database: sqlite:PATH.
    #[arg(long, env = "ZMSG_URL", hide_env_values = true)]
    url: String,
}

#[derive(Debug, Subcommand)]
enum Migrate {
    /// Apply what is pending.
    Up {
        #[command(flatten)]
        database: Database,
        /// The application's own migrations.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Show the statements and run none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the newest migrations back: those of --dir, or without it zmsg's own.
    Down {
        #[command(flatten)]
        database: Database,
        /// The application's own migrations.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// How many.
        #[arg(long, default_value_t = 1)]
        steps: usize,
        /// Show the statements and run none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is applied, pending, edited or missing.
    Status {
        #[command(flatten)]
        database: Database,
        /// The application's own migrations.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Make a new, empty migration in --dir.
    New {
        /// What it does, in a few words joined by underscores.
        name: String,
        /// The application's own migrations.
        #[arg(long, default_value = "schema")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Dead {
    /// Show the oldest dead letters.
    List {
        #[command(flatten)]
        database: Database,
        /// How many of each route.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try one again: a periodic one now, a delayed one by its queue's next worker.
    Retry {
        #[command(flatten)]
        database: Database,
        /// As listed: periodic:UUID or delayed:UUID.
        id: DeadLetterId,
    },
    /// Drop one for good.
    Drop {
        #[command(flatten)]
        database: Database,
        /// As listed: periodic:UUID or delayed:UUID.
        id: DeadLetterId,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Migrate { action } => migrate(action).await,
        Command::DeadLetters { action } => dead_letters(action).await,
        Command::Doctor { config, json } => match doctor(&config, json).await {
            Ok(false) => Ok(()),
            // It has said already why.
            Ok(true) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", said_once(&error));
            ExitCode::FAILURE
        }
    }
}

/// The store, locked for as long as the lock is kept: an engine whose filter was not told of a
/// write would call its rows absent.
async fn open_alone(database: &Database, create: bool) -> Result<(Arc<dyn SqlStore>, FileLock)> {
    let path = path(database)?;
    if let Some(folder) = path.parent().filter(|folder| create && !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
    }
    let lock = match FileLock::database(&path, true) {
        Err(error) if error.kind() == ErrorKind::Conflict => {
            bail!("an engine has the database open; close it, or ask it to do this")
        }
        locked => locked?,
    };
    Ok((open(database, create).await?, lock))
}

fn path(database: &Database) -> Result<PathBuf> {
    let Some(path) = database.url.strip_prefix("sqlite:") else {
        bail!("--url: this build knows sqlite:PATH");
    };
    Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

/// The chain of causes; one that its effect quotes already is not said again.
fn said_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn open(database: &Database, create: bool) -> Result<Arc<dyn SqlStore>> {
    let path = path(database)?;
    if !create && !path.is_file() {
        bail!("--url: there is no database at {}", path.display());
    }
    let options = SqliteOptions { functions: sqlite_functions(), ..SqliteOptions::new(&path) };
    let store = SqliteStore::open(options).await;
    Ok(Arc::new(store.with_context(|| format!("could not open {}", path.display()))?))
}

/// zmsg's own tables first, for the application's may build on them.
fn migrators(store: &Arc<dyn SqlStore>, dir: Option<&PathBuf>) -> Result<Vec<Migrator>> {
    let own = Migrator::new(Arc::clone(store), Migrations::zmsg(store.dialect()));
    let mut all = vec![own];
    if let Some(dir) = dir {
        all.push(Migrator::new(Arc::clone(store), Migrations::load_dir(dir, "app")?));
    }
    Ok(all)
}

/// Prints what was found; whether a promise does not hold.
async fn doctor(config: &Path, json: bool) -> Result<bool> {
    let diagnosis = zmsg::doctor::examine(&Config::load(config)?).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&diagnosis)?);
    } else {
        println!("{diagnosis}");
    }
    Ok(diagnosis.has_errors())
}

async fn migrate(action: Migrate) -> Result<()> {
    match action {
        Migrate::Up { database, dir, dry_run } => {
            let (store, _lock) = open_alone(&database, true).await?;
            for migrator in migrators(&store, dir.as_ref())? {
                if dry_run {
                    print_plan(&migrator.plan_up().await?);
                } else {
                    print_report("applied", &migrator.up().await?);
                }
            }
            store.close().await?;
        }
        Migrate::Down { database, dir, steps, dry_run } => {
            let (store, _lock) = open_alone(&database, false).await?;
            if let Some(migrator) = migrators(&store, dir.as_ref())?.pop() {
                if dry_run {
                    print_plan(&migrator.plan_down(steps).await?);
                } else {
                    print_report("taken back", &migrator.down(steps).await?);
                }
            }
            store.close().await?;
        }
        Migrate::Status { database, dir } => {
            let store = open(&database, false).await?;
            for migrator in migrators(&store, dir.as_ref())? {
                for status in migrator.status().await? {
                    println!("{}  {}  {}", status.version, state(&status.state), status.name);
                }
            }
            store.close().await?;
        }
        Migrate::New { name, dir } => {
            println!("{}", create(&dir, &name, &SystemClock)?.display());
        }
    }
    Ok(())
}

fn state(state: &State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Applied { .. } => "applied",
        State::Edited => "EDITED",
        State::Missing => "MISSING",
        State::Interrupted { .. } => "interrupted",
    }
}

fn print_plan(plan: &[Plan]) {
    if plan.is_empty() {
        println!("nothing to do");
    }
    for script in plan {
        println!("-- {} {} ({:?})", script.version, script.name, script.direction);
        for statement in &script.statements {
            println!("{statement};");
        }
    }
}

fn print_report(done: &str, report: &Report) {
    if report.done.is_empty() {
        println!("nothing to do");
    }
    for name in &report.done {
        println!("{done}: {name}");
    }
}

async fn dead_letters(action: Dead) -> Result<()> {
    let (Dead::List { database, .. } | Dead::Retry { database, .. } | Dead::Drop { database, .. }) =
        &action;
    let (store, _lock) = match &action {
        Dead::List { .. } => (open(database, false).await?, None),
        Dead::Retry { .. } | Dead::Drop { .. } => {
            let (store, lock) = open_alone(database, false).await?;
            (store, Some(lock))
        }
    };
    let clock = Arc::new(SystemClock);
    let queue = SqlTaskQueue::new(Arc::clone(&store), clock, SqlQueueOptions::default())?;
    let letters = DeadLetters::of(Arc::clone(&store), Arc::new(queue));
    match action {
        Dead::List { limit, .. } => {
            let listed = letters.list(limit).await?;
            if listed.is_empty() {
                println!("no dead letters");
            }
            for letter in listed {
                println!("{}  {}  {}  {}", letter.id, letter.at, letter.summary, letter.cause);
            }
        }
        Dead::Retry { id, .. } if letters.retry(id).await? => println!("tried again: {id}"),
        Dead::Drop { id, .. } if letters.drop(id).await? => println!("dropped: {id}"),
        Dead::Retry { id, .. } | Dead::Drop { id, .. } => bail!("there is no dead letter {id}"),
    }
    store.close().await?;
    Ok(())
}
