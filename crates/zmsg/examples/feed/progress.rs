//! What was submitted and acknowledged, on the disk, so that a killed run can go on.
//!
//! A task has one write under way at a time, and its writes follow from the stream. So the step it
//! has come to says what it did, and after a kill one write of each task at most is unknown. A line
//! is `S task step [id]` before a write is submitted and `A task step` once it is acknowledged. It
//! survives a kill as soon as the operating system has it; nothing is synced.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::effect::Effect;

/// The file, in the engine's directory.
const NAME: &str = "feed.progress";

/// How far a task had come.
#[derive(Debug, Default, Clone)]
pub(crate) struct Past {
    pub(crate) acknowledged: u64,
    submitted: u64,
    /// The ids of its messages, in order.
    ids: Vec<String>,
    /// What was submitted last and not acknowledged had taken effect.
    pub(crate) took_effect: bool,
}

/// Where new lines go.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<File>);

/// What decides the stream and the tasks: it has to be the same when the run goes on.
fn header(args: &Args) -> String {
    let Args { input, messages, users, seed, tasks, .. } = args;
    format!("feed 1 {input:?} {messages:?} messages {users} users seed {seed} {tasks} tasks\n")
}

/// The records of an earlier run with these arguments, by task; none if it had not begun.
pub(crate) fn read(directory: &Path, args: &Args) -> Result<Vec<Past>> {
    let mut pasts = vec![Past::default(); args.tasks as usize];
    let path = path(directory);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(pasts),
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    // A kill may have cut the last line: what it was to say is then unknown, as if it were not there.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut lines = text[..whole].split_inclusive('\n');
    match lines.next() {
        None => return Ok(pasts),
        Some(first) if first == header(args) => {}
        Some(first) => bail!("the killed run was another: {}", first.trim_end()),
    }
    for (index, line) in lines.enumerate() {
        let place = || format!("{}:{}: not a line of feed", path.display(), index + 2);
        record(line, &mut pasts).with_context(place)?;
    }
    Ok(pasts)
}

fn record(line: &str, pasts: &mut [Past]) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().context("it is too short");
    let (what, task, step) = (word()?, word()?.parse::<usize>()?, word()?.parse::<u64>()?);
    let past = pasts.get_mut(task).context("there is no such task")?;
    match what {
        // An unknown write that had not taken effect is submitted again, under the same id.
        "S" if step == past.submitted => {}
        "S" => {
            ensure!(step == past.acknowledged + 1, "a step is missing");
            past.submitted = step;
            past.ids.extend(words.next().map(str::to_owned));
        }
        "A" => {
            ensure!(step == past.submitted, "it was not submitted");
            past.acknowledged = step;
        }
        _ => bail!("it begins with neither S nor A"),
    }
    Ok(())
}

fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

impl Progress {
    /// Begins a file, or goes on with the one that was read.
    pub(crate) fn open(directory: &Path, args: &Args, goes_on: bool) -> Result<Self> {
        let path = path(directory);
        let failed = || format!("could not write to {}", path.display());
        let whole = match fs::read(&path) {
            Ok(text) if goes_on => text.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1),
            _ => 0,
        };
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(failed)?;
        file.set_len(whole as u64).with_context(failed)?;
        let progress = Self(Arc::new(file));
        if whole == 0 {
            progress.line(&header(args))?;
        }
        Ok(progress)
    }

    /// One call for a line: other tasks append too. It goes to the operating system's memory and
    /// takes microseconds, so that it may be made from a task.
    fn line(&self, line: &str) -> Result<()> {
        (&*self.0).write_all(line.as_bytes()).context("could not note the progress")
    }
}

/// The end of what a task had acknowledged, and its unknown write if there is one.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) unknown: Option<Effect>,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the acknowledged steps end here")
    }
}

impl std::error::Error for Acknowledged {}

/// The steps of one task: those of the past are counted and not made again.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    task: usize,
    past: Past,
    step: u64,
    messages: usize,
    recounts: bool,
    progress: Option<Progress>,
}

impl Steps {
    /// The steps of a task that goes on, and notes its progress if there is a file for it.
    pub(crate) fn new(task: usize, past: Past, progress: Option<Progress>) -> Self {
        Self { task, past, progress, ..Self::default() }
    }

    /// The steps of a task that ends where its past does, with the error [`Acknowledged`].
    pub(crate) fn recount(task: usize, past: Past) -> Self {
        Self { task, past, recounts: true, ..Self::default() }
    }

    /// The id that the next message had in the past.
    pub(crate) fn id(&mut self) -> Result<Option<String>> {
        let id = self.past.ids.get(self.messages).cloned();
        self.messages += 1;
        if self.recounts && id.is_none() {
            bail!(Acknowledged { unknown: None });
        }
        Ok(id)
    }

    /// Whether the next step is to be made, and not a thing of the past. A message's insert names
    /// its id.
    pub(crate) fn begin(&mut self, effect: &Effect) -> Result<bool> {
        self.step += 1;
        if self.step <= self.past.acknowledged {
            return Ok(false);
        }
        let was_submitted = self.step == self.past.submitted;
        if self.recounts {
            bail!(Acknowledged { unknown: was_submitted.then(|| effect.clone()) });
        }
        if was_submitted && self.past.took_effect {
            self.end()?;
            return Ok(false);
        }
        if let Some(progress) = &self.progress {
            let id = if let Effect::Insert { id } = effect { id } else { "" };
            progress.line(&format!("S {} {} {id}\n", self.task, self.step))?;
        }
        Ok(true)
    }

    /// The step was acknowledged.
    pub(crate) fn end(&mut self) -> Result<()> {
        let Some(progress) = &self.progress else { return Ok(()) };
        progress.line(&format!("A {} {}\n", self.task, self.step))
    }

    /// Whether the past is over.
    pub(crate) fn is_live(&self) -> bool {
        self.step > self.past.acknowledged
    }
}
