//! The disks that a power cut may leave behind.
//!
//! What was synced is there. What was not may be there or not, each block of each write by itself,
//! in any order, and so may each change of a length and each change of a name. What was written
//! before a sync that failed is never sure again, also if a later sync of the same file says so.

use std::collections::BTreeMap;

use super::disk::{Base, Disk, Id, Note, Op, apply};
use crate::shared::locked;

/// What survives of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything, as when the process alone is killed.
    Everything,
    /// Each block of so many bytes, each length and each name by the toss of a coin.
    Some {
        /// The unit that the disk writes whole.
        block: u64,
    },
    /// All data, and no name and no length.
    Data,
    /// All names and lengths, and no data.
    Names,
}

/// When the power goes, and what survives.
#[derive(Debug, Clone, Copy)]
pub struct CrashPoint {
    /// After so many entries of the journal.
    pub after: usize,
    /// What survives of that which was not synced.
    pub survival: Survival,
    /// For the coin.
    pub seed: u64,
}

impl Disk {
    /// The disk as it is when the process is killed after so many entries of the journal, and the
    /// machine goes on: all is there, and as little of it is synced as before.
    pub fn kill(&self, after: usize) -> Disk {
        let everything = CrashPoint { after, survival: Survival::Everything, seed: 0 };
        let (killed, _) = self.crash(everything);
        {
            let state = locked(&self.state);
            let mut killed = locked(&killed.state);
            killed.base = state.base.clone();
            killed.journal = state.journal[..after.min(state.journal.len())].to_vec();
        }
        killed
    }

    /// The disk after a power cut, and what had been noted until then.
    pub fn crash(&self, point: CrashPoint) -> (Disk, Vec<Note>) {
        let state = locked(&self.state);
        let journal = &state.journal[..point.after.min(state.journal.len())];
        let mut coin = Coin { state: point.seed };
        let contents = contents(&state.base, journal, point.survival, &mut coin);
        let names = names(&state.base, journal, point.survival, &mut coin);
        let notes = journal.iter().filter_map(|op| match op {
            Op::Note(note) => Some(*note),
            _ => None,
        });
        (Disk::from_base(Base { contents, names }, state.next), notes.collect())
    }
}

fn contents(
    base: &Base,
    journal: &[Op],
    survival: Survival,
    coin: &mut Coin,
) -> BTreeMap<Id, Vec<u8>> {
    // Up to where each file is sure, and the last failed sync of each.
    let mut synced: BTreeMap<Id, usize> = BTreeMap::new();
    let mut failed: BTreeMap<Id, (usize, usize)> = BTreeMap::new();
    for (index, op) in journal.iter().enumerate() {
        match op {
            Op::Sync { id } => {
                synced.insert(*id, index);
            }
            Op::SyncFailed { id } => {
                let from = synced.get(id).copied().unwrap_or(0);
                failed.insert(*id, (from, index));
            }
            _ => {}
        }
    }
    let mut contents = base.contents.clone();
    for (index, op) in journal.iter().enumerate() {
        let sure = |id: &Id| {
            let lost = failed.get(id).is_some_and(|(from, to)| index > *from && index < *to);
            !lost && synced.get(id).is_some_and(|until| index < *until)
        };
        match op {
            Op::Create { id, .. } => {
                contents.entry(*id).or_default();
            }
            Op::Resize { id, len } if sure(id) || survival.keeps_names(coin) => {
                let len = usize::try_from(*len).unwrap_or(usize::MAX);
                contents.entry(*id).or_default().resize(len, 0);
            }
            Op::Write { id, offset, bytes } => {
                let content = contents.entry(*id).or_default();
                if sure(id) {
                    apply(content, *offset, bytes);
                } else {
                    write_some(content, *offset, bytes, survival, coin);
                }
            }
            _ => {}
        }
    }
    contents
}

fn write_some(
    content: &mut Vec<u8>,
    offset: u64,
    bytes: &[u8],
    survival: Survival,
    coin: &mut Coin,
) {
    let block = match survival {
        Survival::Nothing | Survival::Names => return,
        Survival::Everything | Survival::Data => return apply(content, offset, bytes),
        Survival::Some { block } => block.max(1),
    };
    let mut at = 0;
    while at < bytes.len() {
        let place = offset + at as u64;
        let left = usize::try_from(block - place % block).unwrap_or(usize::MAX);
        let end = bytes.len().min(at.saturating_add(left));
        if coin.toss() {
            apply(content, place, &bytes[at..end]);
        }
        at = end;
    }
}

fn names(
    base: &Base,
    journal: &[Op],
    survival: Survival,
    coin: &mut Coin,
) -> BTreeMap<std::path::PathBuf, Id> {
    let synced = journal.iter().rposition(|op| matches!(op, Op::SyncDir)).unwrap_or(0);
    let mut names = base.names.clone();
    for (index, op) in journal.iter().enumerate() {
        let changes = matches!(op, Op::Create { .. } | Op::Rename { .. } | Op::Remove { .. });
        if !changes || (index >= synced && !survival.keeps_names(coin)) {
            continue;
        }
        match op {
            Op::Create { id, name } => {
                names.insert(name.clone(), *id);
            }
            Op::Rename { id, from, to } => {
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
            Op::Remove { name } => {
                names.remove(name);
            }
            _ => {}
        }
    }
    names
}

impl Survival {
    fn keeps_names(self, coin: &mut Coin) -> bool {
        match self {
            Self::Nothing | Self::Data => false,
            Self::Everything | Self::Names => true,
            Self::Some { .. } => coin.toss(),
        }
    }
}

/// Random bits that are the same on every run.
struct Coin {
    state: u64,
}

impl Coin {
    fn toss(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}
