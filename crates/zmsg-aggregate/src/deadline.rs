//! Moments from now.

use std::time::Duration;

use tokio::time::Instant;

/// A time that nobody waits out, short enough to be added to any clock.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The moment so long from now; a duration without end is cut to thirty years.
pub(crate) fn from_now(duration: Duration) -> Instant {
    Instant::now() + duration.min(FAR)
}
