//! In how many statements the groups of a flight are sent, and in which order.

use std::collections::HashMap;
use std::sync::Arc;

use zmsg_core::{Result, TableName, Value};
use zmsg_sqlbuilder::Dialect;

use super::bulk::{Bulk, Shape};
use super::catalog::TableFacts;
use super::group::Group;
use super::ledger::Ledger;

/// One statement of a flush.
#[derive(Debug)]
pub(super) enum Part {
    /// The group at this position, by itself.
    Alone(usize),
    /// Many groups in one statement.
    Bulk(Bulk, Arc<TableFacts>),
}

/// What is known about the tables of a flight.
pub(super) type Facts = HashMap<TableName, Arc<TableFacts>>;

/// Which groups of a flight can be changed by one statement: what the tables are like.
///
/// # Errors
/// As the store.
pub(super) async fn facts(ledger: &Ledger, groups: &[Group]) -> Result<Facts> {
    let mut facts = Facts::new();
    if ledger.store.dialect() != Dialect::Postgres {
        return Ok(facts);
    }
    let mut wanted: HashMap<&TableName, usize> = HashMap::new();
    for change in groups.iter().filter_map(Group::change) {
        *wanted.entry(&change.target.table).or_default() += 1;
    }
    // One group by itself needs no knowledge, unless others change the same rows.
    let needed =
        |table: &TableName, groups: usize| groups > 1 || ledger.catalog.is_contended(table);
    for (table, _) in wanted.into_iter().filter(|(table, groups)| needed(table, *groups)) {
        let known = ledger.catalog.facts(&*ledger.store, table, ledger.clock.coarse()).await?;
        facts.insert(table.clone(), known);
    }
    Ok(facts)
}

/// The groups as statements, in order.
///
/// - Groups of one batch that may not change places keep their order.
/// - No two groups of one statement name the same row.
/// - Statements of many groups come first within a round, ordered by their shapes, so that every
///   process takes the tables in one order.
pub(super) fn parts(groups: &[Group], facts: &Facts) -> Vec<Part> {
    if facts.is_empty() {
        return (0..groups.len()).map(Part::Alone).collect();
    }
    let mut rounds: Vec<Round> = Vec::new();
    for (at, number) in rounds_of(groups).into_iter().enumerate() {
        if rounds.len() <= number {
            rounds.resize_with(number + 1, Round::default);
        }
        rounds[number].add(groups, at, facts);
    }
    rounds.into_iter().flat_map(|round| round.parts(facts)).collect()
}

/// How far a group looks back for others of its batch: planning takes bounded time.
const LOOK_BACK_MAX: usize = 64;

/// No statement has more groups.
const GROUPS_MAX: usize = 10_000;

/// For each group the round it is sent in: after every group of its batch before it that it does
/// not commute with.
fn rounds_of(groups: &[Group]) -> Vec<usize> {
    let mut rounds: Vec<usize> = Vec::with_capacity(groups.len());
    let (mut first, mut seen, mut floor) = (0, 0, 0);
    for (at, group) in groups.iter().enumerate() {
        if groups[first].batch != group.batch {
            (first, seen, floor) = (at, at, 0);
        }
        // What is too far back to be looked at counts as not commuting.
        while at - seen > LOOK_BACK_MAX {
            floor = floor.max(rounds[seen] + 1);
            seen += 1;
        }
        let after = (seen..at)
            .filter(|earlier| rounds[*earlier] >= floor && !groups[*earlier].commutes(group))
            .map(|earlier| rounds[earlier] + 1)
            .max();
        rounds.push(after.unwrap_or(0).max(floor));
    }
    rounds
}

/// The groups of one round.
#[derive(Debug, Default)]
struct Round {
    alone: Vec<usize>,
    shaped: HashMap<Shape, Layers>,
}

/// Groups of one shape: those of one layer name different rows.
#[derive(Debug, Default)]
struct Layers {
    layers: Vec<Vec<usize>>,
    /// How many groups name the row of a key.
    taken: HashMap<Vec<Value>, usize>,
}

impl Round {
    fn add(&mut self, groups: &[Group], at: usize, facts: &Facts) {
        match shape_of(&groups[at], facts) {
            Some((shape, key)) => self.shaped.entry(shape).or_default().add(at, key),
            None => self.alone.push(at),
        }
    }

    fn parts(mut self, facts: &Facts) -> Vec<Part> {
        let mut shaped: Vec<(String, Shape, Layers)> =
            self.shaped.drain().map(|(shape, layers)| (shape.order(), shape, layers)).collect();
        shaped.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut parts = Vec::new();
        for (_, shape, layers) in shaped {
            for groups in layers.layers.iter().flat_map(|layer| layer.chunks(GROUPS_MAX)) {
                match (groups, facts.get(&shape.table)) {
                    // One by itself gains nothing, unless its row has to be locked in order.
                    (groups, Some(facts))
                        if groups.len() > 1 || TableFacts::is(&facts.contended) =>
                    {
                        let bulk = Bulk { shape: shape.clone(), groups: groups.to_vec() };
                        parts.push(Part::Bulk(bulk, Arc::clone(facts)));
                    }
                    (groups, _) => self.alone.extend(groups),
                }
            }
        }
        self.alone.sort_unstable();
        parts.extend(self.alone.into_iter().map(Part::Alone));
        parts
    }
}

impl Layers {
    fn add(&mut self, at: usize, key: Vec<Value>) {
        let taken = self.taken.entry(key).or_default();
        if self.layers.len() <= *taken {
            self.layers.push(Vec::new());
        }
        self.layers[*taken].push(at);
        *taken += 1;
    }
}

fn shape_of(group: &Group, facts: &Facts) -> Option<(Shape, Vec<Value>)> {
    let change = group.change()?;
    let facts = facts.get(&change.target.table)?;
    let types = facts.key_types(change.equalities)?;
    let shape = Shape::of(&change, types, group.lot);
    let key = shape.key(&change);
    Some((shape, key))
}
