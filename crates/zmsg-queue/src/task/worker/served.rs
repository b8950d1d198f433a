//! The queues that a worker serves: in which order it looks at them, and how much each may have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::options::{Rate, ServedQueue, WorkerOptions};

/// A queue, and what its limits leave of it at present.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) name: String,
    weight: u32,
    slots: Arc<Semaphore>,
    begun: Option<Mutex<Window>>,
}

impl Served {
    fn new(queue: &ServedQueue, slots: usize) -> Self {
        let own = queue.concurrency.map_or(slots, |own| own.clamp(1, slots));
        Self {
            name: queue.name.clone(),
            weight: queue.weight.max(1),
            slots: Arc::new(Semaphore::new(own)),
            begun: queue.rate.map(|rate| Mutex::new(Window::new(rate))),
        }
    }

    pub(super) fn each(options: &WorkerOptions) -> Vec<Self> {
        options.queues.iter().map(|queue| Self::new(queue, options.slots())).collect()
    }

    /// How many of its tasks may be begun now.
    pub(super) fn room(&self, now: Instant) -> usize {
        let by_rate = self.window(|window| window.room(now)).unwrap_or(usize::MAX);
        self.slots.available_permits().min(by_rate)
    }

    /// How long until its rate allows more than it does now.
    pub(super) fn until_room(&self, now: Instant) -> Option<Duration> {
        self.window(|window| window.until_more(now)).flatten()
    }

    /// Notes that one of its tasks begins; its slot. `None`: there is none, which only a queue that gives
    /// more than it was asked for can bring about.
    pub(super) fn begin(&self, now: Instant) -> Option<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        self.window(|window| window.begin(now));
        Some(slot)
    }

    fn window<T>(&self, what: impl FnOnce(&mut Window) -> T) -> Option<T> {
        // The window is whole after a panic.
        let lock = |window: &Mutex<Window>| {
            what(&mut window.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.begun.as_ref().map(lock)
    }
}

/// When the last tasks began.
#[derive(Debug)]
struct Window {
    rate: Rate,
    begun: VecDeque<Instant>,
}

impl Window {
    fn new(rate: Rate) -> Self {
        Self { rate: Rate { tasks: rate.tasks.max(1), ..rate }, begun: VecDeque::new() }
    }

    fn room(&mut self, now: Instant) -> usize {
        while self.begun.front().is_some_and(|begun| now.duration_since(*begun) >= self.rate.per) {
            self.begun.pop_front();
        }
        (self.rate.tasks as usize).saturating_sub(self.begun.len())
    }

    fn until_more(&self, now: Instant) -> Option<Duration> {
        self.begun.front().map(|begun| self.rate.per.saturating_sub(now.duration_since(*begun)))
    }

    fn begin(&mut self, now: Instant) {
        self.begun.push_back(now);
    }
}

/// In which order the queues are looked at this time: the places of `served`.
///
/// By weight, the greatest first, or drawn so that each is before another as often as its weight says:
/// in the order of `-ln(u) / weight`, each u drawn evenly (P. Efraimidis, P. Spirakis, Weighted random
/// sampling with a reservoir, 2006).
pub(super) fn order(served: &[Served], strict: bool) -> Vec<usize> {
    let place = |queue: &Served| {
        let weight = f64::from(queue.weight);
        // 1 - u is above 0.
        if strict { -weight } else { -(1.0 - fastrand::f64()).ln() / weight }
    };
    let mut places: Vec<_> =
        served.iter().enumerate().map(|(at, queue)| (place(queue), at)).collect();
    places.sort_by(|one, other| one.0.total_cmp(&other.0));
    places.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(queues: &[ServedQueue]) -> Vec<Served> {
        queues.iter().map(|queue| Served::new(queue, 10)).collect()
    }

    #[test]
    fn strict_is_by_weight_and_then_as_they_were_named() {
        let names = ["low", "high", "other"].map(ServedQueue::new);
        let [low, high, other] = names;
        assert_eq!(order(&served(&[low, high.weight(6), other]), true), [1, 0, 2]);
    }

    #[test]
    fn each_is_first_as_often_as_its_weight_says() {
        let [a, b, c] = ["a", "b", "c"].map(ServedQueue::new);
        let served = served(&[a.weight(6), b.weight(3), c]);
        let mut first = [0_u32; 3];
        for _ in 0..20_000 {
            first[order(&served, false)[0]] += 1;
        }
        for (count, expected) in first.iter().zip([12_000_u32, 6_000, 2_000]) {
            // Six standard deviations of the widest are 420.
            assert!(count.abs_diff(expected) < 420, "{first:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_sees_more_than_the_rate_allows() {
        let served = served(&[ServedQueue::new("a").rate(3, Duration::from_secs(1))]).remove(0);
        let mut begun: Vec<Instant> = Vec::new();
        for _ in 0..200 {
            tokio::time::advance(Duration::from_millis(37)).await;
            let now = Instant::now();
            if served.room(now) == 0 {
                assert!(served.until_room(now).is_some_and(|pause| !pause.is_zero()));
                continue;
            }
            assert!(served.begin(now).is_some());
            begun.push(now);
        }
        for four in begun.windows(4) {
            assert!(four[3] - four[0] >= Duration::from_secs(1), "{four:?}");
        }
        assert!(begun.len() >= 20, "it is used: {}", begun.len());
    }

    #[test]
    fn a_queue_has_no_more_slots_than_its_own() {
        let served = served(&[ServedQueue::new("a").concurrency(2)]).remove(0);
        let now = Instant::now();
        let slots: Vec<_> = (0..3).map(|_| served.begin(now)).collect();
        assert_eq!(slots.iter().flatten().count(), 2);
        drop(slots);
        assert_eq!(served.room(now), 2);
    }
}
