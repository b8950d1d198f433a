//! One shard: the batches of some batch keys, their sequence, and what of it is being flushed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zmsg_core::{Error, Key, Millis, Result, Settlement};

use super::{Batch, BatchKey, Incoming};

/// One shard of the buffer.
///
/// - An operation gets its sequence number and its place under one lock: the operations up to a
///   number are exactly those that a seal at that number holds.
/// - One seal is in flight at a time; operations accepted meanwhile go into the next one.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its number among the shards of the stream.
    pub(crate) index: u16,
    state: Mutex<State>,
    full: AtomicBool,
}

#[derive(Debug)]
struct State {
    intake: Intake,
    batches: HashMap<BatchKey, Batch>,
    keys: HashSet<Key>,
    /// The sequence number of the last operation that was accepted, sealed, applied.
    accepted: u64,
    sealed: u64,
    applied: u64,
    load: Load,
    /// When the first operation since the last seal was accepted.
    oldest: Option<Millis>,
    in_flight: Option<Arc<SealedInfo>>,
}

#[derive(Debug)]
enum Intake {
    Open,
    Closed,
    /// Stopped by an error after which nothing may be applied any more.
    Stopped(Error),
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) ops: u64,
    pub(crate) slots: u64,
    pub(crate) bytes: i64,
}

/// What is known of a seal while it is in flight.
#[derive(Debug)]
pub(crate) struct SealedInfo {
    /// The last operation before it and the last one in it.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) keys: HashSet<Key>,
    pub(crate) load: Load,
    pub(crate) oldest: Option<Millis>,
}

/// A seal: every operation that was accepted since the one before.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) info: Arc<SealedInfo>,
    pub(crate) batches: HashMap<BatchKey, Batch>,
}

/// An operation that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) seq: u64,
    pub(crate) settlement: Settlement,
    pub(crate) folded: bool,
    pub(crate) grown: i64,
    /// What waits in the shard now, without what is in flight.
    pub(crate) load: Load,
}

impl Shard {
    /// A shard of which everything up to the number `applied` has taken effect.
    pub(crate) fn new(index: u16, applied: u64) -> Self {
        let state = State {
            intake: Intake::Open,
            batches: HashMap::new(),
            keys: HashSet::new(),
            accepted: applied,
            sealed: applied,
            applied,
            load: Load::default(),
            oldest: None,
            in_flight: None,
        };
        Self { index, state: Mutex::new(state), full: AtomicBool::new(false) }
    }

    /// Accepts an operation: it has its sequence number and is folded when this returns, and is
    /// counted among all that are pending. `number` gives it the number, above the last one.
    pub(crate) fn accept(
        &self,
        incoming: Incoming,
        key: Option<&Key>,
        now: Millis,
        pending_ops: &AtomicU64,
        number: impl FnOnce(u64) -> Result<u64>,
    ) -> Result<Accepted> {
        let mut state = self.lock();
        state.intake.check()?;
        let seq = number(state.accepted)?;
        // Before the lock is given back: whoever flushes this operation subtracts it again.
        pending_ops.fetch_add(1, SeqCst);
        state.accepted = seq;
        state.oldest.get_or_insert(now);
        let name_bytes = incoming.batch_key.heap_bytes();
        let batches = state.batches.len();
        let batch = state.batches.entry(incoming.batch_key).or_default();
        let placed = batch.push(incoming.work, seq, key);
        let settlement = batch.entries()[placed.at].settlement();
        let named = if state.batches.len() > batches { name_bytes } else { 0 };
        let grown = placed.grown + named;
        if let Some(key) = key
            && !state.keys.contains(key)
        {
            state.keys.insert(key.clone());
        }
        state.load.ops += 1;
        state.load.slots += u64::from(!placed.folded);
        state.load.bytes += grown;
        let (folded, load) = (placed.folded, state.load);
        Ok(Accepted { seq, settlement, folded, grown, load })
    }

    /// Seals what was accepted, if there is any and nothing is in flight.
    pub(crate) fn seal(&self) -> Option<Sealed> {
        let mut state = self.lock();
        self.full.store(false, Relaxed);
        if state.in_flight.is_some() || state.accepted == state.sealed {
            return None;
        }
        let info = Arc::new(SealedInfo {
            from: state.sealed,
            to: state.accepted,
            keys: std::mem::take(&mut state.keys),
            load: std::mem::take(&mut state.load),
            oldest: state.oldest.take(),
        });
        state.sealed = state.accepted;
        state.in_flight = Some(Arc::clone(&info));
        Some(Sealed { info, batches: std::mem::take(&mut state.batches) })
    }

    /// The seal in flight took effect, and everybody who had to know does. Gives what it held.
    pub(crate) fn landed(&self) -> Load {
        let mut state = self.lock();
        state.applied = state.sealed;
        state.in_flight.take().map(|sealed| sealed.load).unwrap_or_default()
    }

    /// The number up to which everything has to be applied so that nothing of `key` is pending;
    /// `None` if nothing is.
    pub(crate) fn pending_of(&self, key: &Key) -> Option<u64> {
        let state = self.lock();
        if state.keys.contains(key) {
            return Some(state.accepted);
        }
        state.in_flight.as_ref().filter(|sealed| sealed.keys.contains(key)).map(|sealed| sealed.to)
    }

    /// The number up to which everything has taken effect, if something waits above it.
    pub(crate) fn waits_above(&self) -> Option<u64> {
        let state = self.lock();
        (state.applied < state.accepted).then_some(state.applied)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    pub(crate) fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// What waits, in flight or not.
    pub(crate) fn load(&self) -> Load {
        let state = self.lock();
        let flying = state.in_flight.as_ref().map(|sealed| sealed.load).unwrap_or_default();
        Load {
            ops: state.load.ops + flying.ops,
            slots: state.load.slots + flying.slots,
            bytes: state.load.bytes + flying.bytes,
        }
    }

    /// When the oldest operation that waits was accepted, in flight or not.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        let state = self.lock();
        let flying = state.in_flight.as_ref().and_then(|sealed| sealed.oldest);
        flying.or(state.oldest)
    }

    /// Marks the shard as due before its time; true if it was not yet.
    pub(crate) fn mark_full(&self) -> bool {
        !self.full.swap(true, Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Refuses operations from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if matches!(state.intake, Intake::Open) {
            state.intake = Intake::Closed;
        }
    }

    /// Refuses operations from now on with this error, and gives up what waits: it stays counted
    /// as pending, but its memory is free. Gives the bytes.
    pub(crate) fn stop(&self, error: &Error) -> i64 {
        let mut state = self.lock();
        state.intake = Intake::Stopped(error.clone());
        let batches = std::mem::take(&mut state.batches);
        let bytes = std::mem::take(&mut state.load.bytes);
        drop(state);
        for mut entry in batches.into_values().flat_map(Batch::into_entries) {
            entry.settle(Err(error.clone()));
        }
        bytes
    }

    /// The error that stopped the shard.
    pub(crate) fn stopped(&self) -> Option<Error> {
        match &self.lock().intake {
            Intake::Stopped(error) => Some(error.clone()),
            Intake::Open | Intake::Closed => None,
        }
    }

    // Nothing in here panics between two states that belong together.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake {
    fn check(&self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(Error::closed("aggregator")),
            Self::Stopped(error) => Err(error.clone()),
        }
    }
}
