//! Which call fails, and how.

use std::io;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Any call: an error of the device.
    Eio,
    /// A call that needs space: the disk is full.
    Full,
    /// A write: half of it arrives, then the disk is full.
    ShortWrite,
    /// A sync of a file or of a directory: what was written before may be gone, and a later sync says
    /// nothing about it.
    Sync,
    /// A sync of a directory.
    SyncDir,
    /// The removal of a file: it stays.
    Remove,
    /// A sync of a file panics: a defect, and no failure of a disk.
    Panic,
}

/// A fault that waits for its call.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// How the call fails.
    pub kind: FaultKind,
    /// Which of the calls that can fail so, counted from 1.
    pub call: u64,
    /// How many calls fail from then on.
    pub times: u64,
}

/// The calls, as far as faults tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Write,
    Space,
    Sync,
    SyncDir,
    Remove,
    Other,
}

impl FaultKind {
    pub(super) fn befalls(self, call: Call) -> bool {
        match self {
            Self::Eio => true,
            Self::Full => matches!(call, Call::Write | Call::Space),
            Self::ShortWrite => call == Call::Write,
            Self::Sync => matches!(call, Call::Sync | Call::SyncDir),
            Self::SyncDir => call == Call::SyncDir,
            Self::Remove => call == Call::Remove,
            Self::Panic => call == Call::Sync,
        }
    }

    pub(super) fn error(self) -> io::Error {
        assert!(self != Self::Panic, "a panic of the test");
        let full = matches!(self, Self::Full | Self::ShortWrite);
        let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        io::Error::new(kind, "a fault of the test")
    }
}
