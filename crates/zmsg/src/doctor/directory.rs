//! The facts of the directory of an engine.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::directory_verdict::judge;
use super::finding::{Diagnosis, Finding};
use crate::config::Config;

pub(super) const PLACE: &str = "directory";

/// Small writes that are synced; the median is told.
const SYNCS: usize = 9;

/// What a directory is like.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) path: PathBuf,
    /// It will be made when the engine opens; the facts are those of the place where.
    pub(super) missing: bool,
    /// `ext4`, `nfs`, `tmpfs`; empty where the system does not tell.
    pub(super) file_system: String,
    pub(super) free_bytes: Option<u64>,
    /// Its mode, as `chmod` takes it.
    pub(super) mode: Option<u32>,
    /// How long a small write took to be on the disk, or why it could not be written.
    pub(super) sync: Option<Result<Duration, String>>,
}

/// Looks and judges.
pub(super) async fn examine(config: &Config, tasks: &TaskTracker, diagnosis: &mut Diagnosis) {
    let path = config.directory.clone();
    match tasks.spawn_blocking(move || collect(&path)).await {
        Ok(Ok(facts)) => judge(&facts, diagnosis),
        Ok(Err(error)) => {
            let found = format!("{} cannot be examined: {error}", config.directory.display());
            diagnosis.add(Finding::error(PLACE, found).change("directory"));
        }
        Err(error) => diagnosis.add(Finding::error(PLACE, format!("looking at it: {error}"))),
    }
}

fn collect(path: &Path) -> io::Result<Facts> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let place = fs::canonicalize(there)?;
    let missing = there != path;
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    Ok(Facts {
        missing,
        file_system: file_system(&mounts, &place).unwrap_or_default(),
        free_bytes: free_bytes(&place),
        mode: mode(&place),
        sync: (!missing).then(|| time_of_sync(&place).map_err(|error| error.to_string())),
        path,
    })
}

/// The type of the file system that a path lies on: that of the longest mount point before it,
/// and of several on one point the last.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let point = point.replace("\\040", " ");
        let length = Path::new(&point).components().count();
        if path.starts_with(&point) && best.is_none_or(|(longest, _)| length >= longest) {
            best = Some((length, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// std does not tell; POSIX says how `df -Pk` answers.
fn free_bytes(path: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(path).output().ok()?;
    available(&String::from_utf8_lossy(&output.stdout))
}

fn available(answer: &str) -> Option<u64> {
    let kilobytes: u64 = answer.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|found| found.mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode(_path: &Path) -> Option<u32> {
    None
}

fn time_of_sync(directory: &Path) -> io::Result<Duration> {
    let path = directory.join(format!(".zmsg-doctor-{}", process::id()));
    let times = times_of_sync(&path);
    let removed = fs::remove_file(&path);
    let mut times = times?;
    removed?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn times_of_sync(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let mut time = || {
        let begin = Instant::now();
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        Ok(begin.elapsed())
    };
    (0..SYNCS).map(|_| time()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_longest_and_last_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /srv tmpfs rw 0 0\nx /srv nfs4 rw 0 0\n\
                      y /srv/my\\040data xfs rw 0 0\nz /sr btrfs rw 0 0\n";
        for (path, kind) in [
            ("/home/x", "ext4"),
            ("/srv/zmsg", "nfs4"),
            ("/srv/my data/zmsg", "xfs"),
            ("/srvx", "ext4"),
        ] {
            assert_eq!(file_system(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
    }

    #[test]
    fn the_free_space_is_read_from_the_answer_of_df() {
        let answer = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                      /dev/a 100 40 60 40% /\n";
        assert_eq!(available(answer), Some(60 * 1024));
        assert_eq!(available("df: nothing"), None);
    }

    #[test]
    fn a_directory_is_examined_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let facts = collect(directory.path()).unwrap();
        assert!(!facts.missing && facts.free_bytes.is_some(), "{facts:?}");
        assert!(matches!(facts.sync, Some(Ok(_))), "{facts:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        let facts = collect(&directory.path().join("a/b")).unwrap();
        assert!(facts.missing && facts.sync.is_none(), "{facts:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
