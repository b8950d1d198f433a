//! `cargo xtask tidy`: the rules of the project that no compiler checks.
//!
//! It runs as a test too, so that the drawing of the layers cannot rot. Each rule adds what it
//! finds to one report; a run shows all of it, not the first.

mod layers;
mod links;
mod migrations;
mod proofs;
mod sources;
mod tree;
mod workspace;

use anyhow::{Result, bail};

use crate::shell::root;
use tree::Tree;
use workspace::Workspace;

/// What the rules found.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// Applies every rule and shows what it found.
///
/// # Errors
/// If a rule found a problem, or the tree cannot be read.
pub(crate) fn run() -> Result<()> {
    let report = inspect()?;
    for note in &report.notes {
        println!("note: {note}");
    }
    for problem in &report.problems {
        println!("tidy: {problem}");
    }
    match report.problems.len() {
        0 => {
            println!("tidy: nothing to complain about");
            Ok(())
        }
        1 => bail!("tidy found a problem"),
        many => bail!("tidy found {many} problems"),
    }
}

fn inspect() -> Result<Report> {
    let tree = Tree::read(root())?;
    let workspace = Workspace::read()?;
    let mut report = Report::default();
    layers::check(&workspace, &mut report);
    sources::check(&tree, &mut report);
    migrations::check(&tree, &mut report);
    proofs::check(&tree, &mut report);
    links::check(&tree, &mut report);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let report = inspect().unwrap();
        assert!(report.problems.is_empty(), "\n{}", report.problems.join("\n"));
    }
}
