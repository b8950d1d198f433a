//! What is in the tables after a run.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;

/// The rows that the writes made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tables {
    /// How often the write with this number took effect.
    pub(super) effects: BTreeMap<u64, u64>,
    /// The shared rows.
    pub(super) shared: BTreeMap<u64, Shared>,
    /// What was delivered, in that order, each time that it was.
    pub(super) delivered: Vec<u64>,
    /// The numbers of the rows that were not deleted.
    pub(super) victims: BTreeMap<u64, u64>,
    /// How often a write is in the dead letters, and why.
    pub(super) dead: BTreeMap<u64, (u64, String)>,
    /// Dead letters that are none of ours.
    pub(super) strange: Vec<String>,
    /// Rows of streams that the ledger still has.
    pub(super) ledger: u64,
}

/// A row that many writes share.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) n: u64,
    pub(super) tags: Vec<u64>,
    pub(super) later: Vec<u64>,
    pub(super) marks: Vec<u64>,
}

impl Tables {
    /// Takes a line without its `T `.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn take(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let mut read = || -> Result<()> {
            match words.as_slice() {
                ["effect", id, n] => {
                    self.effects.insert(behind(id, "op_")?, n.parse()?);
                }
                ["delivered", op] => self.delivered.push(op.parse()?),
                ["victim", id] => {
                    self.victims.insert(behind(id, "victim_")?, 1);
                }
                ["shared", id, n, tags, later, marks] => {
                    let row = Shared {
                        n: n.parse()?,
                        tags: numbers(tags)?,
                        later: numbers(later)?,
                        marks: numbers(marks)?,
                    };
                    self.shared.insert(behind(id, "row_")?, row);
                }
                ["ledger", rows] => self.ledger = rows.parse()?,
                ["dead", keys, ..] => match behind(keys, "doomed_") {
                    Ok(op) => {
                        let cause = words[2..].join(" ");
                        self.dead.entry(op).or_insert((0, cause)).0 += 1;
                    }
                    Err(_) => self.strange.push(line.to_owned()),
                },
                _ => bail!("a line of no table"),
            }
            Ok(())
        };
        read().with_context(|| format!("`T {line}`"))
    }

    /// Whether the rows are the same; dead letters and the ledger aside.
    pub(super) fn has_rows_of(&self, other: &Self) -> bool {
        self.effects == other.effects
            && self.shared == other.shared
            && self.delivered == other.delivered
            && self.victims == other.victims
    }
}

fn behind(id: &str, prefix: &str) -> Result<u64> {
    id.strip_prefix(prefix)
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{id} is none of ours"))
}

/// The elements of a list, or the keys of an object.
fn numbers(json: &str) -> Result<Vec<u64>> {
    if json == "-" {
        return Ok(Vec::new());
    }
    let parsed: Json = serde_json::from_str(json).with_context(|| format!("no JSON: {json}"))?;
    match parsed {
        Json::Array(elements) => {
            let number = |element: &Json| element.as_u64().context("an element is no number");
            elements.iter().map(number).collect()
        }
        Json::Object(entries) => {
            entries.keys().map(|key| key.parse().context("a key is no number")).collect()
        }
        _ => bail!("neither a list nor an object: {json}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_process_are_read() {
        let mut tables = Tables::default();
        for line in [
            "effect op_7 1",
            "victim victim_8",
            "delivered 11",
            "delivered 10",
            r#"shared row_0 3 [1,2,2] - {"9":1}"#,
            "dead doomed_5 refused for good",
            "dead row_1 no row meets the condition",
            "ledger 0",
        ] {
            tables.take(line).unwrap();
        }
        assert_eq!(tables.effects[&7], 1);
        assert_eq!(tables.delivered, [11, 10]);
        assert_eq!(tables.shared[&0].tags, [1, 2, 2]);
        assert_eq!((&*tables.shared[&0].later, &*tables.shared[&0].marks), (&[][..], &[9][..]));
        assert_eq!(tables.dead[&5], (1, "refused for good".to_owned()));
        assert_eq!(tables.strange.len(), 1);
        assert!(tables.take("effect op_x 1").is_err() && tables.take("else").is_err());
    }
}
