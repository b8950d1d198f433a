//! What a log must hold after a crash.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use zmsg_wal::testing::{CrashPoint, Disk, Note, Survival};
use zmsg_wal::{Durability, Log, LogOptions, Record, Recovered};

use super::scenario::Generation;
use crate::support::{all, open, small};

/// Payloads by sequence.
pub(crate) type Records = BTreeMap<u64, Vec<u8>>;

/// What was promised before the power went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise {
    /// No later record may have one of these sequences.
    pub(crate) given: u64,
    pub(crate) synced: u64,
    pub(crate) checkpoint: u64,
    /// What an earlier opening did not find, with what was promised by then. A log that failed loses
    /// what it did not acknowledge although later records follow.
    pub(crate) skipped: Vec<RangeInclusive<u64>>,
}

impl Promise {
    pub(crate) fn new(before: &Self, notes: &[Note]) -> Self {
        let mut promise = before.clone();
        for note in notes {
            match *note {
                Note::Given(seq) => promise.given = promise.given.max(seq),
                Note::Synced(seq) => promise.synced = promise.synced.max(seq),
                Note::Opened { last, next } => {
                    promise.skipped.push(last.max(promise.synced) + 1..=next - 1)
                }
                Note::Checkpoint(below) => promise.checkpoint = promise.checkpoint.max(below),
            }
        }
        promise
    }
}

/// Recovers, checks, and goes on.
pub(crate) fn verdict(
    disk: &Disk,
    generation: &Generation,
    promise: &Promise,
    point: CrashPoint,
) -> Result<(), String> {
    let options = LogOptions { sabotage: generation.sabotage, ..small() };
    let begin = disk.copy();
    let (log, recovered) =
        open(disk.fs(), &options).map_err(|error| format!("does not open: {error}"))?;
    holds(&log, &recovered, &generation.records, promise)?;
    if point.seed.is_multiple_of(4) {
        goes_on(log, disk, &recovered, &options)?;
    } else {
        drop(log);
    }
    match point.seed % 6 {
        0 => interrupted(&begin, 0, generation, promise, point.seed),
        // Killed, recovered by a machine that runs on, and then the power goes.
        3 => {
            let killed = generation.disk.kill(point.after);
            interrupted(&killed, killed.journal_len(), generation, promise, point.seed)
        }
        _ => Ok(()),
    }
}

fn holds(
    log: &Log,
    recovered: &Recovered,
    appended: &Records,
    promise: &Promise,
) -> Result<(), String> {
    let found = all(log).map_err(|error| format!("cannot be read: {error}"))?;
    for Record { seq, payload, .. } in &found {
        match appended.get(seq) {
            Some(known) if known == payload => {}
            Some(_) => return Err(format!("{seq} is another record")),
            None => return Err(format!("{seq} was never appended")),
        }
    }
    let below = recovered.delivered_below;
    if below < promise.checkpoint {
        return Err(format!("checkpoint {below}, promised {}", promise.checkpoint));
    }
    // No gap, and nothing missing that was promised or lies before what is there.
    let last = found.last().map_or(0, |record| record.seq).max(promise.synced);
    let skipped = |seq: &u64| promise.skipped.iter().any(|range| range.contains(seq));
    let mut expected = appended.range(..=last).map(|(seq, _)| *seq).filter(|seq| !skipped(seq));
    let first = found.first().map_or(below, |record| record.seq.min(below));
    let missing = expected
        .find(|seq| *seq >= first && found.binary_search_by_key(seq, |record| record.seq).is_err());
    if let Some(seq) = missing {
        return Err(format!("{seq} is missing of {recovered:?}, {promise:?}"));
    }
    let delivered = found.iter().filter(|record| record.seq >= below).count() as u64;
    let end = found.last().map_or(recovered.last, |record| record.seq);
    if recovered.records != delivered || recovered.last != end {
        return Err(format!("{recovered:?}, but {delivered} records up to {end}"));
    }
    if recovered.next <= promise.given || recovered.next <= recovered.last {
        return Err(format!("{} is given out again, {promise:?}", recovered.next));
    }
    Ok(())
}

/// The log takes records, and has them when it is opened once more.
fn goes_on(
    log: Log,
    disk: &Disk,
    recovered: &Recovered,
    options: &LogOptions,
) -> Result<(), String> {
    let failed = |error: zmsg_core::Error| format!("does not go on: {error}");
    // What was delivered may go whenever the log is opened.
    let to_deliver = |log: &Log| -> zmsg_core::Result<usize> {
        let found = all(log)?;
        Ok(found.iter().filter(|record| record.seq >= recovered.delivered_below).count())
    };
    let before = to_deliver(&log).map_err(failed)?;
    let appended = log.append(9, &[b"more"]).map_err(failed)?;
    if appended.seq() != recovered.next {
        return Err(format!("{} came after {recovered:?}", appended.seq()));
    }
    appended.wait(Durability::Synced).wait_blocking().map_err(failed)?;
    log.close_blocking().map_err(failed)?;
    let (log, again) = open(disk.fs(), options).map_err(failed)?;
    let found = to_deliver(&log).map_err(failed)?;
    if found != before + 1 || again.next != recovered.next + 1 || !again.closed {
        return Err(format!("{before} records and one are {}, {again:?}", found));
    }
    Ok(())
}

/// The power goes while the log recovers, or soon after.
fn interrupted(
    disk: &Disk,
    begin: usize,
    generation: &Generation,
    promise: &Promise,
    seed: u64,
) -> Result<(), String> {
    let options = LogOptions { sabotage: generation.sabotage, ..small() };
    let (log, _) = open(disk.fs(), &options).map_err(|error| format!("does not open: {error}"))?;
    let journal = disk.journal_len();
    drop(log);
    let mut random = fastrand::Rng::with_seed(seed);
    let survival = match random.u8(..4) {
        0 => Survival::Nothing,
        1 => Survival::Everything,
        _ => Survival::Some { block: 512 },
    };
    let point = CrashPoint { after: random.usize(begin..=journal), survival, seed };
    let (again, _) = disk.crash(point);
    let (log, recovered) = open(again.fs(), &options)
        .map_err(|error| format!("then {point:?}: does not open: {error}"))?;
    holds(&log, &recovered, &generation.records, promise)
        .map_err(|wrong| format!("then {point:?}: {wrong}"))
}
