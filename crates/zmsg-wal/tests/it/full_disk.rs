//! A disk that is really full: a small file system of its own, where one can be mounted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_wal::{Durability, Log, LogOptions, RealFs, SyncPolicy};

use crate::support::{all, small};

/// A file system of 24 MiB that goes away with the test.
struct SmallDisk {
    mounted: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Nothing where this process may not mount, or has no tools for it.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, mounted) = (dir.path().join("image"), dir.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        let done = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mounted.as_ref()]);
        done.then_some(Self { mounted, _dir: dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: where a test failed, the thread of its log may still have files open.
        run("umount", &["-l".as_ref(), self.mounted.as_ref()]);
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Takes all space that is left.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let mut part = 1 << 20;
    while part > 0 {
        if file.write_all(&vec![1; part]).and_then(|()| file.sync_data()).is_err() {
            part /= 2;
        }
    }
}

#[test]
fn a_real_full_disk_is_met_before_a_record_is_accepted_and_a_log_on_it_can_be_opened() {
    let Some(disk) = SmallDisk::mount() else {
        println!("left out: no small file system can be mounted here");
        return;
    };
    let options = LogOptions {
        sync: SyncPolicy::Os,
        segment_bytes: 1 << 20,
        buffer_bytes_max: 64 << 10,
        bytes_max: 1 << 30,
        ..small()
    };
    let dir = disk.mounted.join("log");
    let (log, _) = Log::open(&dir, options.clone(), RealFs::shared()).unwrap();
    let append = |log: &Log| {
        let appended = log.append(1, &[&[9; 500]])?;
        let often = appended.seq().is_multiple_of(50);
        let durability = if often { Durability::Synced } else { Durability::Flushed };
        appended.wait(durability).wait_blocking()
    };
    append(&log).unwrap();
    fill(&disk.mounted.join("filler"));
    let mut accepted = 1;
    let refused = loop {
        match append(&log) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    // No acknowledgement was lost, nothing failed in the middle: the space was there or was refused.
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert!(refused.to_string().contains("space on the disk"), "{refused}");
    assert!(accepted > 1_500, "{accepted}");
    log.sync().wait_blocking().unwrap();
    assert_eq!(log.stats().distrusted, 0);
    log.close_blocking().unwrap();

    // Not a byte is left, and yet it can be opened, read, and made smaller.
    let (log, recovered) = Log::open(&dir, options, RealFs::shared()).unwrap();
    assert_eq!((recovered.records, recovered.last), (accepted, accepted));
    assert_eq!(all(&log).unwrap().len() as u64, accepted);
    let refused = append(&log).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert!(log.remove_below(accepted - 1_800).unwrap() > 0);
    // Others take what was freed, up to the last byte.
    fill(&disk.mounted.join("another"));
    assert!(log.remove_below(accepted + 1).unwrap() > 0);
    while let Err(error) = append(&log) {
        assert!(error.is_temporary(), "{error}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    log.close_blocking().unwrap();
}
