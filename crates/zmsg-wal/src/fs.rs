//! The few file calls the log makes, as traits, so that a test can make each of them fail.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod real;

pub use real::RealFs;

/// A file system as the log uses it. All calls block.
///
/// What a name refers to is only sure to survive a power cut after [`sync_dir`](Self::sync_dir) of
/// its directory; what a file holds, after [`File::sync_data`].
pub trait Fs: fmt::Debug + Send + Sync + 'static {
    /// Makes the directory if there is none, for its owner alone, and refuses one that others could
    /// write to or that is not where its name says.
    ///
    /// # Errors
    /// `PermissionDenied` if the directory is not safe; else what the system said.
    fn prepare_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock at `path`, for as long as the guard lives and the process with it.
    ///
    /// # Errors
    /// `WouldBlock` if another holds it, with what its holder wrote into the file.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// The names in a directory.
    ///
    /// # Errors
    /// What the system said.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a file for its owner alone; it must not exist.
    ///
    /// # Errors
    /// What the system said.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// What the system said.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, for reading alone.
    ///
    /// # Errors
    /// What the system said.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in place of what had that name.
    ///
    /// # Errors
    /// What the system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a directory survive a power cut.
    ///
    /// # Errors
    /// What the system said.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// What the system said.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at `offset`; after an error any part of them may have been written.
    ///
    /// # Errors
    /// What the system said.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written, and the length, survive a power cut.
    ///
    /// # Errors
    /// What the system said. Nobody may believe a later success on the same file.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file `len` bytes long and gets the space for all of it, so that writing there
    /// cannot find the disk full.
    ///
    /// # Errors
    /// What the system said; `StorageFull` if there is not enough.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// What the system said.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The length of the file.
    ///
    /// # Errors
    /// What the system said.
    fn size(&self) -> io::Result<u64>;
}

/// A lock that is held until it is dropped.
pub trait Lock: fmt::Debug + Send + Sync + 'static {}
