//! A file system in memory that keeps a journal of everything that was done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::fault::{Call, Fault, FaultKind};
use crate::shared::locked;
use crate::{File, Fs, Lock};

pub(super) type Id = u64;

/// What a test writes into the journal, to know what was promised when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A sequence was given out.
    Given(u64),
    /// A sequence was acknowledged as synced.
    Synced(u64),
    /// A checkpoint was acknowledged.
    Checkpoint(u64),
    /// The log was opened, and what lies between those two sequences is gone for ever.
    Opened {
        /// The last record that was found.
        last: u64,
        /// The sequence of the next record.
        next: u64,
    },
}

/// Something that was done to the disk, or said about it.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create { id: Id, name: PathBuf },
    Write { id: Id, offset: u64, bytes: Vec<u8> },
    Resize { id: Id, len: u64 },
    Sync { id: Id },
    SyncFailed { id: Id },
    Rename { id: Id, from: PathBuf, to: PathBuf },
    Remove { name: PathBuf },
    SyncDir,
    Note(Note),
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub(super) state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) contents: BTreeMap<Id, Vec<u8>>,
    pub(super) names: BTreeMap<PathBuf, Id>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) next: Id,
    /// What was there when the journal began.
    pub(super) base: Base,
    pub(super) journal: Vec<Op>,
    fault: Option<Fault>,
    full: bool,
    refusals: u64,
    seen: u64,
    hits: u64,
}

/// Contents and names that survived.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    pub(super) contents: BTreeMap<Id, Vec<u8>>,
    pub(super) names: BTreeMap<PathBuf, Id>,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn from_base(base: Base, next: Id) -> Self {
        let (contents, names) = (base.contents.clone(), base.names.clone());
        let state = State { contents, names, base, next, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// As an object, for [`Log::open`](crate::Log::open).
    pub fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.clone())
    }

    /// Writes into the journal.
    pub fn note(&self, note: Note) {
        locked(&self.state).journal.push(Op::Note(note));
    }

    /// How much was done to the disk.
    pub fn journal_len(&self) -> usize {
        locked(&self.state).journal.len()
    }

    /// Makes a call fail that is to come.
    pub fn fail(&self, fault: Fault) {
        let mut state = locked(&self.state);
        (state.fault, state.seen, state.hits) = (Some(fault), 0, 0);
    }

    /// Whether the disk has no space left: what is allocated can be written, and no more.
    pub fn full(&self, full: bool) {
        locked(&self.state).full = full;
    }

    /// How many calls found the disk full.
    pub fn refusals(&self) -> u64 {
        locked(&self.state).refusals
    }

    /// How many calls have failed of the fault that was asked for last.
    pub fn hits(&self) -> u64 {
        locked(&self.state).hits
    }

    /// No call fails any more. Returns how many did.
    pub fn heal(&self) -> u64 {
        let mut state = locked(&self.state);
        state.fault = None;
        state.hits
    }

    /// The files that end with `suffix`, in order.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let state = locked(&self.state);
        let names = state.names.keys().filter(|name| name.to_string_lossy().ends_with(suffix));
        names.cloned().collect()
    }

    /// What a file holds.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = locked(&self.state);
        state.contents.get(state.names.get(path)?).cloned()
    }

    /// Puts bytes in place of what a file holds, or makes it; past the journal.
    pub fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = locked(&self.state);
        let id = match state.names.get(path) {
            Some(id) => *id,
            None => {
                state.next += 1;
                state.next
            }
        };
        state.names.insert(path.to_owned(), id);
        state.base.names.insert(path.to_owned(), id);
        state.base.contents.insert(id, bytes.clone());
        state.contents.insert(id, bytes);
    }

    /// Another disk with the same files, and nothing in its journal.
    pub fn copy(&self) -> Self {
        let state = locked(&self.state);
        let base = Base { contents: state.contents.clone(), names: state.names.clone() };
        Self::from_base(base, state.next)
    }
}

