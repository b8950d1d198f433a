//! The programs of servers on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where packages put the programs of PostgreSQL, outside of the search path: Debian by version,
/// Red Hat with the version in the name.
const POSTGRES_ROOTS: &[&str] = &["/usr/lib/postgresql", "/usr"];

/// Where pgbouncer lies for those who are not root.
const SYSTEM: &str = "/usr/sbin";

/// The programs that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `initdb` and `postgres`, of the newest version.
    pub postgres: Option<PathBuf>,
    /// `redis-server`.
    pub redis: Option<PathBuf>,
    /// `pgbouncer`.
    pub pgbouncer: Option<PathBuf>,
    /// `go`, of a toolchain: what builds the programs of tests with Go's asynq.
    pub go: Option<PathBuf>,
}

impl Binaries {
    /// Looks in the search path, then where distributions hide the programs of PostgreSQL.
    #[must_use]
    pub fn find() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = env::split_paths(&path).collect();
        let roots: Vec<PathBuf> = POSTGRES_ROOTS.iter().map(PathBuf::from).collect();
        Self {
            postgres: postgres_in(&path, &roots),
            redis: program_in(&path, "redis-server"),
            pgbouncer: program_in(&path, "pgbouncer")
                .or_else(|| program_in(&[SYSTEM.into()], "pgbouncer")),
            go: program_in(&path, "go"),
        }
    }
}

fn program_in(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn postgres_in(path: &[PathBuf], roots: &[PathBuf]) -> Option<PathBuf> {
    let is_complete = |found: &Path| ["initdb", "postgres"].iter().all(|p| found.join(p).is_file());
    if let Some(found) = path.iter().find(|directory| is_complete(directory)) {
        return Some(found.clone());
    }
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for entry in roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix("pgsql-").unwrap_or(&name).parse().ok();
        let programs = entry.path().join("bin");
        if let Some(version) = version.filter(|_| is_complete(&programs)) {
            versions.push((version, programs));
        }
    }
    versions.into_iter().max().map(|(_, programs)| programs)
}

#[cfg(test)]
mod tests {
    use super::super::directory::Directory;
    use super::*;

    fn install(root: &Path, programs: &[&str]) {
        for program in programs {
            let path = root.join(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn the_newest_complete_version_is_taken_and_the_path_goes_before_it() {
        let directory = Directory::create(None).unwrap();
        let root = directory.path();
        install(root, &["9/bin/initdb", "9/bin/postgres", "15/bin/initdb", "15/bin/postgres"]);
        install(root, &["17/bin/initdb", "own/initdb", "own/postgres", "own/redis-server"]);
        let roots = [root.to_owned()];
        assert_eq!(postgres_in(&[root.join("17/bin")], &roots), Some(root.join("15/bin")));
        let path = [root.join("none"), root.join("own")];
        assert_eq!(postgres_in(&path, &roots), Some(root.join("own")));
        assert_eq!(program_in(&path, "redis-server"), Some(root.join("own/redis-server")));
        assert_eq!(program_in(&path, "pgbouncer"), None);
        assert_eq!(postgres_in(&[], &[root.join("none")]), None);
    }
}
