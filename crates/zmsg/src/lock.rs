//! Locks on files: one engine per directory, and nobody behind a filter's back.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use zmsg_core::{Error, ErrorKind, Result};

/// A lock that the operating system frees when the last copy of it is gone, however the process
/// ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Locks an engine's directory, which is created if it does not exist.
    ///
    /// # Errors
    /// `Conflict` if another engine has it open; `Unavailable` if it cannot be used.
    pub fn directory(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|cause| unusable(directory, cause))?;
        Self::take(directory.join("LOCK"), true)
    }

    /// Locks a database file: alone, for who must know of every write to it (a local filter, an
    /// offline repair), or together with others who need not.
    ///
    /// # Errors
    /// `Conflict` if the lock of another process does not allow it; `Unavailable` if the lock's
    /// file cannot be used.
    pub fn database(database: &Path, alone: bool) -> Result<Self> {
        let mut name = database.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".lock");
        Self::take(database.with_file_name(name), alone)
    }

    fn take(path: PathBuf, alone: bool) -> Result<Self> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|cause| unusable(&path, cause))?;
        let locked = if alone { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Conflict,
                "another engine has it open: close it first, or use another directory",
            )
            .with_context("lock", path.display())),
            Err(TryLockError::Error(cause)) => Err(unusable(&path, cause)),
        }
    }

    /// Frees the lock although copies of it remain.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(lock = %self.path.display(), %error, "a lock could not be freed");
        }
    }
}

fn unusable(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "could not use a file of the engine")
        .with_context("path", path.display())
        .with_source(cause)
}
