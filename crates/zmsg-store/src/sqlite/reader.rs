//! A reader thread: queries, one after the other, on a connection that cannot write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zmsg_core::{Error, ErrorKind};

use super::Shared;
use super::jobs::ReadJob;
use super::session::Session;
use crate::counters::count;

/// Answers queries until the queue is closed and empty.
pub(super) fn run(session: Session, shared: Arc<Shared>) {
    while let Some(job) = shared.reads.take(1).pop() {
        let ReadJob { query, reply } = job;
        if reply.is_closed() {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| session.query(&query)))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unexpected, "a reader panicked")));
        count(&session.counters().queries, 1);
        // A caller who is gone does not need the rows.
        let _ = reply.send(result);
    }
}
