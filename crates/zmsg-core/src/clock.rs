//! Time is handed in, so that tests can move it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Milliseconds since the Unix epoch by the wall clock. Never decides anything by itself.
pub type UnixMillis = u64;

/// Milliseconds on a monotonic clock of this process.
pub type Millis = u64;

/// The two clocks zmsg reads.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock. It may jump either way.
    fn wall(&self) -> UnixMillis;

    /// The wall clock at the last tick of the system: a few milliseconds behind at most, and cheaper.
    fn wall_tick(&self) -> UnixMillis {
        self.wall()
    }

    /// A monotonic clock, coarse (a few milliseconds) and cheap enough for every cache hit.
    fn coarse(&self) -> Millis;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> UnixMillis {
        #[expect(clippy::disallowed_methods, reason = "this is the Clock that others take")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[cfg(target_os = "linux")]
    fn wall_tick(&self) -> UnixMillis {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        part(now.tv_sec) * 1000 + part(now.tv_nsec) / 1_000_000
    }

    fn coarse(&self) -> Millis {
        coarsetime::Instant::now_without_cache_update()
            .duration_since(coarsetime::Instant::from_ticks(0))
            .as_millis()
    }
}

/// A clock that moves when a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    coarse: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `wall`, with one hour on the monotonic side.
    pub fn new(wall: UnixMillis) -> Self {
        Self { wall: AtomicU64::new(wall), coarse: AtomicU64::new(3_600_000) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, millis: u64) {
        self.wall.fetch_add(millis, Relaxed);
        self.coarse.fetch_add(millis, Relaxed);
    }

    /// Moves the wall clock alone, either way: a jump.
    pub fn jump(&self, millis: i64) {
        let _ =
            self.wall.fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_add_signed(millis)));
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> UnixMillis {
        self.wall.load(Relaxed)
    }

    fn coarse(&self) -> Millis {
        self.coarse.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_this_century_and_does_not_go_back() {
        let clock = SystemClock;
        assert!(clock.wall() > 1_700_000_000_000);
        let first = clock.coarse();
        assert!(clock.coarse() >= first);
    }

    #[test]
    fn a_tick_is_behind_the_wall_by_milliseconds() {
        let (before, tick) = (SystemClock.wall(), SystemClock.wall_tick());
        assert!(tick <= SystemClock.wall() && tick + 1_000 > before, "{before} {tick}");
    }

    #[test]
    fn a_jump_moves_the_wall_alone() {
        let clock = ManualClock::new(10_000);
        clock.jump(-4_000);
        assert_eq!((clock.wall(), clock.coarse()), (6_000, 3_600_000));
        clock.advance(5);
        assert_eq!((clock.wall(), clock.coarse()), (6_005, 3_600_005));
    }
}
