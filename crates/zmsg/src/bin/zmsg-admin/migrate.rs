//! Migrations: zmsg's own tables, then those of the application.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;
use zmsg::BehindFilters;
use zmsg::core::SystemClock;
use zmsg::store::migrate::{Plan, Report, State, create};
use zmsg::store::{Migrations, Migrator, SqlStore};

use crate::database::{Database, behind_filters};

#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
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

pub(crate) async fn run(action: Migrate) -> Result<()> {
    match action {
        Migrate::Up { database, dir, dry_run } => {
            let opened = database.open_to_write(true).await?;
            up(&opened.store, dir.as_deref(), dry_run).await?;
            opened.close().await
        }
        Migrate::Down { database, dir, steps, dry_run } => {
            let opened = database.open_to_write(false).await?;
            down(&opened.store, dir.as_deref(), steps, dry_run).await?;
            opened.close().await
        }
        Migrate::Status { database, dir } => {
            let opened = database.open().await?;
            for migrator in migrators(&opened.store, dir.as_deref())? {
                for status in migrator.status().await? {
                    println!("{}  {}  {}", status.version, state(&status.state), status.name);
                }
            }
            opened.close().await
        }
        Migrate::New { name, dir } => {
            println!("{}", create(&dir, &name, &SystemClock)?.display());
            Ok(())
        }
    }
}

/// zmsg's own tables first, for the application's may build on them. Own scripts bring no rows of
/// guarded tables about; those of the application may.
fn migrators(store: &Arc<dyn SqlStore>, dir: Option<&Path>) -> Result<Vec<Migrator>> {
    let own = Migrator::new(Arc::clone(store), Migrations::zmsg(store.dialect()));
    let mut all = vec![own];
    if let Some(dir) = dir {
        let store = Arc::new(BehindFilters::new(Arc::clone(store)));
        all.push(Migrator::new(store, Migrations::load_dir(dir, "app")?));
    }
    Ok(all)
}

async fn up(store: &Arc<dyn SqlStore>, dir: Option<&Path>, dry_run: bool) -> Result<()> {
    let migrators = migrators(store, dir)?;
    let mut is_pending = false;
    for migrator in &migrators {
        let plan = migrator.plan_up().await?;
        is_pending |= !plan.is_empty();
        if dry_run {
            print_plan(&plan);
        }
    }
    if dry_run {
        return Ok(());
    }
    let apply = async {
        for migrator in &migrators {
            print_report("applied", &migrator.up().await?);
        }
        Ok(())
    };
    // Deployments run this each time: nodes keep their filter if there is nothing to do.
    if is_pending { behind_filters(store, apply).await } else { apply.await }
}

async fn down(
    store: &Arc<dyn SqlStore>,
    dir: Option<&Path>,
    steps: usize,
    dry_run: bool,
) -> Result<()> {
    let Some(migrator) = migrators(store, dir)?.pop() else { return Ok(()) };
    let plan = migrator.plan_down(steps).await?;
    if dry_run {
        print_plan(&plan);
        return Ok(());
    }
    let revert = async { Ok(migrator.down(steps).await?) };
    let report = match plan.is_empty() {
        true => revert.await?,
        false => behind_filters(store, revert).await?,
    };
    print_report("taken back", &report);
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
