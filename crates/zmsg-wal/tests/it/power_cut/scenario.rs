//! A process that uses a log on a disk in memory, and notes what it was promised.

use std::time::Duration;

use zmsg_core::Result;
use zmsg_wal::testing::{CrashPoint, Disk, Fault, FaultKind, Note, Sabotage, Survival};
use zmsg_wal::{Durability, Log, LogOptions, SyncPolicy};

use super::model::{Promise, Records};
use crate::support::{all, open, payload, small};

/// How much was checked.
#[derive(Debug, Default)]
pub(crate) struct States {
    pub(crate) checked: usize,
    pub(crate) torn: u64,
}

/// One life of a disk, up to a power cut.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) disk: Disk,
    pub(crate) sabotage: Sabotage,
    /// All that was appended and not lost in an earlier generation.
    pub(crate) records: Records,
    pub(crate) before: Promise,
    /// Where in the journal the interesting part begins.
    pub(crate) begin: usize,
    pub(crate) torn: u64,
    random: fastrand::Rng,
}

impl Generation {
    pub(crate) fn first(seed: u64, sabotage: Sabotage) -> Self {
        Self {
            disk: Disk::new(),
            sabotage,
            records: Records::new(),
            before: Promise::default(),
            begin: 0,
            torn: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Opens the log a few times and uses it.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.random.usize(1..4) {
            if let Some(fault) = self.fault() {
                self.disk.fail(fault);
            }
            // A fault may end it at any point; what was promised until then holds.
            let _ = self.session();
            self.disk.heal();
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        let random = &mut self.random;
        if self.sabotage == Sabotage::RetryFailedSync {
            return Some(Fault { kind: FaultKind::Sync, call: random.u64(3..10), times: 1 });
        }
        if self.sabotage == Sabotage::AppendAfterTorn {
            let call = random.u64(3..10);
            return Some(Fault { kind: FaultKind::ShortWrite, call, times: 1 });
        }
        let kinds = [FaultKind::Eio, FaultKind::Full, FaultKind::ShortWrite, FaultKind::Sync];
        let fault = Fault {
            kind: kinds[random.usize(..4)],
            call: random.u64(1..30),
            times: random.u64(1..4),
        };
        (random.u8(..3) == 0).then_some(fault)
    }

    fn options(&mut self) -> LogOptions {
        let sync = match self.random.u8(..5) {
            0 => SyncPolicy::Os,
            1 => SyncPolicy::Interval(Duration::from_millis(1)),
            _ => SyncPolicy::Always,
        };
        LogOptions { sync, sabotage: self.sabotage, ..small() }
    }

    fn session(&mut self) -> Result<()> {
        let options = self.options();
        let (log, recovered) = open(self.disk.fs(), &options)?;
        self.torn += recovered.torn_bytes;
        self.disk.note(Note::Opened { last: recovered.last, next: recovered.next });
        for _ in 0..self.random.usize(4..24) {
            self.step(&log)?;
        }
        if self.random.bool() {
            log.close_blocking()?;
        } else {
            // As good as killed, but for the thread, which has to be gone before the next session.
            let last = log.last_seq();
            drop(log.sync());
            let waited = log.wait(last, Durability::Synced);
            let closed = log.wait(u64::MAX, Durability::Synced);
            drop(log);
            waited.wait_blocking()?;
            self.disk.note(Note::Synced(last));
            let _ = closed.wait_blocking();
        }
        Ok(())
    }

    fn step(&mut self, log: &Log) -> Result<()> {
        match self.random.u8(..10) {
            0..=4 => self.append(log).map(drop),
            5..=6 => {
                let last = self.append(log)?;
                log.wait(last, Durability::Synced).wait_blocking()?;
                self.disk.note(Note::Synced(last));
                Ok(())
            }
            7 => {
                let last = log.last_seq();
                log.sync().wait_blocking()?;
                self.disk.note(Note::Synced(last));
                Ok(())
            }
            8 => {
                let last = self.append(log)?;
                log.wait(last, Durability::Flushed).wait_blocking()
            }
            _ => {
                let synced = log.stats().synced_seq;
                let below = self.random.u64(..=synced.max(1));
                log.remove_below(below)?;
                self.disk.note(Note::Checkpoint(below));
                Ok(())
            }
        }
    }

    /// Appends one record or a run. Full buffers are waited for.
    fn append(&mut self, log: &Log) -> Result<u64> {
        let count = if self.random.u8(..4) == 0 { 3 } else { 1 };
        let payloads: Vec<_> = (0..count).map(|_| payload(&mut self.random, 500)).collect();
        let run: Vec<_> = payloads.iter().map(|payload| (1, payload.as_slice())).collect();
        let appended = match log.append_many(&run) {
            Err(error) if error.is_temporary() => {
                let last = log.last_seq();
                log.wait(last, Durability::Synced).wait_blocking()?;
                return Ok(last);
            }
            result => result?,
        };
        for (seq, payload) in (appended.first_seq()..).zip(payloads) {
            let known = self.records.insert(seq, payload);
            assert!(known.is_none(), "{seq} was given out before");
        }
        self.disk.note(Note::Given(appended.seq()));
        Ok(appended.seq())
    }

    /// The power goes, and the disk lives on. False if the log is no longer of use, which only a
    /// sabotage does.
    pub(crate) fn next(&mut self) -> bool {
        let len = self.disk.journal_len();
        let point = CrashPoint {
            after: len - self.random.usize(..=len / 4),
            survival: Survival::Some { block: 512 },
            seed: self.random.u64(..),
        };
        let (disk, notes) = self.disk.crash(point);
        self.before = Promise::new(&self.before, &notes);
        let copy = disk.copy();
        let Ok((log, _)) = open(copy.fs(), &small()) else { return false };
        let Ok(found) = all(&log) else { return false };
        // What was lost is lost, and was never promised.
        let last = found.last().map_or(0, |record| record.seq).max(self.before.synced);
        self.records.retain(|seq, _| *seq <= last);
        self.disk = disk;
        true
    }
}
