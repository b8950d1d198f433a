//! Real files that fail, stand still, or have no space left, when a test says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use zmsg_wal::{File, Fs, Lock, RealFs};

/// Calls that can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// A sync of a file.
    Sync,
    /// The removal of a file.
    Remove,
}

/// Files of the operating system. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Call>,
    waiting: usize,
    fails: bool,
    /// Below this directory files may have so many bytes.
    room: Option<(PathBuf, u64)>,
}

/// Lets the calls go on when it is dropped, also where a test failed.
pub(crate) struct Held(Disk);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().held = None;
        self.0.shared.changed.notify_all();
    }
}

impl Disk {
    pub(crate) fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Such calls stand still from now on.
    pub(crate) fn hold(&self, call: Call) -> Held {
        self.state().held = Some(call);
        Held(self.clone())
    }

    /// How many calls stand still.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Every write and sync fails from now on, those that stand still too.
    pub(crate) fn fail(&self) {
        self.state().fails = true;
    }

    /// No file below `dir` gets any more space than all of them have now.
    pub(crate) fn fill(&self, dir: &Path) {
        self.state().room = Some((dir.to_owned(), used(dir)));
    }

    fn pass(&self, call: Call) -> io::Result<()> {
        let mut state = self.state();
        state.waiting += 1;
        while state.held == Some(call) {
            state = self.shared.changed.wait(state).unwrap();
        }
        state.waiting -= 1;
        failed(&state)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        match &self.state().room {
            Some((dir, max)) if used(dir) + bytes > *max => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

fn failed(state: &State) -> io::Result<()> {
    if state.fails { Err(io::Error::other("a fault of the test")) } else { Ok(()) }
}

/// The bytes of all files below a directory.
fn used(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => used(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

impl Fs for Disk {
    fn prepare_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.prepare_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealFs.lock(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFs.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OnDisk { disk: self.clone(), file: RealFs.create(path)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OnDisk { disk: self.clone(), file: RealFs.open(path)? }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFs.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass(Call::Remove)?;
        RealFs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
}

#[derive(Debug)]
struct OnDisk {
    disk: Disk,
    file: Arc<dyn File>,
}

impl File for OnDisk {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        failed(&self.disk.state())?;
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass(Call::Sync)?;
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.take(len)?;
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
