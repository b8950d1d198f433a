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
use super::inbox::Inbox;
use super::inner::Inner;
use super::state::Look;
use super::stats::add;
use super::verdict::{Answer, Part};
use crate::sabotage;

/// The queue stops: what is on its way stays behind.
pub(super) struct Stopped;

impl<T: Send + Sync + 'static> Inner<T> {
    /// Delivers the batches of a lane until the queue is drained or stopped.
    pub(super) async fn run_lane(self: Arc<Self>, lane: usize) {
        while let Some((number, entries)) = self.next_batch(lane).await {
            // What panics in there is code of the user: an item that cannot even be dropped.
            let delivery = AssertUnwindSafe(self.deliver(number, lane, entries)).catch_unwind();
            if let Err(panic) = delivery.await {
                add(&self.counters.panics, 1);
                tracing::error!(panic = text_of(&*panic), "the end of a batch panicked");
            }
        }
    }

    async fn next_batch(&self, lane: usize) -> Option<(u64, Vec<Entry<T>>)> {
        loop {
            // Before the look, so that no change falls between the look and the wait.
            let mut changed = pin!(self.lanes[lane].notified());
            changed.as_mut().enable();
            let look = self.look(lane);
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

    fn look(&self, lane: usize) -> Look<T> {
        let (cut, now) = (self.cut(), self.clock.coarse());
        let mut state = self.whole_state();
        loop {
            let look = state.look(lane, &cut, now);
            let item_bytes = self.inbox.as_ref().map_or(1, Inbox::item_bytes);
            let more = match &look {
                Look::Batch(..) => {
                    let others = self.config.in_flight_max > 1;
                    if let Some(inbox) = self.inbox.as_ref().filter(|_| others) {
                        inbox.arm(&state.sorter, 1);
                        self.take_in_posted(&mut state);
                    }
                    if state.has_more(lane) {
                        // Another one at this lane has to take it, or to watch its time.
                        self.lanes[lane].notify_one();
                    }
                    return look;
                }
                Look::End => return look,
                Look::Nothing => 1,
                Look::After(_) => state.lacks(lane, &cut, item_bytes),
            };
            let Some(inbox) = &self.inbox else { return look };
            inbox.arm(&state.sorter, more);
            if self.take_in_posted(&mut state) == 0 {
                return look;
            }
        }
    }

    async fn deliver(&self, number: u64, lane: usize, entries: Vec<Entry<T>>) {
        let mut flight = Flight::new(number, lane, entries);
        if sabotage::confirms_first() {
            self.confirm(&flight);
        }
        zmsg_core::fail_point!("zmsg-queue::batch::deliver::taken");
        while let Some(part) = flight.next() {
            let Ok(answer) = self.hand_over(&mut flight, &part).await else {
                return self.leave_behind(flight);
            };
            zmsg_core::fail_point!("zmsg-queue::batch::deliver::answered");
            let spent = part.tries;
            let verdict = self.rules().judge(part, answer);
            self.settle(&mut flight, &verdict.done);
            self.note_tries(&flight, spent, &verdict.again);
            zmsg_core::fail_point!("zmsg-queue::batch::deliver::judged");
            flight.go_on(verdict);
        }
        if let Err(flight) = self.bury(flight).await {
            self.leave_behind(flight);
        }
    }

    /// One call of the handler, when its time has come.
    async fn hand_over(&self, flight: &mut Flight<T>, part: &Part) -> Result<Answer, Stopped> {
        if part.failures() > 0 {
            self.unless_halted(sleep(self.config.backoff.delay(part.failures()))).await?;
        }
        let probe = self.admitted(flight.lane).await?;
        let batch = flight.batch(part, self.streams);
        let items = batch.len();
        let begin = Instant::now();
        let Some(answer) = self.call(batch).await else {
            if probe {
                locked(&self.breaker).forget_probe();
            }
            flight.interrupted = true;
            return Err(Stopped);
        };
        self.learn(&answer, items, begin, probe);
        Ok(answer)
    }

    /// The answer of the handler; none if the call was dropped because the queue stops. Whatever of the
    /// handler panics, also when it is dropped, does so in here.
    async fn call(&self, batch: Batch<T>) -> Option<Answer> {
        let limit = self.config.handler_timeout;
        let called = async { timeout(limit, self.handler.handle(batch)).await };
        let mut called = Box::pin(AssertUnwindSafe(called).catch_unwind());
        let answer = tokio::select! {
            biased;
            () = self.give_up.cancelled() => None,
            answer = &mut called => Some(answer),
        };
        // What it says then is of no use: the call is over in any case.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(called)));
        Some(match answer? {
            Ok(Err(_)) => Answer::TimedOut,
            Ok(Ok(Ok(outcome))) => Answer::Took(outcome.failed),
            Ok(Ok(Err(error))) => Answer::Failed(error),
            Err(panic) => Answer::Panicked(text_of(&*panic)),
        })
    }

    fn learn(&self, answer: &Answer, items: usize, begin: Instant, probe: bool) {
        let (now, counters) = (Instant::now(), &self.counters);
        if answer.is_silence(items) {
            if locked(&self.breaker).silent(now, probe) {
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

    /// Waits while the queue is paused or the breaker is open. Whether the call is a probe.
    async fn admitted(&self, lane: usize) -> Result<bool, Stopped> {
        loop {
            self.not_paused(lane).await?;
            let admission = locked(&self.breaker).admit(Instant::now());
            let probe = match admission {
                Admission::Go => false,
                Admission::Probe => true,
                Admission::Wait(pause) => {
                    self.unless_halted(sleep(pause)).await?;
                    continue;
                }
            };
            return Ok(probe);
        }
    }

    /// Waits while the queue is paused.
    async fn not_paused(&self, lane: usize) -> Result<(), Stopped> {
        loop {
            let mut changed = pin!(self.lanes[lane].notified());
            changed.as_mut().enable();
            if self.state().phase.delivers() {
                // The permit was meant for a look at the lane, perhaps.
                self.lanes[lane].notify_one();
                return Ok(());
            }
            self.unless_halted(changed).await?;
        }
    }

    pub(super) async fn unless_halted<R>(
        &self,
        future: impl Future<Output = R>,
    ) -> Result<R, Stopped> {
        tokio::select! {
            biased;
            () = self.halt.cancelled() => Err(Stopped),
            done = future => Ok(done),
        }
    }
}

pub(super) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no text".to_owned())
}
