//! The loop of a lane: wait for a batch, deliver it until nothing of it is left, take the next.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::backlog::locked;
use super::breaker::Admission;
use super::entry::Entry;
use super::flight::Flight;
use super::handler::Batch;
use super::inner::Inner;
use super::state::Look;
use super::stats::add;
use super::verdict::{Answer, Part};

/// The queue stops: what is on its way stays behind.
pub(super) struct Stopped;

impl<T: Send + Sync + 'static> Inner<T> {
    /// Delivers the batches of a lane until the queue is drained or stopped.
    pub(super) async fn run_lane(self: Arc<Self>, lane: usize) {
        while let Some((number, entries)) = self.next_batch(lane).await {
            self.deliver(number, lane, entries).await;
        }
    }

    async fn next_batch(&self, lane: usize) -> Option<(u64, Vec<Entry<T>>)> {
        loop {
            // Before the look, so that no change falls between the look and the wait.
            let mut changed = pin!(self.lanes[lane].notified());
            changed.as_mut().enable();
            let cut = self.cut();
            let look = {
                let mut state = self.state();
                let look = state.look(lane, &cut, self.clock.coarse());
                if matches!(look, Look::Batch(..)) && state.has_more(lane) {
                    // Another one at this lane has to take it, or to watch its time.
                    self.lanes[lane].notify_one();
                }
                look
            };
            match look {
                Look::Batch(number, entries) => return Some((number, entries)),
                Look::End => return None,
                Look::After(pause) => tokio::select! {
                    () = changed => {}
                    () = sleep(pause) => {}
                },
                Look::Nothing => changed.await,
            }
        }
    }

    async fn deliver(&self, number: u64, lane: usize, entries: Vec<Entry<T>>) {
        let mut flight = Flight::new(number, lane, entries);
        while let Some(part) = flight.next() {
            let Ok(answer) = self.hand_over(&flight, &part).await else {
                return self.leave_behind(flight);
            };
            let spent = part.tries;
            let verdict = self.rules().judge(part, answer);
            self.settle(&mut flight, &verdict.done);
            self.note_tries(&flight, spent, &verdict.again);
            flight.go_on(verdict);
        }
        if let Err(flight) = self.bury(flight).await {
            self.leave_behind(flight);
        }
    }

    /// One call of the handler, when its time has come.
    async fn hand_over(&self, flight: &Flight<T>, part: &Part) -> Result<Answer, Stopped> {
        if part.failures() > 0 {
            self.unless_stopped(sleep(self.config.backoff.delay(part.failures()))).await?;
        }
        self.not_paused(flight.lane).await?;
        self.admitted().await?;
        let batch = flight.batch(part, self.streams);
        let items = batch.len();
        let begin = Instant::now();
        let called = self.unless_stopped(self.call(batch)).await;
        let Ok(answer) = called else {
            locked(&self.breaker).forget_probe();
            return Err(Stopped);
        };
        self.learn(&answer, items, begin);
        Ok(answer)
    }

    /// A dropped handler is a time-out; one that panics has said no more.
    async fn call(&self, batch: Batch<T>) -> Answer {
        let called = AssertUnwindSafe(self.handler.handle(batch)).catch_unwind();
        match timeout(self.config.handler_timeout, called).await {
            Err(_) => Answer::TimedOut,
            Ok(Ok(Ok(outcome))) => Answer::Took(outcome.failed),
            Ok(Ok(Err(error))) => Answer::Failed(error),
            Ok(Err(panic)) => Answer::Panicked(text_of(&*panic)),
        }
    }

    fn learn(&self, answer: &Answer, items: usize, begin: Instant) {
        let (now, counters) = (Instant::now(), &self.counters);
        if answer.is_silence() {
            if locked(&self.breaker).silent(now) {
                add(&counters.breaker_opened, 1);
                tracing::warn!("the sink of a batch queue does not answer: waiting for it");
            }
        } else {
            locked(&self.breaker).answered();
        }
        let mut sizer = locked(&self.sizer);
        match answer {
            Answer::Took(failed) => {
                counters.answered(now - begin);
                if failed.is_empty() {
                    sizer.delivered(items, now - begin);
                } else {
                    add(&counters.errors, 1);
                }
            }
            Answer::Failed(error) => {
                add(&counters.errors, 1);
                tracing::debug!(%error, items, "a batch failed");
            }
            Answer::Panicked(text) => {
                add(&counters.errors, 1);
                add(&counters.panics, 1);
                tracing::error!(panic = text, items, "the handler of a batch queue panicked");
            }
            Answer::TimedOut => {
                add(&counters.errors, 1);
                add(&counters.timeouts, 1);
                sizer.timed_out();
            }
        }
        self.batch_items.store(sizer.size(), Relaxed);
    }

    /// Waits while the breaker is open.
    async fn admitted(&self) -> Result<(), Stopped> {
        loop {
            let admission = locked(&self.breaker).admit(Instant::now());
            match admission {
                Admission::Go | Admission::Probe => return Ok(()),
                Admission::Wait(pause) => self.unless_stopped(sleep(pause)).await?,
            }
        }
    }

    /// Waits while the queue is paused.
    async fn not_paused(&self, lane: usize) -> Result<(), Stopped> {
        loop {
            let mut changed = pin!(self.lanes[lane].notified());
            changed.as_mut().enable();
            let phase = self.state().phase;
            if phase.delivers() {
                // The permit was meant for a look at the lane, perhaps.
                self.lanes[lane].notify_one();
                return Ok(());
            }
            self.unless_stopped(changed).await?;
        }
    }

    pub(super) async fn unless_stopped<R>(
        &self,
        future: impl Future<Output = R>,
    ) -> Result<R, Stopped> {
        tokio::select! {
            biased;
            () = self.give_up.cancelled() => Err(Stopped),
            done = future => Ok(done),
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no text".to_owned())
}
