//! Task queues, in Redis and in a database: what is in them, and what is done to single tasks.

mod place;
mod listing;

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;
use zmsg::TaskId;
use zmsg::queue::{Act, PAGE_MAX, QueueSummary, Stage, TaskInfo};

use self::place::{Inspected, Place};

/// How often the live view looks.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// Show all queues: how many tasks stand where, how long they wait, and which queues rest.
    Ls {
        #[command(flatten)]
        place: Place,
        /// Look again every second, until it is interrupted.
        #[arg(long)]
        watch: bool,
        /// Print JSON; with --watch a line each time.
        #[arg(long)]
        json: bool,
    },
    /// Show the tasks of a queue, or one task.
    Show {
        #[command(flatten)]
        place: Place,
        /// The name of a queue, or the id of a task.
        #[arg(value_name = "QUEUE|ID")]
        what: String,
        /// The queue of the task: needed if several have one of this id.
        #[arg(long, value_name = "QUEUE")]
        of: Option<String>,
        /// Only the tasks at this stage.
        #[arg(long, value_name = "STAGE")]
        state: Option<At>,
        /// How many of each stage.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Print the payload of the task as well. It may hold what is not for everybody's eyes.
        #[arg(long)]
        payload: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a task be due now: one that waits for its time, a dead letter, or one that its worker left.
    Retry(One),
    /// Make a task a dead letter.
    Archive(One),
    /// Forget a task for good.
    Delete(One),
    /// Let a queue rest: it accepts tasks and hands out none.
    Pause(Whole),
    /// Let a queue go on.
    Resume(Whole),
}

/// One task, which no worker holds.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    #[command(flatten)]
    place: Place,
    /// Its id, as listed.
    id: Uuid,
    /// Its queue: needed if several have a task of this id.
    #[arg(long, value_name = "QUEUE")]
    of: Option<String>,
}

/// One queue.
#[derive(Debug, clap::Args)]
pub(crate) struct Whole {
    #[command(flatten)]
    place: Place,
    /// Its name.
    queue: String,
}

/// A stage, as it is named on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum At {
    Pending,
    Scheduled,
    Aggregating,
    Retry,
    Active,
    Dead,
    Completed,
}

impl From<At> for Stage {
    fn from(at: At) -> Self {
        match at {
            At::Pending => Self::Pending,
            At::Scheduled => Self::Scheduled,
            At::Aggregating => Self::Aggregating,
            At::Retry => Self::Retry,
            At::Active => Self::Active,
            At::Dead => Self::Dead,
            At::Completed => Self::Completed,
        }
    }
}

/// What is done to one task.
#[derive(Debug, Clone, Copy)]
enum Change {
    Run,
    Archive,
    Delete,
}

pub(crate) async fn run(action: Queue) -> Result<()> {
    match action {
        Queue::Ls { place, watch, json } => {
            let opened = place.open().await?;
            if watch {
                keep_listing(&*opened.queue, json).await?;
            } else {
                print(&list(&*opened.queue, json).await?)?;
            }
            opened.close().await
        }
        Queue::Show { place, what, of, state, limit, payload, json } => {
            let opened = place.open().await?;
            let queue = &*opened.queue;
            let shown = match Uuid::parse_str(&what) {
                Ok(id) => show_one(queue, of.as_deref(), TaskId(id), payload, json).await?,
                Err(_) => {
                    let stages = state.map_or(Stage::ALL.to_vec(), |at| vec![at.into()]);
                    show_all(queue, &what, &stages, limit.into(), json).await?
                }
            };
            print(&shown)?;
            opened.close().await
        }
        Queue::Retry(one) => act(one, Change::Run).await,
        Queue::Archive(one) => act(one, Change::Archive).await,
        Queue::Delete(one) => act(one, Change::Delete).await,
        Queue::Pause(whole) => rest(whole, true).await,
        Queue::Resume(whole) => rest(whole, false).await,
    }
}

async fn summaries(queue: &dyn Inspected) -> Result<Vec<QueueSummary>> {
    let mut all = Vec::new();
    for name in queue
        .queues()
        .await
        .context("could not read the queues; in a database `migrate up` makes their tables")?
    {
        all.push(queue.summary(&name).await?);
    }
    Ok(all)
}

async fn list(queue: &dyn Inspected, json: bool) -> Result<String> {
    let all = summaries(queue).await?;
    Ok(if json { listing::json_of_all(&all)? } else { listing::table(&all) })
}

/// On a terminal the view is drawn anew each time; elsewhere lines follow lines.
async fn keep_listing(queue: &dyn Inspected, json: bool) -> Result<()> {
    let is_drawn = stdout().is_terminal() && !json;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let all = summaries(queue).await?;
        let shown = match (json, is_drawn) {
            (true, _) => listing::json_line(&all)?,
            (_, true) => format!("\x1b[H\x1b[2J{}", listing::table(&all)),
            _ => listing::lines(&all),
        };
        print(&shown)?;
    }
}

async fn show_all(
    queue: &dyn Inspected,
    name: &str,
    stages: &[Stage],
    limit: usize,
    json: bool,
) -> Result<String> {
    let mut tasks: Vec<TaskInfo> = Vec::new();
    for stage in stages {
        tasks.extend(queue.tasks(name, *stage, None, limit.min(PAGE_MAX)).await?);
    }
    if json {
        return listing::json_of_tasks(&tasks);
    }
    let summary = queue.summary(name).await?;
    Ok(format!("{}\n{}", listing::head(&summary), listing::tasks(&tasks)))
}

async fn show_one(
    queue: &dyn Inspected,
    of: Option<&str>,
    id: TaskId,
    payload: bool,
    json: bool,
) -> Result<String> {
    let Some(task) = queue.task(of, id).await? else { bail!("there is no task {id}") };
    let payload = if payload { queue.payload(of, id).await? } else { None };
    if json { listing::json_of_task(&task, payload) } else { Ok(listing::one(&task, payload)) }
}

async fn act(one: One, change: Change) -> Result<()> {
    let opened = one.place.open().await?;
    let (of, id) = (one.of.as_deref(), TaskId(one.id));
    let (act, done, already) = match change {
        Change::Run => (opened.queue.run_now(of, id).await?, "due now", "it is due already"),
        Change::Archive => {
            (opened.queue.archive(of, id).await?, "archived", "it is a dead letter already")
        }
        Change::Delete => (opened.queue.delete(of, id).await?, "deleted", "it is gone already"),
    };
    match act {
        Act::Done => print(&format!("{done}: {id}\n"))?,
        Act::Already => bail!("nothing was done to {id}: {already}"),
        Act::Unknown => bail!("there is no task {id}"),
    }
    opened.close().await
}

async fn rest(whole: Whole, pause: bool) -> Result<()> {
    let opened = whole.place.open().await?;
    let (queue, name) = (&opened.queue, whole.queue.as_str());
    let changed = if pause { queue.pause(name).await? } else { queue.resume(name).await? };
    let shown = name.escape_debug();
    match (pause, changed) {
        (true, true) => print(&format!("paused: {shown}\n"))?,
        (false, true) => print(&format!("resumed: {shown}\n"))?,
        (true, false) => bail!("nothing was done: {shown} is paused already"),
        (false, false) => bail!("nothing was done: {shown} is not paused"),
    }
    opened.close().await
}

/// A reader that went away is an error, and no panic.
fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
