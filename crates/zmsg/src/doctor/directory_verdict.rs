//! What the facts of a directory mean for an engine.

use std::time::Duration;

use super::directory::{Facts, PLACE};
use super::finding::{Diagnosis, Finding, Promise};

/// Where locks and syncs of several machines meet.
const NETWORK: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "afs"];

/// What is gone with the machine's memory.
const MEMORY: &[&str] = &["tmpfs", "ramfs"];

/// What is gone with its container.
const LAYERED: &[&str] = &["overlay", "aufs"];

const MEBIBYTE: u64 = 1 << 20;
const FREE_MIN: u64 = 64 * MEBIBYTE;
const FREE_LOW: u64 = 1024 * MEBIBYTE;

/// No disk is so quick, and with one so slow a commit takes as long.
const SYNC_TOO_QUICK: Duration = Duration::from_micros(5);
const SYNC_SLOW: Duration = Duration::from_millis(20);

/// Adds what is wrong.
pub(super) fn judge(facts: &Facts, diagnosis: &mut Diagnosis) {
    let free = facts.free_bytes.map(|bytes| format!(", {} MiB free", bytes / MEBIBYTE));
    let sync = match &facts.sync {
        Some(Ok(time)) => format!(", a synced write takes {time:.0?}"),
        _ => String::new(),
    };
    let (path, kind) = (facts.path.display(), &facts.file_system);
    diagnosis.looked_at(format!("{path}: {kind}{}{sync}", free.unwrap_or_default()));
    if facts.missing {
        diagnosis.add(Finding::note(PLACE, format!("{path} is made when the engine opens")));
    }
    file_system(facts, diagnosis);
    space(facts, diagnosis);
    syncs(facts, diagnosis);
    permissions(facts, diagnosis);
}

fn file_system(facts: &Facts, diagnosis: &mut Diagnosis) {
    let kind = facts.file_system.as_str();
    let change = "directory: a path on a local disk";
    if NETWORK.contains(&kind) {
        let found = format!("{kind}: its locks and syncs are not those of a local disk");
        diagnosis.add(Finding::error(PLACE, found).weakens(Promise::Alone).change(change));
    } else if MEMORY.contains(&kind) {
        let found = format!("{kind}: everything in it is gone when the machine stops");
        diagnosis.add(Finding::error(PLACE, found).weakens(Promise::Committed).change(change));
    } else if LAYERED.contains(&kind) {
        let found = format!("{kind}: everything in it is gone with the container");
        diagnosis.add(
            Finding::warning(PLACE, found)
                .weakens(Promise::Committed)
                .change("directory: a path on a volume"),
        );
    }
}

fn space(facts: &Facts, diagnosis: &mut Diagnosis) {
    let Some(free) = facts.free_bytes.filter(|&free| free < FREE_LOW) else { return };
    let found = format!("{} MiB are free: writes fail when the disk is full", free / MEBIBYTE);
    let new = if free < FREE_MIN { Finding::error } else { Finding::warning };
    diagnosis.add(new(PLACE, found).weakens(Promise::Bounded).change("free some space"));
}

fn syncs(facts: &Facts, diagnosis: &mut Diagnosis) {
    match &facts.sync {
        Some(Err(error)) => {
            let found = format!("a file cannot be written there: {error}");
            diagnosis.add(Finding::error(PLACE, found).change("the owner or the mode of it"));
        }
        Some(Ok(time)) if *time < SYNC_TOO_QUICK => {
            let found = format!("a synced write takes {time:.1?}: it does not reach a disk");
            diagnosis.add(
                Finding::warning(PLACE, found)
                    .weakens(Promise::Committed)
                    .change("turn off what swallows fsync"),
            );
        }
        Some(Ok(time)) if *time > SYNC_SLOW => {
            let found = format!("a synced write takes {time:.0?}: every commit waits as long");
            diagnosis.add(Finding::warning(PLACE, found).change("directory: a faster disk"));
        }
        _ => {}
    }
}

fn permissions(facts: &Facts, diagnosis: &mut Diagnosis) {
    let (Some(mode), false) = (facts.mode, facts.missing) else { return };
    let change = format!("chmod 700 {}", facts.path.display());
    if mode & 0o022 != 0 {
        let found = format!("mode {mode:o}: others may change what the engine keeps there");
        diagnosis.add(Finding::warning(PLACE, found).weakens(Promise::Alone).change(change));
    } else if mode & 0o055 != 0 {
        let found = format!("mode {mode:o}: others may read what the engine keeps there");
        diagnosis.add(Finding::note(PLACE, found).change(change));
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn healthy() -> Facts {
        Facts {
            path: "/srv/zmsg".into(),
            missing: false,
            file_system: "ext4".into(),
            free_bytes: Some(100 * FREE_LOW),
            mode: Some(0o700),
            sync: Some(Ok(Duration::from_micros(90))),
        }
    }

    fn findings(facts: &Facts) -> Vec<Finding> {
        let mut diagnosis = Diagnosis::default();
        judge(facts, &mut diagnosis);
        diagnosis.findings
    }

    fn only(change: impl FnOnce(&mut Facts)) -> (Severity, Option<Promise>) {
        let mut facts = healthy();
        change(&mut facts);
        let found = findings(&facts);
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].severity, found[0].weakens)
    }

    #[test]
    fn a_local_disk_is_not_complained_about() {
        assert_eq!(findings(&healthy()), []);
    }

    #[test]
    fn file_systems_that_break_promises_are_found() {
        let on = |kind: &'static str| only(|facts| facts.file_system = kind.into());
        assert_eq!(on("nfs4"), (Severity::Error, Some(Promise::Alone)));
        assert_eq!(on("tmpfs"), (Severity::Error, Some(Promise::Committed)));
        assert_eq!(on("overlay"), (Severity::Warning, Some(Promise::Committed)));
    }

    #[test]
    fn little_space_is_a_warning_and_none_an_error() {
        let with = |bytes| only(|facts| facts.free_bytes = Some(bytes)).0;
        assert_eq!(with(FREE_LOW - 1), Severity::Warning);
        assert_eq!(with(FREE_MIN - 1), Severity::Error);
    }

    #[test]
    fn syncs_that_are_no_syncs_that_are_slow_and_that_fail_are_found() {
        let with = |sync| only(|facts| facts.sync = Some(sync));
        let quick = with(Ok(Duration::from_micros(1)));
        assert_eq!(quick, (Severity::Warning, Some(Promise::Committed)));
        assert_eq!(with(Ok(Duration::from_millis(50))).0, Severity::Warning);
        assert_eq!(with(Err("denied".into())).0, Severity::Error);
    }

    #[test]
    fn a_directory_that_others_may_enter_is_found() {
        let with = |mode| only(|facts| facts.mode = Some(mode)).0;
        assert_eq!([with(0o777), with(0o755)], [Severity::Warning, Severity::Note]);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_a_note() {
        let missing =
            |facts: &mut Facts| (facts.missing, facts.sync, facts.mode) = (true, None, Some(0o777));
        assert_eq!(only(missing).0, Severity::Note);
    }
}
