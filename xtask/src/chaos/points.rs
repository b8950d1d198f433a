//! The failpoints of the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::plan::Store;
use crate::shell::root;

/// How a failpoint begins in the sources. It is put together here, so that this line is none.
const MACRO: &str = concat!("fail_", "point!(\"");

/// Names of points that are no moments: they break a rule, or make a constant smaller.
const NO_MOMENTS: [&str; 2] = ["sabotage::", "tune::"];

/// The failpoints at which processes are killed.
#[derive(Debug, Clone)]
pub(super) struct Points {
    names: Vec<String>,
    sabotages: Vec<String>,
}

impl Points {
    /// Reads the sources of all crates: no list can be out of date.
    ///
    /// # Errors
    /// If they cannot be read, or there is no failpoint in them.
    pub(super) fn find() -> Result<Self> {
        let mut found = BTreeSet::new();
        search(&root().join("crates"), &mut found)?;
        let is_moment = |name: &String| !NO_MOMENTS.iter().any(|part| name.starts_with(part));
        let mut names: Vec<String> = found.iter().filter(|name| is_moment(name)).cloned().collect();
        // Those that one store alone has stand at the ends: one run takes neighbours.
        names.sort_by_key(|name| (Store::Sqlite.has(name), !Store::Postgres.has(name)));
        ensure!(!names.is_empty(), "there is no failpoint in the sources");
        let sabotage = |name: &String| name.strip_prefix(NO_MOMENTS[0]).map(str::to_owned);
        Ok(Self { names, sabotages: found.iter().filter_map(sabotage).collect() })
    }

    /// Those whose names contain one of these words, and that one of the stores can come to.
    ///
    /// # Errors
    /// If none is left.
    pub(super) fn only(mut self, words: &[String], stores: &[Store]) -> Result<Self> {
        let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
        self.names.retain(|name| wanted(name) && stores.iter().any(|store| store.has(name)));
        ensure!(!self.names.is_empty(), "no failpoint is named so; --list tells their names");
        Ok(self)
    }

    /// Their names, in order.
    pub(super) fn all(&self) -> &[String] {
        &self.names
    }

    /// The rules that can be broken.
    pub(super) fn sabotages(&self) -> &[String] {
        &self.sabotages
    }

    /// Points, as a test names them.
    #[cfg(test)]
    pub(super) fn named(names: &[&str]) -> Self {
        Self { names: names.iter().map(|&name| name.to_owned()).collect(), sabotages: vec![] }
    }
}

fn search(directory: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("could not read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(names_in(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The names of a source file, also where the macro is broken into lines.
fn names_in(text: &str) -> Vec<String> {
    let text: String = text.lines().map(str::trim_start).collect();
    let behind = text.split(MACRO).skip(1);
    behind.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_found_in_the_sources_and_sabotages_kept_apart() {
        let points = Points::find().unwrap();
        let both = |name: &String| Store::Sqlite.has(name) && Store::Postgres.has(name);
        let mut parts = points.all().chunk_by(|one, next| both(one) == both(next));
        assert!(
            parts.nth(1).unwrap().iter().all(both) && parts.count() == 1,
            "one store's at ends"
        );
        assert!(points.all().len() >= 40, "{:?}", points.all());
        assert!(points.all().iter().any(|name| name == "zmsg-aggregate::flush::committed"));
        assert!(points.all().iter().all(|name| name.starts_with("zmsg")));
        assert!(points.sabotages().len() >= 10, "{:?}", points.sabotages());
    }

    #[test]
    fn a_name_is_found_where_the_macro_is_broken_into_lines() {
        let text = format!("a();\n{MACRO}one\");\nx::{}\n    \"two\", |_| 1);", &MACRO[..12]);
        assert_eq!(names_in(&text), ["one", "two"]);
    }

    #[test]
    fn points_are_chosen_by_a_part_of_their_names_and_by_the_store() {
        let points = Points::named(&["zmsg-store::sqlite::begin", "zmsg-store::postgres::sent"]);
        let chosen = points.clone().only(&[], &[Store::Sqlite]).unwrap();
        assert_eq!(chosen.all(), ["zmsg-store::sqlite::begin"]);
        assert!(points.only(&["no-such".to_owned()], &[Store::Sqlite]).is_err());
    }
}
