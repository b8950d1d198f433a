//! The tasks that do what the application does, and what they share.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use zmsg::Zmsg;

use crate::args::Args;
use crate::expected::Expected;
use crate::input::{Message, Stream};
use crate::latency::Latencies;
use crate::progress::{Past, Progress, Steps};
use crate::sent::Sent;
use crate::worker::Worker;
use crate::zipf::Zipf;

/// Recent messages that are read again and again.
pub(crate) const RECENT: usize = 4_096;

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) zmsg: Zmsg,
    pub(crate) recent: Mutex<VecDeque<Arc<Sent>>>,
    pub(crate) zipf: Zipf,
    pub(crate) reads: usize,
    pub(crate) seed: u64,
    pub(crate) absent_for: Duration,
    /// How far a killed run had come, by task, and where this one notes its own steps.
    pasts: Vec<Past>,
    progress: Option<Progress>,
}

impl Workload {
    pub(crate) fn new(zmsg: Zmsg, args: &Args) -> Self {
        let zipf = Zipf::new(RECENT, 0.99);
        let absent_for = Duration::from_secs(args.absent_for);
        let (reads, seed) = (args.reads, args.seed);
        let (recent, pasts) = (Mutex::default(), Vec::new());
        Self { zmsg, recent, zipf, reads, seed, absent_for, pasts, progress: None }
    }

    /// Goes on behind these pasts, and notes the progress so that it can be gone on with again.
    pub(crate) fn goes_on(self, pasts: Vec<Past>, progress: Progress) -> Self {
        Self { pasts, progress: Some(progress), ..self }
    }

    /// The messages of each task. A conversation always goes to the same one, so that its order is
    /// kept.
    pub(crate) fn shares(stream: &Stream, args: &Args) -> Vec<Vec<Message>> {
        let (tasks, processes) = (u64::from(args.tasks), u64::from(args.processes));
        let mut shares: Vec<Vec<Message>> = vec![Vec::new(); args.tasks as usize];
        for message in &stream.messages {
            let mut hasher = DefaultHasher::new();
            message.conversation().hash(&mut hasher);
            let turn = hasher.finish() % (tasks * processes);
            if args.part.is_none_or(|part| turn / tasks == u64::from(part)) {
                shares[(turn % tasks) as usize].push(message.clone());
            }
        }
        shares
    }

    /// Replays the stream.
    pub(crate) async fn run(
        self: &Arc<Self>,
        stream: &Stream,
        args: &Args,
    ) -> Result<(Expected, Latencies)> {
        let progress = progress_bar(stream.messages.len(), args);
        let mut running = JoinSet::new();
        for (index, share) in Self::shares(stream, args).into_iter().enumerate() {
            let (workload, progress) = (Arc::clone(self), progress.clone());
            running.spawn(async move { workload.replay(index, share, &progress).await });
        }
        let (mut expected, mut latencies) = (Expected::default(), Latencies::default());
        while let Some(task) = running.join_next().await {
            let (counted, timed) = task??;
            expected.merge(counted);
            latencies.merge(timed);
        }
        progress.finish_and_clear();
        Ok((expected, latencies))
    }

    async fn replay(
        &self,
        index: usize,
        share: Vec<Message>,
        progress: &ProgressBar,
    ) -> Result<(Expected, Latencies)> {
        let past = self.pasts.get(index).cloned().unwrap_or_default();
        let steps = Steps::new(index, past, self.progress.clone());
        let mut worker = Worker::new(self, index, steps);
        for message in share {
            worker.message(&message).await?;
            progress.inc(1);
        }
        Ok((worker.expected, worker.latencies))
    }

    /// What a task of a killed run had done, and the error with which its steps ended.
    pub(crate) async fn recount(
        &self,
        index: usize,
        share: Vec<Message>,
        steps: Steps,
    ) -> (Expected, Result<()>) {
        let mut worker = Worker::new(self, index, steps);
        for message in share {
            if let Err(end) = worker.message(&message).await {
                return (worker.expected, Err(end));
            }
        }
        (worker.expected, Ok(()))
    }
}

fn progress_bar(messages: usize, args: &Args) -> ProgressBar {
    if args.no_progress {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} messages, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(messages as u64).with_style(style)
}
