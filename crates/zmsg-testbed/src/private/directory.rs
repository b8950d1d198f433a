//! A temporary directory that only its owner may enter, and the account of its owner.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::random;

/// Accounts that a server is run as where we are root, the first that exists.
const UNPRIVILEGED: &[&str] = &["postgres", "nobody"];

/// An account of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// A directory of mode 0700, removed with its value.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    account: Option<Account>,
}

impl Directory {
    /// Creates a directory, given to `account` if there is one.
    pub(super) fn create(account: Option<Account>) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("zmsg-testbed-{}", random::hex(8)));
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self { path, account };
        directory.give_away(&directory.path)?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn account(&self) -> Option<Account> {
        self.account
    }

    /// Writes a file of mode 0600 that belongs to the account.
    pub(super) fn write(&self, name: impl AsRef<Path>, text: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        // A file that is already there keeps its mode.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&path)?.write_all(text)?;
        self.give_away(&path)?;
        Ok(path)
    }

    fn give_away(&self, path: &Path) -> io::Result<()> {
        self.account.map_or(Ok(()), |account| chown(path, Some(account.user), Some(account.group)))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The account to run a server as that refuses root; `None` where we are not root.
pub(super) fn unprivileged() -> io::Result<Option<Account>> {
    // The owner of our own entry in /proc is who we are.
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !root {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let found = UNPRIVILEGED.iter().find_map(|name| account_in(&accounts, name));
    found.map(Some).ok_or_else(|| {
        let text = format!("PostgreSQL refuses root, and none of {UNPRIVILEGED:?} is an account");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

fn account_in(accounts: &str, name: &str) -> Option<Account> {
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
    Some(Account { user: found.get(2)?.parse().ok()?, group: found.get(3)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_enter_and_read() {
        let directory = Directory::create(None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o700);
        let file = directory.write("secret", b"one").unwrap();
        directory.write("secret", b"two").unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"two".to_vec()));

        let path = directory.path().to_owned();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/\npostgres:x:101:104::/:/\n";
        assert_eq!(account_in(accounts, "postgres"), Some(Account { user: 101, group: 104 }));
        assert_eq!(account_in(accounts, "nobody"), None);
    }
}
