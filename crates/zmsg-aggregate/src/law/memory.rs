//! 50,000 sequences in memory: the buffer's own rule of folding, against the model.

use fastrand::Rng;
use zmsg_core::{OnMissing, Task};

use super::table::{Done, Table};
use super::write::{Cells, Write, sequence};
use crate::buffer::{Batch, Entry, Incoming, Work};
use crate::flush::merge;

/// What became of a sequence that went through the buffer.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) table: Table,
    /// For each write, what became of its group.
    pub(super) done: Vec<Done>,
    pub(super) groups: usize,
}

/// How the proof itself is proved: by breaking what it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// The buffer gets the first two writes in the wrong order.
    Swapped,
    /// The statements of a flush run last first.
    Reversed,
    /// The last write is lost.
    Lost,
    /// The first write counts twice.
    Doubled,
}

/// Runs a sequence through the buffer and executes what comes out on the model.
pub(super) fn folded(rows: &[Cells], writes: &[Write], tasks: &[Task]) -> Folded {
    let mut batch = Batch::default();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let incoming = Incoming::of(task.clone(), OnMissing::DeadLetter).unwrap();
        let seq = u64::try_from(index).unwrap() + 1;
        let placed = batch.push(incoming.work, seq, None);
        if placed.folded {
            members[placed.at].push(index);
        } else {
            members.push(vec![index]);
        }
    }
    let entries: Vec<Entry> = batch.into_entries();
    for (entry, members) in entries.iter().zip(&members) {
        assert_eq!(entry.ops, u64::try_from(members.len()).unwrap());
    }
    let merged = merge(entries);
    let groups = merged.len();
    let mut table = Table::new(rows);
    let mut folded =
        Folded { table: table.clone(), done: vec![Done::Applied; writes.len()], groups };
    for group in merged {
        let together = execute_group(&mut table, &group, writes);
        for entry in &group {
            // A statement that changes several columns is taken apart if it is refused.
            let done = match together {
                Done::Refused => execute_group(&mut table, std::slice::from_ref(entry), writes),
                done => done,
            };
            let first = usize::try_from(entry.seq.0).unwrap() - 1;
            let together = members.iter().find(|members| members[0] == first).unwrap();
            together.iter().for_each(|member| folded.done[*member] = done);
        }
    }
    folded.table = table;
    folded
}

/// One statement of a flush.
fn execute_group(table: &mut Table, group: &[Entry], writes: &[Write]) -> Done {
    let foldings: Vec<_> = group.iter().filter_map(Entry::folding).collect();
    let Some(first) = foldings.first() else {
        let last = usize::try_from(group[0].seq.1).unwrap() - 1;
        table.execute(&writes[last]);
        return Done::Applied;
    };
    let folds: Vec<_> = foldings.iter().map(|f| (f.column.as_str(), &f.fold)).collect();
    table.apply(&first.target.condition, first.on_missing, &folds)
}

/// The law on one sequence. `Ok` with how many statements were saved; else what differs.
fn check(rows: &[Cells], writes: &[Write], sabotage: Sabotage) -> Result<usize, String> {
    let mut fed = writes.to_vec();
    match sabotage {
        Sabotage::Swapped if fed.len() > 1 => fed.swap(0, 1),
        Sabotage::Lost => drop(fed.pop()),
        Sabotage::Doubled => fed.insert(0, fed[0].clone()),
        _ => {}
    }
    let mut tasks: Vec<Task> = fed.iter().map(|write| write.task("t")).collect();
    if sabotage == Sabotage::Reversed {
        fed.reverse();
        tasks.reverse();
    }
    let folded = folded(rows, &fed, &tasks);

    let mut all = Table::new(rows);
    writes.iter().for_each(|write| all.execute(write));
    if folded.done.contains(&Done::Refused) && !all.strayed {
        return Err("a group was refused although every write is legal by itself".to_owned());
    }
    // What a refused group held has no effect: the law is about the rest.
    let mut rest = Table::new(rows);
    for (index, write) in writes.iter().enumerate() {
        if sabotage != Sabotage::None || folded.done[index] != Done::Refused {
            rest.execute(write);
        }
    }
    let expected = rest.cells();
    if expected.is_none() {
        return Err("a value beyond its column was written".to_owned());
    }
    if folded.table.cells() != expected {
        return Err(format!("folded:     {:?}\none by one: {expected:?}", folded.table.cells()));
    }
    Ok(writes.len() - folded.groups.min(writes.len()))
}

/// The shortest sequence that still fails, by leaving out one write after the other.
fn shrink(rows: &[Cells], writes: &[Write]) -> String {
    let mut writes = writes.to_vec();
    let mut at = 0;
    while at < writes.len() {
        let mut fewer = writes.clone();
        fewer.remove(at);
        if check(rows, &fewer, Sabotage::None).is_err() {
            writes = fewer;
        } else {
            at += 1;
        }
    }
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(super::table::show).collect()).collect();
    let problem = check(rows, &writes, Sabotage::None).unwrap_err();
    format!("rows {shown:#?}\nwrites {writes:#?}\n{problem}")
}

/// Folded = one by one, on 50,000 random sequences.
#[test]
fn folding_equals_one_by_one_in_50_000_sequences() {
    let (mut writes_made, mut saved, mut legal) = (0, 0, 0);
    for seed in 0..50_000 {
        let (rows, writes) = sequence(&mut Rng::with_seed(seed));
        match check(&rows, &writes, Sabotage::None) {
            Ok(fewer) => saved += fewer,
            Err(_) => panic!("seed {seed}: {}", shrink(&rows, &writes)),
        }
        let mut all = Table::new(&rows);
        writes.iter().for_each(|write| all.execute(write));
        legal += u32::from(!all.strayed);
        writes_made += writes.len();
    }
    // The proof is worth something only if much folds and much is legal.
    assert!(saved * 4 > writes_made, "{saved} of {writes_made} statements saved");
    assert!(legal > 10_000, "{legal} sequences were legal throughout");
}

/// The checker notices what it is there to notice.
#[test]
fn a_sabotaged_fold_is_caught() {
    for sabotage in [Sabotage::Swapped, Sabotage::Reversed, Sabotage::Lost, Sabotage::Doubled] {
        let caught = (0..1_000).any(|seed| {
            let (rows, writes) = sequence(&mut Rng::with_seed(seed));
            let mut all = Table::new(&rows);
            writes.iter().for_each(|write| all.execute(write));
            !all.strayed && check(&rows, &writes, sabotage).is_err()
        });
        assert!(caught, "{sabotage:?}");
    }
}

#[test]
fn placing_a_statement_never_changes_the_order_of_what_is_around_it() {
    let plain = Write::SetLikes { id: 0, to: 1 };
    let tasks: Vec<Task> = vec![
        Write::Rename("a").task("t"),
        Write::Rename("b").task("t"),
        plain.task("t"),
        Write::Rename("c").task("t"),
        Write::Rename("d").task("t"),
    ];
    let mut batch = Batch::default();
    for (index, task) in tasks.into_iter().enumerate() {
        let work = Incoming::of(task, OnMissing::DeadLetter).unwrap().work;
        batch.push(work, u64::try_from(index).unwrap(), None);
    }
    let binds: Vec<String> = batch
        .entries()
        .iter()
        .map(|entry| match &entry.work {
            Work::Statement(statement) => super::table::show(&statement.binds[0]),
            Work::Fold(_) => unreachable!(),
        })
        .collect();
    assert_eq!(binds, ["\"b\"", "1", "\"d\""]);
}