impl State {
    /// Whether this call is the one that fails.
    fn fault(&mut self, call: Call) -> Option<FaultKind> {
        let fault = self.fault.filter(|fault| fault.kind.befalls(call))?;
        self.seen += 1;
        let hit = self.seen >= fault.call && self.seen - fault.call < fault.times;
        self.hits += u64::from(hit);
        hit.then_some(fault.kind)
    }

    fn check(&mut self, call: Call) -> io::Result<()> {
        if self.full && call == Call::Space {
            return Err(self.refuse());
        }
        match self.fault(call) {
            Some(kind) => Err(kind.error()),
            None => Ok(()),
        }
    }

    fn refuse(&mut self) -> io::Error {
        self.refusals += 1;
        FaultKind::Full.error()
    }

    /// Whether a write to there would need more space than the file has.
    fn grows(&self, id: Id, bytes: &[u8], offset: u64) -> bool {
        let len = self.contents.get(&id).map_or(0, Vec::len);
        offset.saturating_add(bytes.len() as u64) > len as u64
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, id: Id, bytes: &[u8], offset: u64) {
        apply(self.contents.entry(id).or_default(), offset, bytes);
        self.journal.push(Op::Write { id, offset, bytes: bytes.to_vec() });
    }
}

/// Writes into a content, which grows by zeros where it has to.
pub(super) fn apply(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let begin = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = begin + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[begin..end].copy_from_slice(bytes);
}

impl Fs for Disk {
    fn prepare_dir(&self, _: &Path) -> io::Result<()> {
        locked(&self.state).check(Call::Other)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = locked(&self.state);
        state.check(Call::Other)?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the test"));
        }
        Ok(Box::new(Held { disk: self.clone(), path: path.to_owned() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = locked(&self.state);
        state.check(Call::Other)?;
        let inside = state.names.keys().filter_map(|name| name.strip_prefix(dir).ok());
        Ok(inside.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.check(Call::Space)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.next += 1;
        let id = state.next;
        state.contents.insert(id, Vec::new());
        state.names.insert(path.to_owned(), id);
        state.journal.push(Op::Create { id, name: path.to_owned() });
        Ok(Arc::new(Opened { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.check(Call::Other)?;
        let id = state.find(path)?;
        Ok(Arc::new(Opened { disk: self.clone(), id }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.check(Call::Other)?;
        let id = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        state.journal.push(Op::Rename { id, from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.check(Call::Remove)?;
        state.find(path)?;
        state.names.remove(path);
        state.journal.push(Op::Remove { name: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.check(Call::SyncDir)?;
        state.journal.push(Op::SyncDir);
        Ok(())
    }
}

#[derive(Debug)]
struct Held {
    disk: Disk,
    path: PathBuf,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        locked(&self.disk.state).locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct Opened {
    disk: Disk,
    id: Id,
}

impl File for Opened {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = locked(&self.disk.state);
        state.check(Call::Other)?;
        let Some(content) = state.contents.get(&self.id) else { return Ok(0) };
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        if state.full && state.grows(self.id, bytes, offset) {
            return Err(state.refuse());
        }
        match state.fault(Call::Write) {
            Some(kind) => {
                if kind == FaultKind::ShortWrite {
                    state.write(self.id, &bytes[..bytes.len() / 2], offset);
                }
                Err(kind.error())
            }
            None => {
                state.write(self.id, bytes, offset);
                Ok(())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        let id = self.id;
        if let Err(error) = state.check(Call::Sync) {
            state.journal.push(Op::SyncFailed { id });
            return Err(error);
        }
        state.journal.push(Op::Sync { id });
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        locked(&self.disk.state).check(Call::Space)?;
        self.resize(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        locked(&self.disk.state).check(Call::Other)?;
        self.resize(len)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = locked(&self.disk.state);
        state.check(Call::Other)?;
        Ok(state.contents.get(&self.id).map_or(0, |content| content.len() as u64))
    }
}

impl Opened {
    fn resize(&self, len: u64) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        let id = self.id;
        let content = state.contents.entry(id).or_default();
        content.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        state.journal.push(Op::Resize { id, len });
        Ok(())
    }
}
