//! The law, on random histories: a committed row is never absent.

use std::collections::BTreeSet;

use proptest::prelude::*;
use zmsg_bloom::{FilterOptions, Insertion, LocalFilter, MembershipFilter, Rebuild, Verdict};
use zmsg_core::Key;

/// What may happen to a filter and the table behind it.
#[derive(Debug, Clone)]
enum Step {
    /// A write announces its key and commits at once.
    Write(u8),
    /// A write announces its key; its commit comes later.
    Announce(u8),
    /// Every announced write commits.
    CommitAll,
    /// A row goes away.
    Delete(u8),
    /// Rows appear whose keys were not inserted.
    WriteBehindItsBack(u8),
    /// The same, but the rows come later.
    AnnounceBehindItsBack(u8),
    /// A rebuild begins.
    Begin,
    /// The next rows of what the source showed when the rebuild began.
    SeedSome(u8),
    /// The rest of the rows, and the switch.
    Finish,
    /// The rebuild is dropped.
    Abandon,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Write),
        3 => any::<u8>().prop_map(Step::Announce),
        2 => Just(Step::CommitAll),
        1 => any::<u8>().prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::WriteBehindItsBack),
        1 => any::<u8>().prop_map(Step::AnnounceBehindItsBack),
        4 => Just(Step::Begin),
        2 => any::<u8>().prop_map(Step::SeedSome),
        3 => Just(Step::Finish),
        1 => Just(Step::Abandon),
    ]
}

/// The filter, the table behind it, and what is under way.
struct World {
    filter: LocalFilter,
    rows: BTreeSet<Key>,
    in_flight: Vec<(Key, Insertion)>,
    rebuild: Option<(Rebuild, Vec<Key>)>,
}

impl World {
    /// With a capacity of 20, histories also over-fill it.
    fn new(capacity: u64) -> Self {
        let options = FilterOptions { capacity, error_rate: 0.01, seed: Some(7) };
        let filter = LocalFilter::new(options).unwrap();
        Self { filter, rows: BTreeSet::new(), in_flight: Vec::new(), rebuild: None }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Write(number) => {
                let insertion = self.filter.insert(&[key(number)]).await.unwrap();
                self.rows.insert(key(number));
                drop(insertion);
            }
            Step::Announce(number) => {
                let insertion = self.filter.insert(&[key(number)]).await.unwrap();
                self.in_flight.push((key(number), insertion));
            }
            Step::CommitAll => commit_all(&mut self.in_flight, &mut self.rows),
            Step::Delete(number) => {
                self.rows.remove(&key(number));
            }
            Step::WriteBehindItsBack(number) => {
                let everything = self.filter.distrust().await.unwrap();
                self.rows.insert(key(number));
                drop(everything);
            }
            Step::AnnounceBehindItsBack(number) => {
                let everything = self.filter.distrust().await.unwrap();
                self.in_flight.push((key(number), everything));
            }
            Step::Begin => self.begin().await,
            Step::SeedSome(count) => self.seed(usize::from(count)).await,
            Step::Finish => {
                self.seed(usize::MAX).await;
                if let Some((rebuild, _)) = self.rebuild.take() {
                    // It may fail, distrusted or over-filled; the law holds all the same.
                    let _ = self.filter.finish_rebuild(rebuild).await;
                }
            }
            Step::Abandon => self.rebuild = None,
        }
    }

    /// Begins with the writes in flight still open: they commit only once it is seen to wait.
    async fn begin(&mut self) {
        if self.rebuild.is_some() {
            assert!(self.filter.begin_rebuild(0).await.is_err());
            return;
        }
        let mut begin = self.filter.begin_rebuild(0);
        let rebuild = tokio::select! {
            biased;
            rebuild = &mut begin => rebuild.unwrap(),
            () = std::future::ready(()) => {
                commit_all(&mut self.in_flight, &mut self.rows);
                begin.await.unwrap()
            }
        };
        self.rebuild = Some((rebuild, self.rows.iter().cloned().collect()));
    }

    async fn seed(&mut self, count: usize) {
        if let Some((rebuild, source)) = &mut self.rebuild {
            let rest = source.split_off(count.min(source.len()));
            self.filter.seed(rebuild, source).await.unwrap();
            *source = rest;
        }
    }

    fn absent_rows(&self) -> Vec<&Key> {
        self.rows.iter().filter(|key| self.filter.check(key.as_str()) == Verdict::Absent).collect()
    }
}

fn commit_all(in_flight: &mut Vec<(Key, Insertion)>, rows: &mut BTreeSet<Key>) {
    for (key, insertion) in in_flight.drain(..) {
        rows.insert(key);
        drop(insertion);
    }
}

fn key(number: u8) -> Key {
    Key::new(format!("k{number}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_committed_row_is_never_absent(
        capacity in prop_oneof![Just(20u64), Just(1_000)],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(capacity);
            for step in steps {
                world.take(step.clone()).await;
                let absent = world.absent_rows();
                prop_assert!(absent.is_empty(), "after {step:?}: {absent:?}");
            }
            Ok(())
        })?;
    }
}
