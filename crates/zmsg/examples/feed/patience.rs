//! Calls are repeated while their server is away.

use std::time::{Duration, Instant};

use anyhow::Result;
use zmsg::Error;
use zmsg::core::Backoff;

/// How long a call is repeated, and with what pauses.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// The failures of one call.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    failures: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, failures: 0 }
    }

    /// Waits before the next attempt; fails if another would not help.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        let may_help = error.is_temporary() || error.is_outcome_unknown();
        if !may_help || Instant::now() > self.until {
            return Err(error.into());
        }
        self.failures += 1;
        tokio::time::sleep(PAUSES.delay(self.failures)).await;
        Ok(())
    }
}

/// Makes a call again while its server is away. Every call of this application may be repeated:
/// what was not accepted left nothing, and what was accepted without an answer does nothing twice.
macro_rules! patiently {
    ($worker:expr, $call:expr) => {{
        let mut patience = $crate::patience::Patience::new();
        loop {
            match $call.await {
                Ok(done) => break done,
                Err(error) => {
                    $worker.expected.retries += 1;
                    patience.after(error).await?;
                }
            }
        }
    }};
}

pub(crate) use patiently;
