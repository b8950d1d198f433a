//! The lock-free heart: one atomic number that is the last id, below one atomic ceiling.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use zmsg_core::Clock;

use crate::lease::millis;
use crate::{IdOptions, Layout, Rollback};

/// Set in the state while no lease is held: every compare-and-swap that was prepared before
/// fails, and the last id stays readable below it. Ids have 63 bits.
const STOPPED: u64 = 1 << 63;

/// A wall clock that shows less than another thread saw counts as set back from here on; below,
/// it is a thread that was preempted between reading the clock and looking. For statistics only.
const ROLLBACK_NOTICE_MS: u64 = 50;

/// How often a thread that was overtaken spins before it tries again: twice as often each time.
const PAUSE_MIN: u32 = 8;
const PAUSE_MAX: u32 = 64;

/// The state of a generator: the last id whole, node included, so that one compare-and-swap
/// decides over time, node and sequence together.
///
/// Times are in milliseconds since the layout's epoch.
#[derive(Debug)]
pub(crate) struct Sequence {
    layout: Layout,
    borrow_max: u64,
    behind_max: u64,
    state: AtomicU64,
    ceiling: AtomicU64,
    /// The time that the generator is entitled to, less the monotonic clock: the highest of the
    /// wall clock and the floors so far. Overflow is paced by it, so that a wall clock which was
    /// set back does not stop ids and does not let them run away either.
    pace: AtomicI64,
    /// The wall clock when last looked at closely.
    seen_wall: AtomicU64,
    /// Ids of the milliseconds that were left behind; those of the current one are in the state.
    issued: AtomicU64,
    overflows: AtomicU64,
    rollbacks: AtomicU64,
}

/// A range of ids that the current state, wall clock and ceiling allow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    last: u64,
    first: u64,
    count: u32,
    step: Step,
}

/// How a proposal relates to the last id.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    /// The next of the same millisecond.
    Next,
    /// The first of the wall clock's millisecond.
    Wall,
    /// The first of the next millisecond, because this one's sequence is used up.
    Overflow,
}

/// Why there is no id right now.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Refusal {
    /// The time would reach the ceiling; it has to lie above this one first.
    AtCeiling { time: u64 },
    /// Worth trying again in this many milliseconds.
    TooEarly { wait_ms: u64 },
    /// No lease is held.
    Stopped,
}

impl Sequence {
    /// A sequence without a lease.
    pub(crate) fn new(layout: Layout, options: &IdOptions) -> Self {
        Self {
            layout,
            borrow_max: millis(options.borrow_max),
            behind_max: match options.rollback {
                Rollback::Continue => u64::MAX,
                Rollback::WaitBeyond(limit) => millis(limit),
            },
            state: AtomicU64::new(STOPPED),
            ceiling: AtomicU64::new(0),
            pace: AtomicI64::new(i64::MIN),
            seen_wall: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            rollbacks: AtomicU64::new(0),
        }
    }

    /// Takes up to `want` ids, all of one millisecond: one read of the wall clock and, without
    /// contention, one compare-and-swap.
    ///
    /// The clock's last tick will do as long as there are ids by it; before there are none, or
    /// time is borrowed, the clock itself is read.
    pub(crate) fn take(&self, clock: &dyn Clock, want: u32) -> Result<Range<u64>, Refusal> {
        let mut wall = self.layout.since_epoch(clock.wall_tick());
        let (mut exact, mut pause) = (false, PAUSE_MIN);
        let mut last = self.state.load(Ordering::Acquire);
        loop {
            let proposal = self.propose(last, wall, clock, want);
            if !exact && needs_the_time(&proposal) {
                (wall, exact) = (self.layout.since_epoch(clock.wall()), true);
                continue;
            }
            let proposal = proposal?;
            match self.commit(&proposal, clock) {
                Ok(range) => return Ok(range),
                // Another thread was faster, and has the state in its own cache: for a moment it
                // is left to it, since to fight for it costs both.
                Err(_changed) => {
                    (0..pause).for_each(|_| spin_loop());
                    pause = (2 * pause).min(PAUSE_MAX);
                    last = self.state.load(Ordering::Acquire);
                }
            }
        }
    }

    /// What may follow `last` while the wall clock shows `wall`. Changes nothing.
    fn propose(
        &self,
        last: u64,
        wall: u64,
        clock: &dyn Clock,
        want: u32,
    ) -> Result<Proposal, Refusal> {
        if last & STOPPED != 0 {
            return Err(Refusal::Stopped);
        }
        let (last_time, used) = (self.layout.time_of(last), self.layout.sequence_of(last) + 1);
        let (time, sequence, step) = if wall > last_time {
            (wall, 0, Step::Wall)
        } else if used < self.layout.sequences() {
            (last_time, used, Step::Next)
        } else {
            (last_time + 1, 0, Step::Overflow)
        };
        if step != Step::Wall {
            self.notice_rollback(wall);
            early(time, wall, self.behind_max)?;
        }
        if step == Step::Overflow {
            early(time, wall.max(self.entitled(clock)), self.borrow_max)?;
        }
        // After the state: a ceiling of a later lease only meets a state that has changed, and
        // then the compare-and-swap fails.
        if time >= self.ceiling.load(Ordering::Acquire) {
            return Err(Refusal::AtCeiling { time });
        }
        let first = self.layout.pack(time, self.layout.node_of(last), sequence);
        let count = want.min(self.layout.sequences() - sequence);
        Ok(Proposal { last, first, count, step })
    }

