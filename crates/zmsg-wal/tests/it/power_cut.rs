//! Power cuts: every prefix of what was done to the disk, with what was not synced lost, kept, or
//! mixed; recovered, checked, cut again while it recovers, and used on.

mod model;
mod scenario;

use model::{Promise, verdict};
use scenario::{Generation, States};
use zmsg_wal::Durability;
use zmsg_wal::testing::{CrashPoint, Disk, Fault, FaultKind, Sabotage, Survival};

use crate::support::{all, open, small};

/// How many crash states the ordinary run checks; `ZMSG_WAL_CRASH_STATES` asks for more.
const STATES: usize = 20_000;

/// By when a broken rule has to be found.
const SABOTAGED_STATES: usize = 60_000;

fn states() -> usize {
    let asked = std::env::var("ZMSG_WAL_CRASH_STATES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(STATES)
}

/// Checks that many states, or says what is wrong with one of them.
fn search(sabotage: Sabotage, states: usize) -> Result<States, String> {
    let mut counted = States::default();
    for seed in 0.. {
        let mut generation = Generation::first(seed, sabotage);
        for _ in 0..3 {
            generation.run();
            check_all(&generation, &mut counted)
                .map_err(|wrong| format!("seed {seed}, {wrong}"))?;
            if counted.checked >= states {
                return Ok(counted);
            }
            if !generation.next() {
                break;
            }
        }
    }
    Ok(counted)
}

fn check_all(generation: &Generation, counted: &mut States) -> Result<(), String> {
    let survivals = [
        Survival::Nothing,
        Survival::Everything,
        Survival::Some { block: 512 },
        Survival::Some { block: 4096 },
        Survival::Some { block: 64 },
        Survival::Data,
        Survival::Names,
    ];
    for after in generation.begin..=generation.disk.journal_len() {
        for survival in survivals {
            let point = CrashPoint { after, survival, seed: counted.checked as u64 };
            let (disk, notes) = generation.disk.crash(point);
            let promise = Promise::new(&generation.before, &notes);
            verdict(&disk, generation, &promise, point)
                .map_err(|wrong| format!("{point:?}: {wrong}"))?;
            counted.checked += 1;
        }
    }
    counted.torn += generation.torn;
    Ok(())
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged_as_synced() {
    let begun = std::time::Instant::now();
    let counted = search(Sabotage::Nothing, states()).unwrap();
    println!("{} crash states in {:?}", counted.checked, begun.elapsed());
}

/// The check is worth something: it finds each of these.
macro_rules! found {
    ($($name:ident: $sabotage:ident,)+) => {
        $(#[test]
        fn $name() {
            let found = search(Sabotage::$sabotage, SABOTAGED_STATES);
            let wrong = found.expect_err("the sabotage was not noticed");
            println!("{wrong}");
        })+
    };
}

found! {
    the_check_finds_a_sync_that_was_left_out: SkipSync,
    the_check_finds_an_acknowledgement_before_the_sync: AcknowledgeBeforeSync,
    the_check_finds_a_segment_that_was_named_before_its_header_was_synced: SkipHeaderSync,
    the_check_finds_a_name_that_was_not_synced: SkipDirSync,
    the_check_finds_a_failed_sync_that_was_believed_the_second_time: RetryFailedSync,
    the_check_finds_records_that_were_appended_after_a_torn_one: AppendAfterTorn,
    the_check_finds_a_checksum_that_was_ignored: IgnoreCrc,
    the_check_finds_a_sequence_that_was_used_twice: ReuseSequence,
    the_check_finds_a_segment_that_went_before_its_checkpoint: RemoveBeforeCheckpoint,
    the_check_finds_an_unsynced_tail_that_was_trusted: TrustUnsynced,
}

/// What a killed process did may be seen and not be on the disk: names, too.
#[test]
fn a_power_cut_after_a_kill_and_a_recovery_leaves_a_log_that_opens() {
    let disk = Disk::new();
    for _ in 0..2 {
        let (log, _) = open(disk.fs(), &small()).unwrap();
        for number in 0..8 {
            if number == 4 {
                // A segment that gets its name with records in it.
                disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 1 });
            }
            log.append(1, &[&[3; 480]]).unwrap().wait(Durability::Synced).wait_blocking().unwrap();
        }
        log.remove_below(log.last_seq() - 1).unwrap();
        log.close_blocking().unwrap();
    }
    let mut seed = 0;
    for after in 0..=disk.journal_len() {
        let killed = disk.kill(after);
        let (log, recovered) = open(killed.fs(), &small()).unwrap();
        let begun = killed.journal_len();
        // What was read is delivered, and goes.
        log.append(1, &[&[4; 10]]).unwrap().wait(Durability::Synced).wait_blocking().unwrap();
        log.remove_below(recovered.next).unwrap();
        log.close_blocking().unwrap();
        for then in after..=killed.journal_len() {
            for _ in 0..if then <= begun { 12 } else { 3 } {
                seed += 1;
                let survival = Survival::Some { block: 512 };
                let (cut, _) = killed.crash(CrashPoint { after: then, survival, seed });
                let opened = open(cut.fs(), &small());
                let (log, _) = opened.unwrap_or_else(|error| panic!("{after}, {then}: {error}"));
                all(&log).unwrap_or_else(|error| panic!("{after}, {then}: {error}"));
            }
        }
    }
}
