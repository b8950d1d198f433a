//! The comparison: what was acknowledged is in the tables, and nothing is there twice.

use std::collections::{BTreeMap, HashMap};

use super::history::{Answer, Effect, History, Op};
use super::run::COMPANIONS;
use super::tables::Tables;

/// What became of the writes of a run.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// How often each write took effect, where that can be told; those of shared counters cannot.
    pub(super) times: BTreeMap<u64, u64>,
    /// Acknowledged, and not in the tables.
    pub(super) lost: BTreeMap<u64, u64>,
    /// In the tables more often than once, or never made at all.
    pub(super) doubled: BTreeMap<u64, u64>,
    pub(super) problems: Vec<String>,
}

/// Compares what was reported with what is there.
pub(super) fn check(history: &History, tables: &Tables) -> Verdict {
    let mut verdict = Verdict { problems: history.problems.clone(), ..Verdict::default() };
    let found = found(history, tables, &mut verdict);
    for (op, it) in &history.ops {
        let times = found.get(op).copied().unwrap_or_default();
        match it.effect() {
            Effect::Count => {}
            Effect::Victim | Effect::End => verdict.of_victim(*op, it, history, tables),
            _ => verdict.of_one(*op, it, times),
        }
    }
    verdict.of_counters(history, tables);
    verdict.of_order(history, tables);
    let strange = tables.strange.iter().map(|it| format!("a dead letter of another: {it}"));
    verdict.problems.extend(strange);
    if tables.ledger > 0 {
        // Every stream has ended: nobody will ever ask for its rows, or remove them.
        verdict.problems.push(format!("{} rows stay behind in the ledger", tables.ledger));
    }
    verdict
}

/// How often each write is in the tables; what was never made is a problem.
fn found(history: &History, tables: &Tables, verdict: &mut Verdict) -> HashMap<u64, u64> {
    let mut found: HashMap<u64, u64> = HashMap::new();
    let mut note = |op: u64, times: u64, effect: Effect, row: Option<u64>| {
        let made = history.ops.get(&op);
        let fits = |it: &&Op| it.effect() == effect && row.is_none_or(|row| it.row == row);
        match made.filter(fits) {
            Some(_) => *found.entry(op).or_default() += times,
            None => {
                verdict.doubled.insert(op, times);
                verdict.problems.push(format!(
                    "{op} is in the tables as {effect:?} {row:?} and was not made so"
                ));
            }
        }
    };
    tables.effects.iter().for_each(|(op, n)| note(*op, *n, Effect::Own, None));
    tables.dead.iter().for_each(|(op, (n, _))| note(*op, *n, Effect::Dead, None));
    tables.delivered.iter().for_each(|op| note(*op, 1, Effect::Delivered, None));
    tables.victims.iter().for_each(|(op, n)| note(*op, *n, Effect::Victim, None));
    for (row, shared) in &tables.shared {
        let row = Some(*row);
        shared.tags.iter().for_each(|op| note(*op, 1, Effect::Tag, row));
        shared.later.iter().for_each(|op| note(*op, 1, Effect::Later, row));
        shared.marks.iter().for_each(|op| note(*op, 1, Effect::Mark, row));
    }
    found
}

impl Verdict {
    fn of_one(&mut self, op: u64, it: &Op, times: u64) {
        self.times.insert(op, times);
        if it.answer == Answer::Refused && times > 0 {
            self.double(op, times, &format!("{op} ({}) was refused and took effect", it.kind));
        } else if times == 0 && it.is_kept() {
            self.lose(op, 1, &format!("{op} ({}) was acknowledged and is lost", it.kind));
        } else if times > 1 {
            self.double(op, times - 1, &format!("{op} ({}) took effect {times} times", it.kind));
        }
    }

    /// A row is there from its acknowledgement on until its deletion was asked for, and is not there
    /// once that was acknowledged.
    fn of_victim(&mut self, op: u64, it: &Op, history: &History, tables: &Tables) {
        let is_there = |victim: u64| tables.victims.contains_key(&victim);
        if it.effect() == Effect::End {
            self.times.insert(op, u64::from(!is_there(it.row)));
            if it.is_acked() && is_there(it.row) {
                self.lose(op, 1, &format!("{op} ({} of {}) is lost", it.kind, it.row));
            }
            return;
        }
        let ends = |other: &Op| other.effect() == Effect::End && other.row == op;
        // The task that made it ends it, soon: not many writes have to be looked at.
        let ended = history.ops.range(op..).take(2_000).any(|(_, other)| ends(other));
        self.times.insert(op, u64::from(is_there(op) || ended));
        if it.is_acked() && !is_there(op) && !ended {
            self.lose(op, 1, &format!("{op} ({}) was acknowledged and is lost", it.kind));
        }
    }

