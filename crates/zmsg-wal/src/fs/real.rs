//! The operating system's files.

use std::fs::{DirBuilder, File as OsFile, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::{File, Fs, Lock};

/// Writable by everybody.
const OTHERS_WRITE: u32 = 0o002;

/// How much is zeroed at a time where the file system cannot reserve space.
const ZEROS: usize = 64 * 1024;

/// The files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl RealFs {
    /// As an object, for [`Log::open`](crate::Log::open).
    pub fn shared() -> Arc<dyn Fs> {
        Arc::new(Self)
    }
}

impl Fs for RealFs {
    fn prepare_dir(&self, dir: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(dir) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_dir(dir)?,
            Err(error) => return Err(error),
        }
        let metadata = std::fs::symlink_metadata(dir)?;
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if metadata.is_symlink() {
            return refused("the directory is a symbolic link: name the place itself");
        }
        if !metadata.is_dir() {
            return refused("there is something else of that name");
        }
        if metadata.permissions().mode() & OTHERS_WRITE != 0 {
            return refused("everybody may write to the directory: chmod it to 0700");
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = private();
        let mut file = options.create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // A hint for people: a full disk may keep it from us.
                let _ = file.set_len(0);
                let _ = file.write_all_at(std::process::id().to_string().as_bytes(), 0);
                Ok(Box::new(FileLock { file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                Err(io::Error::new(io::ErrorKind::WouldBlock, holder))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
        // Our own names are ASCII: what is not text is not ours.
        names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose()).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(private().create_new(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(private().open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(private().write(false).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open_dir(dir)?.sync_all()
    }
}

/// Opens a directory; waits a little where this process has no descriptor to spare, for that is no
/// failure of the directory.
fn open_dir(dir: &Path) -> io::Result<OsFile> {
    const TRIES: u32 = 100;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
    let none_left = |error: &io::Error| {
        let codes = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        error.raw_os_error().is_some_and(|code| codes.iter().any(|no| no.raw_os_error() == code))
    };
    let mut tries = 0;
    loop {
        match OsFile::open(dir) {
            Err(error) if none_left(&error) && tries < TRIES => {
                tries += 1;
                std::thread::park_timeout(PAUSE);
            }
            opened => return opened,
        }
    }
}

/// For the owner alone, and never through a symbolic link.
fn private() -> OpenOptions {
    let mut options = OsFile::options();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    options
}

/// Makes a directory and those above it, and makes each new name survive a power cut.
fn make_dir(dir: &Path) -> io::Result<()> {
    let above = match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    if !above.exists() {
        make_dir(above)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => OsFile::open(above)?.sync_all(),
    }
}

#[derive(Debug)]
struct FileLock {
    file: OsFile,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // A child that has inherited the descriptor would keep it locked.
        let _ = self.file.unlock();
    }
}

impl Lock for FileLock {}

#[derive(Debug)]
struct RealFile(OsFile);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return self.zero(len),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl RealFile {
    fn zero(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let mut offset = self.size()?;
        while offset < len {
            let part = usize::try_from(len - offset).map_or(ZEROS, |left| left.min(ZEROS));
            self.0.write_all_at(&zeros[..part], offset)?;
            offset += part as u64;
        }
        Ok(())
    }
}
