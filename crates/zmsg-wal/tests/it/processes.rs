//! Several processes: one log each directory, and a process that is killed at any point.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use zmsg_core::ErrorKind;
use zmsg_wal::{Durability, Log, LogOptions, RealFs};

use crate::support::{all, small};

/// Where the child's log is; this program is the child if it is set.
const CHILD: &str = "ZMSG_WAL_TEST_CHILD";

/// How often a process is killed; `ZMSG_WAL_KILLS` asks for more.
const KILLS: u64 = 40;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, ..small() }
}

/// Appends for ever and says what was acknowledged.
#[test]
fn child_that_appends() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (log, recovered) = Log::open(&dir, options(), RealFs::shared()).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nopen {}", recovered.next).unwrap();
    for number in 0_u64.. {
        let durability = if number % 3 == 0 { Durability::Synced } else { Durability::Flushed };
        let payload = number.to_le_bytes().repeat(1 + (number % 37) as usize);
        let appended = log.append(4, &[&payload]).unwrap();
        appended.wait(durability).wait_blocking().unwrap();
        writeln!(out, "ack {}", appended.seq()).unwrap();
        if number % 200 == 199 {
            log.remove_below(appended.seq() - 100).unwrap();
            writeln!(out, "below {}", appended.seq() - 100).unwrap();
        }
    }
}

fn start(dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["processes::child_that_appends", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// The numbers that the child said, by word, up to its end or to so many acknowledgements.
#[derive(Debug, Default)]
struct Said {
    open: u64,
    acknowledged: Vec<u64>,
    below: u64,
}

fn listen(out: &mut BufReader<ChildStdout>, enough: usize, said: &mut Said) {
    let mut line = String::new();
    while said.acknowledged.len() < enough && out.read_line(&mut line).unwrap() > 0 {
        // A line that a kill cut short says nothing.
        if let Some((word, number)) = line.strip_suffix('\n').and_then(|line| line.split_once(' '))
            && let Ok(number) = number.parse()
        {
            match word {
                "open" => said.open = number,
                "ack" => said.acknowledged.push(number),
                "below" => said.below = number,
                _ => {}
            }
        }
        line.clear();
    }
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged_and_no_sequence_comes_twice() {
    let kills = std::env::var("ZMSG_WAL_KILLS").ok().and_then(|text| text.parse().ok());
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let mut random = fastrand::Rng::with_seed(11);
    let mut given = 0;
    for _ in 0..kills.unwrap_or(KILLS) {
        let (mut child, mut out) = start(&dir);
        let mut said = Said::default();
        listen(&mut out, random.usize(1..400), &mut said);
        child.kill().unwrap();
        child.wait().unwrap();
        listen(&mut out, usize::MAX, &mut said);
        assert!(said.open > given, "{} was given out before: {}", said.open, given);
        let (log, recovered) = Log::open(&dir, options(), RealFs::shared()).unwrap();
        let found = all(&log).unwrap();
        assert!(recovered.delivered_below >= said.below);
        for seq in said.acknowledged.iter().filter(|seq| **seq >= recovered.delivered_below) {
            assert!(found.binary_search_by_key(seq, |record| record.seq).is_ok(), "{seq} is lost");
        }
        given = recovered.next.max(*said.acknowledged.last().unwrap_or(&0));
        assert!(found.iter().all(|record| record.seq < recovered.next && record.kind == 4));
        // Sometimes it is not closed, so that the next one finds what this one recovered.
        if random.bool() {
            log.close_blocking().unwrap();
        } else {
            let ended = log.wait(u64::MAX, Durability::Synced);
            drop(log);
            let _ = ended.wait_blocking();
        }
        given = given.saturating_sub(1);
    }
}

#[test]
fn a_directory_that_another_process_has_open_is_refused_with_its_pid() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let (mut child, mut out) = start(&dir);
    listen(&mut out, 1, &mut Said::default());
    let error = Log::open(&dir, options(), RealFs::shared()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(
        text.contains(&dir.display().to_string()) && text.contains("another directory"),
        "{text}"
    );
    assert!(text.contains(&child.id().to_string()), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    Log::open(&dir, options(), RealFs::shared()).unwrap();
}

#[test]
fn two_handles_of_one_process_cannot_open_a_directory_twice() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let (log, _) = Log::open(&dir, options(), RealFs::shared()).unwrap();
    let error = Log::open(&dir, options(), RealFs::shared()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    log.close_blocking().unwrap();
    Log::open(&dir, options(), RealFs::shared()).unwrap();
}

#[test]
fn the_files_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/log");
    let (log, _) = Log::open(&dir, options(), RealFs::shared()).unwrap();
    log.append(1, &[b"one"]).unwrap().wait(Durability::Synced).wait_blocking().unwrap();
    log.checkpoint(2).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 4, "segment, spare, lock and checkpoint: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_directory_that_others_may_write_to_or_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open_to_all = dir.path().join("open");
    std::fs::create_dir(&open_to_all).unwrap();
    std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o777)).unwrap();
    let link = dir.path().join("link");
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for refused in [open_to_all, link, file] {
        let error = Log::open(&refused, options(), RealFs::shared()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
}