    /// acknowledged ≤ value ≤ acknowledged + unknown.
    fn of_counters(&mut self, history: &History, tables: &Tables) {
        let mut asked: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for (op, it) in history.ops.iter().filter(|(_, it)| it.effect() == Effect::Count) {
            let (acked, made, last) = asked.entry(it.row).or_default();
            *acked += u64::from(it.is_acked());
            (*made, *last) = (*made + 1, *op);
        }
        for (row, shared) in &tables.shared {
            let (acked, made, last) = asked.get(row).copied().unwrap_or_default();
            let n = shared.n;
            let bounds = format!("counter {row} is {n}: {acked} acknowledged of {made}");
            if n < acked {
                self.lose(last, acked - n, &bounds);
            } else if n > made {
                self.double(last, n - made, &bounds);
            }
        }
    }

    /// What one task wrote to one list one after the other stands there in that order; and what one
    /// process had acknowledged, before that of the next one: it was recovered first.
    fn of_order(&mut self, history: &History, tables: &Tables) {
        for (row, shared) in &tables.shared {
            self.of_list(&format!("row {row}"), &shared.tags, history);
        }
        self.of_list("what was delivered", &tables.delivered, history);
    }

    fn of_list(&mut self, name: &str, list: &[u64], history: &History) {
        let mut last: HashMap<(usize, u64), u64> = HashMap::new();
        let mut newest: HashMap<usize, (usize, u64)> = HashMap::new();
        for op in list {
            let Some(it) = history.ops.get(op) else { continue };
            let before = last.insert((it.round, it.task), *op);
            let before = before.filter(|before| before > op);
            let newest = newest.entry(it.round / COMPANIONS).or_default();
            let ordered = it.is_kept() && it.route() != "lanes";
            let before = before.or((ordered && it.round < newest.0).then_some(newest.1));
            if let Some(before) = before {
                self.problems.push(format!("{name}: {before} stands before {op}"));
            }
            if ordered {
                *newest = (*newest).max((it.round, *op));
            }
        }
    }

    fn lose(&mut self, op: u64, times: u64, problem: &str) {
        *self.lost.entry(op).or_default() += times;
        self.problems.push(problem.to_owned());
    }