    /// Makes a proposal true, unless the state has changed: then the state as it is now.
    fn commit(&self, proposal: &Proposal, clock: &dyn Clock) -> Result<Range<u64>, u64> {
        let end = proposal.first + u64::from(proposal.count);
        self.state.compare_exchange(proposal.last, end - 1, Ordering::AcqRel, Ordering::Acquire)?;
        if proposal.step != Step::Next {
            self.left_behind(proposal.last);
        }
        match proposal.step {
            Step::Next => {}
            Step::Wall => {
                let wall = self.layout.time_of(proposal.first);
                self.seen_wall.fetch_max(wall, Ordering::Relaxed);
                self.entitle(wall, clock);
            }
            Step::Overflow => {
                self.overflows.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(proposal.first..end)
    }

    /// Begins a lease of `node`: ids from `floor`, and above every id so far, below `ceiling`.
    ///
    /// Only for a stopped sequence, and one caller at a time.
    pub(crate) fn open(&self, node: u32, floor: u64, ceiling: u64, clock: &dyn Clock) {
        let last = self.state.load(Ordering::Acquire) & !STOPPED;
        let floor = floor.max(self.layout.time_of(last) + 1);
        // As if the millisecond before the floor had been used up. What was not issued in it is
        // taken off the count beforehand.
        let sequences = self.layout.sequences();
        let before = self.layout.pack(floor - 1, node, sequences - 1);
        if last != 0 {
            self.left_behind(last);
        }
        self.issued.fetch_sub(u64::from(sequences), Ordering::Relaxed);
        self.entitle(floor, clock);
        self.ceiling.store(ceiling.min(self.layout.times()), Ordering::Release);
        self.state.store(before, Ordering::Release);
    }

    /// Raises the ceiling of the lease that is held. One caller at a time.
    pub(crate) fn raise(&self, ceiling: u64) {
        let ceiling = ceiling.min(self.layout.times());
        self.ceiling.fetch_max(ceiling, Ordering::Release);
    }

    /// Ends the lease: no id is made from here on, not even by a thread that is half-way through
    /// making one. Returns the time of the last id, or the one before the floor.
    pub(crate) fn stop(&self) -> u64 {
        let last = self.state.fetch_or(STOPPED, Ordering::AcqRel);
        self.layout.time_of(last & !STOPPED)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) & STOPPED != 0
    }

    /// The time of the last id.
    pub(crate) fn last_time(&self) -> u64 {
        self.layout.time_of(self.state.load(Ordering::Acquire) & !STOPPED)
    }

    /// The node that is held, or was held last.
    pub(crate) fn node(&self) -> u32 {
        self.layout.node_of(self.state.load(Ordering::Acquire) & !STOPPED)
    }

    pub(crate) fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Acquire)
    }

    pub(crate) fn issued(&self) -> u64 {
        let last = self.state.load(Ordering::Acquire) & !STOPPED;
        let current = if last == 0 { 0 } else { u64::from(self.layout.sequence_of(last)) + 1 };
        self.issued.load(Ordering::Relaxed).wrapping_add(current)
    }

    pub(crate) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    pub(crate) fn rollbacks(&self) -> u64 {
        self.rollbacks.load(Ordering::Relaxed)
    }

    /// Every millisecond is used from its first sequence on without gaps, so that its count is
    /// known when it is left: nothing is counted on the way.
    fn left_behind(&self, last: u64) {
        let used = u64::from(self.layout.sequence_of(last)) + 1;
        self.issued.fetch_add(used, Ordering::Relaxed);
    }

    fn entitle(&self, time: u64, clock: &dyn Clock) {
        let offset = time.cast_signed().saturating_sub_unsigned(clock.coarse());
        self.pace.fetch_max(offset, Ordering::Relaxed);
    }

    fn entitled(&self, clock: &dyn Clock) -> u64 {
        let time = self.pace.load(Ordering::Relaxed).saturating_add_unsigned(clock.coarse());
        u64::try_from(time).unwrap_or(0)
    }

    fn notice_rollback(&self, wall: u64) {
        let seen = self.seen_wall.load(Ordering::Relaxed);
        let set_back = wall.saturating_add(ROLLBACK_NOTICE_MS) < seen;
        let ours = set_back
            && self
                .seen_wall
                .compare_exchange(seen, wall, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            self.rollbacks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether a later time could change the proposal for the better.
fn needs_the_time(proposal: &Result<Proposal, Refusal>) -> bool {
    match proposal {
        Ok(Proposal { step, .. }) => *step == Step::Overflow,
        Err(refusal) => matches!(refusal, Refusal::TooEarly { .. }),
    }
}

/// Refuses a time that lies more than `ahead_max` after `now`.
fn early(time: u64, now: u64, ahead_max: u64) -> Result<(), Refusal> {
    match time.saturating_sub(now.saturating_add(ahead_max)) {
        0 => Ok(()),
        wait_ms => Err(Refusal::TooEarly { wait_ms }),
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
