//! What a process had parked when it ended.

use std::sync::Arc;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_store::SqlStore;

use super::letter::{DeadLetter, DeadLetters, is_conflict};
use super::verdict::is_stopped;
use super::{FlushObserver, Flushing};

/// What became of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unparked {
    pub(crate) applied: u64,
    /// Refused by themselves: dead letters like others now.
    pub(crate) kept: u64,
}

/// So often in a row the observer is asked anew before the attempt counts as failed.
const OUTDATED_MAX: u32 = 4;

/// What the database stops so often because it runs for too long is given up.
const STOPPED_MAX: u32 = 3;

/// Applies what the flushes of a stream that ended had parked and not yet tried, each group once, in
/// the order of their operations.
///
/// # Errors
/// As the store. What was not tried stays parked, for the next attempt.
pub(crate) async fn unpark(
    store: &Arc<dyn SqlStore>,
    observer: &dyn FlushObserver,
    stream: Uuid,
) -> Result<Unparked> {
    let letters = DeadLetters::new(Arc::clone(store));
    let mut done = Unparked::default();
    loop {
        // Each goes or gets a cause of its own: there are fewer each time.
        let page = letters.parked(stream).await?;
        if page.is_empty() {
            return Ok(done);
        }
        for letter in page {
            zmsg_core::fail_point!("zmsg-aggregate::recovery::unparking");
            match apply(&letters, observer, &letter).await? {
                None => done.applied += 1,
                Some(refusal) => {
                    letters.blame(letter.id, &refusal).await?;
                    done.kept += 1;
                }
            }
        }
    }
}

/// Applies one group; why it is refused for good, if it is.
async fn apply(
    letters: &DeadLetters,
    observer: &dyn FlushObserver,
    letter: &DeadLetter,
) -> Result<Option<Error>> {
    let (mut outdated, mut stopped) = (0, 0);
    loop {
        let Flushing { guard, checks } = observer.flushing(&letter.keys).await?;
        let checked = !checks.is_empty();
        let refusal = match letters.retry_checked(letter.id, checks).await {
            Ok(_) => None,
            // A check of the observer failed, or its rows are missing.
            Err(error) if checked && is_conflict(&error) && outdated < OUTDATED_MAX => {
                guard.outdated();
                outdated += 1;
                continue;
            }
            Err(error) if is_stopped(&error) && stopped + 1 < STOPPED_MAX => {
                stopped += 1;
                continue;
            }
            Err(error) if is_stopped(&error) => Some(error.exhausted()),
            Err(error) if may_pass(&error) => return Err(error),
            Err(error) => Some(error),
        };
        observer.flushed(&letter.keys).await;
        drop(guard);
        return Ok(refusal);
    }
}

fn may_pass(error: &Error) -> bool {
    error.is_temporary()
        || error.is_outcome_unknown()
        || matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unavailable)
}