    fn double(&mut self, op: u64, times: u64, problem: &str) {
        *self.doubled.entry(op).or_default() += times;
        self.problems.push(problem.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one process reported, and what is there.
    fn checked(lines: &[&str], rows: &[&str]) -> Verdict {
        let (mut history, mut tables) = (History::default(), Tables::default());
        lines.iter().for_each(|line| history.take(0, line));
        rows.iter().for_each(|row| tables.take(row).unwrap());
        check(&history, &tables)
    }

    fn sums(verdict: &Verdict) -> (u64, u64) {
        (verdict.lost.values().sum(), verdict.doubled.values().sum())
    }

    #[test]
    fn what_was_acknowledged_and_is_there_once_is_well() {
        let lines = [
            "S 1 store-own 0 0",
            "A 1 Database",
            "S 2 periodic-tag 3 1",
            "A 2 LocalDisk",
            "S 3 delayed-tag 3 0",
            "A 3 Database",
            "S 4 periodic-mark 3 0",
            "A 4 LocalDisk",
            "S 5 periodic-count 3 0",
            "A 5 LocalDisk",
            "S 6 delayed-doomed 1 0",
            "A 6 Database",
        ];
        let rows = ["effect op_1 1", r#"shared row_3 1 [2] [3] {"4":1}"#, "dead doomed_6 why"];
        let verdict = checked(&lines, &rows);
        assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
        assert_eq!(sums(&verdict), (0, 0));
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost() {
        for kind in
            ["store-own", "delayed-own", "periodic-statement", "periodic-tag", "periodic-mark"]
        {
            let level = if kind.starts_with("periodic") { "LocalDisk" } else { "Database" };
            let lines = [format!("S 1 {kind} 0 0"), format!("A 1 {level}")];
            let verdict = checked(&[&lines[0], &lines[1]], &["shared row_0 0 - - -"]);
            assert_eq!(sums(&verdict), (1, 0), "{kind}");
        }
        let verdict = checked(&["S 1 delayed-doomed 0 0", "A 1 Database"], &[]);
        assert_eq!(sums(&verdict), (1, 0), "a dead letter");
    }

    #[test]
    fn what_is_there_twice_is_doubled_also_if_nobody_acknowledged_it() {
        let verdict = checked(&["S 1 store-own 0 0"], &["effect op_1 2"]);
        assert_eq!(sums(&verdict), (0, 1));
        let verdict = checked(&["S 1 periodic-tag 0 0"], &["shared row_0 0 [1,1,1] - -"]);
        assert_eq!(sums(&verdict), (0, 2));
        let verdict =
            checked(&["S 1 periodic-orphan 0 0"], &["dead doomed_1 x", "dead doomed_1 x"]);
        assert_eq!(sums(&verdict), (0, 1));
    }

    #[test]
    fn what_was_not_answered_may_be_there_or_not() {
        for rows in [&["shared row_0 0 - - -"], &["shared row_0 0 [1] - -"]] {
            let verdict = checked(&["S 1 periodic-tag 0 0"], rows);
            assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
        }
    }

    #[test]
    fn what_nobody_made_or_stands_in_another_row_is_a_problem() {
        assert_eq!(sums(&checked(&[], &["effect op_9 1"])), (0, 1));
        let verdict = checked(&["S 1 periodic-tag 2 0"], &["shared row_0 0 [1] - -"]);
        assert_eq!(sums(&verdict), (0, 1));
        assert!(!checked(&[], &["dead row_1 no row"]).problems.is_empty());
        assert_eq!(checked(&[], &["ledger 16"]).problems.len(), 1);
    }

    #[test]
    fn an_item_of_a_batch_queue_is_delivered_once_in_order_if_its_log_had_it() {
        let lines = ["S 1 batch-own 0 0", "A 1 LocalDisk", "S 2 batch-own 0 0", "A 2 LocalDisk"];
        assert!(checked(&lines, &["delivered 1", "delivered 2"]).problems.is_empty());
        assert_eq!(sums(&checked(&lines, &["delivered 1"])), (1, 0));
        assert_eq!(checked(&lines, &["delivered 2", "delivered 1"]).problems.len(), 1);
        let twice = ["delivered 1", "delivered 2", "delivered 2"];
        assert_eq!(sums(&checked(&lines, &twice)), (0, 1));
        // What is in memory alone may go with its process, and is no more than that.
        let hybrid = ["S 1 hybrid-own 0 0", "A 1 Memory", "S 2 hybrid-own 0 0", "A 2 LocalDisk"];
        assert_eq!(sums(&checked(&hybrid, &["delivered 2"])), (0, 0));
        assert_eq!(sums(&checked(&hybrid, &["delivered 1"])), (1, 0));
        assert_eq!(
            checked(&["S 1 batch-own 0 0", "A 1 Memory"], &["delivered 1"]).problems.len(),
            1
        );
        // Nor was it refused, and there.
        let refused = ["S 1 batch-own 0 0", "N 1"];
        assert_eq!(sums(&checked(&refused, &[])), (0, 0));
        assert_eq!(sums(&checked(&refused, &["delivered 1"])), (0, 1));
    }

    #[test]
    fn a_shared_counter_lies_between_what_was_acknowledged_and_what_was_made() {
        let lines = ["S 1 periodic-count 0 0", "A 1 LocalDisk", "S 2 periodic-count 0 1"];
        for (n, expected) in [(0, (1, 0)), (1, (0, 0)), (2, (0, 0)), (4, (0, 2))] {
            let verdict = checked(&lines, &[&format!("shared row_0 {n} - - -")]);
            assert_eq!(sums(&verdict), expected, "{n}");
        }
    }

    #[test]
    fn a_row_is_there_until_its_deletion_and_not_after_it() {
        let made = ["S 1 store-victim 0 0", "A 1 Database"];
        assert_eq!(sums(&checked(&made, &["victim victim_1"])), (0, 0));
        assert_eq!(sums(&checked(&made, &[])), (1, 0));
        let asked = [&made[..], &["S 2 delayed-end 1 0"]].concat();
        assert_eq!(sums(&checked(&asked, &["victim victim_1"])), (0, 0));
        assert_eq!(sums(&checked(&asked, &[])), (0, 0));
        let ended = [&asked[..], &["A 2 Database"]].concat();
        assert_eq!(sums(&checked(&ended, &[])), (0, 0));
        assert_eq!(sums(&checked(&ended, &["victim victim_1"])), (1, 0));
    }

    #[test]
    fn a_list_in_another_order_than_its_task_wrote_is_a_problem() {
        let lines = ["S 1 periodic-tag 0 0", "S 2 periodic-tag 0 0", "S 3 periodic-tag 0 1"];
        let well = checked(&lines, &["shared row_0 0 [3,1,2] - -"]);
        assert!(well.problems.is_empty(), "{:?}", well.problems);
        assert_eq!(checked(&lines, &["shared row_0 0 [2,3,1] - -"]).problems.len(), 1);
    }

    #[test]
    fn what_an_earlier_process_had_acknowledged_stands_before_what_the_next_one_wrote() {
        let (mut history, mut tables) = (History::default(), Tables::default());
        let lines = ["S 1 periodic-tag 0 0", "A 1 LocalDisk", "S 2 periodic-tag 0 0"];
        lines.iter().for_each(|line| history.take(0, line));
        ["S 3 periodic-tag 0 1", "A 3 LocalDisk"].iter().for_each(|line| history.take(1, line));
        tables.take("shared row_0 0 [1,3,2] - -").unwrap();
        assert!(check(&history, &tables).problems.is_empty(), "2 was not acknowledged");
        tables.take("shared row_0 0 [3,1] - -").unwrap();
        assert_eq!(check(&history, &tables).problems.len(), 1);
    }

    #[test]
    fn an_id_twice_a_wrong_read_and_a_weaker_acknowledgement_are_problems() {
        assert_eq!(checked(&["I x_1", "I x_1"], &[]).problems.len(), 1);
        assert_eq!(checked(&["W op_1 is 1 and is read as None"], &[]).problems.len(), 1);
        let weaker = ["S 1 periodic-mark 0 0", "A 1 Memory"];
        assert_eq!(checked(&weaker, &[r#"shared row_0 0 - - {"1":1}"#]).problems.len(), 1);
    }
}
