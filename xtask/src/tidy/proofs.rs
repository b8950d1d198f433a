//! The tests that our documents name exist.
//!
//! In the documents listed here, a table whose last column is headed "test" holds, in that column,
//! the names of tests in backticks, `` `name` `` or `` `crate::module::name` ``. A row without one
//! says "by construction" there, and the row says why.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::tree::{File, Tree};

/// The documents whose promises are proved by tests.
const DOCUMENTS: &[&str] = &["docs/guarantees.md", "docs/track-record.md"];

/// What a row says that needs no test.
const NEEDS_NONE: &str = "by construction";

/// Test functions by name, with the packages they are in.
type Tests<'t> = BTreeMap<&'t str, BTreeSet<&'t str>>;

/// Compares the documents with the tests.
pub(super) fn check(tree: &Tree, report: &mut Report) {
    let tests = collect(tree);
    for path in DOCUMENTS {
        for row in tree.text(path).into_iter().flat_map(rows) {
            for problem in problems_of(row.cell, &tests) {
                report.problem(format!("{path}:{}: {problem}", row.line));
            }
        }
    }
}

/// The last cell of a row of a table that has tests.
#[derive(Debug, PartialEq, Eq)]
struct Proof<'t> {
    line: usize,
    cell: &'t str,
}

fn rows(text: &str) -> Vec<Proof<'_>> {
    let mut found = Vec::new();
    let mut in_table = false;
    let mut header: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let Some(cell) = last_cell(line) else {
            (in_table, header) = (false, None);
            continue;
        };
        let is_rule = !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':');
        match header {
            None => header = Some(cell),
            Some(title) if is_rule => {
                in_table =
                    title.eq_ignore_ascii_case("test") || title.eq_ignore_ascii_case("tests");
            }
            Some(_) if in_table => found.push(Proof { line: index + 1, cell }),
            Some(_) => {}
        }
    }
    found
}

fn last_cell(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.rsplit('|').next().unwrap_or(inner).trim())
}

fn problems_of(cell: &str, tests: &Tests<'_>) -> Vec<String> {
    let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    if names.is_empty() && !cell.starts_with(NEEDS_NONE) {
        return vec![format!("names no test and does not say \"{NEEDS_NONE}\"")];
    }
    names.into_iter().filter_map(|name| missing(name, tests)).collect()
}

fn missing(path: &str, tests: &Tests<'_>) -> Option<String> {
    let name = path.rsplit("::").next().unwrap_or(path);
    let Some(packages) = tests.get(name) else {
        return Some(format!("there is no test `{path}`"));
    };
    let (package, _) = path.split_once("::")?;
    let package = package.replace('_', "-");
    (!packages.contains(package.as_str())).then(|| format!("`{name}` is no test of {package}"))
}

fn collect(tree: &Tree) -> Tests<'_> {
    let mut tests = Tests::new();
    for file in tree.with_extension("rs") {
        let Some(package) = package(file) else { continue };
        for name in tests_of(file) {
            tests.entry(name).or_default().insert(package);
        }
    }
    tests
}

/// The functions of a file that carry a test attribute, or that a macro is given to make tests of;
/// in a conformance suite, of which each backend makes tests, the public ones.
fn tests_of(file: &File) -> Vec<&str> {
    let is_suite = file.path.split('/').any(|part| part.starts_with("conformance"));
    let (_, text) = file.code_and_tests();
    let mut found = Vec::new();
    let (mut marked, mut listed) = (false, false);
    for line in text.lines().map(str::trim_start) {
        listed = if listed { !line.starts_with('}') } else { makes_tests(line) };
        if let Some(name) = line.strip_suffix(',').filter(|_| listed) {
            found.push(name);
        } else if line.starts_with("#[") {
            marked |= line.contains("test");
        } else if !line.starts_with("//") {
            let promised = is_suite && line.starts_with("pub ");
            found.extend(function(line).filter(|_| marked || promised));
            marked = false;
        }
    }
    found
}

/// Whether a line begins the list of a macro that makes a test of each name, on every database.
fn makes_tests(line: &str) -> bool {
    line.starts_with("on_") && line.ends_with("! {")
}

fn package(file: &File) -> Option<&str> {
    let mut parts = file.path.split('/');
    match parts.next()? {
        "crates" => parts.next(),
        "xtask" => Some("xtask"),
        _ => None,
    }
}

/// The name of the function that is defined on this line.
fn function(line: &str) -> Option<&str> {
    let mut rest = line;
    for word in ["pub ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: (&str, &str) = (
        "crates/zmsg-cache/tests/it/main.rs",
        "#[test]\nfn a_late_fill_is_refused() {}\nfn gate() {}\n\
         #[tokio::test(start_paused = true)]\n// Why.\n    async fn survives() {}\n",
    );

    fn problems(document: &str) -> Vec<String> {
        let mut report = Report::default();
        check(&Tree::of(&[TESTS, ("docs/track-record.md", document)]), &mut report);
        report.problems
    }

    #[test]
    fn tests_are_found_by_name_and_by_path() {
        let document = "| id | test |\n| --- | --- |\n\
                        | A | `a_late_fill_is_refused`, `zmsg_cache::fence::survives` |\n\
                        | B | by construction |\n";
        assert_eq!(problems(document), [""; 0]);
    }

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let document = "| id | test |\n| --- | --- |\n| A | `gone`, `zmsg_bloom::survives` |\n";
        assert_eq!(
            problems(document),
            [
                "docs/track-record.md:3: there is no test `gone`",
                "docs/track-record.md:3: `survives` is no test of zmsg-bloom"
            ]
        );
    }

    #[test]
    fn a_row_without_any_proof_is_found() {
        let document = "| id | test |\n|---|---|\n| A | |\n| B | soon |\n";
        let expected = "names no test and does not say \"by construction\"";
        assert_eq!(
            problems(document),
            [3, 4].map(|line| format!("docs/track-record.md:{line}: {expected}"))
        );
    }

    #[test]
    fn other_tables_are_left_alone() {
        assert_eq!(problems("| id | note |\n|---|---|\n| A | `gone` |\n\n`gone`\n"), [""; 0]);
    }

    #[test]
    fn a_function_that_is_no_test_proves_nothing() {
        let document = "| id | test |\n|---|---|\n| A | `gate`, `fill` |\n";
        let source = ("crates/zmsg-cache/src/fence.rs", "//! F.\n#[test]\nfn fill() {}\n");
        let mut report = Report::default();
        check(&Tree::of(&[TESTS, source, ("docs/guarantees.md", document)]), &mut report);
        assert_eq!(
            report.problems,
            ["gate", "fill"].map(|name| format!("docs/guarantees.md:3: there is no test `{name}`"))
        );
    }

    #[test]
    fn the_names_that_a_macro_makes_tests_of_are_tests() {
        let text = "on_every_database! {\n    survives,\n}\nasync fn survives(on: Database) {}\n";
        let tree = Tree::of(&[("crates/zmsg-idgen/tests/it/sql.rs", text)]);
        assert_eq!(tests_of(&tree.files[0]), ["survives"]);
    }

    #[test]
    fn the_promises_of_a_conformance_suite_are_tests() {
        let text = "pub async fn survives(harness: &impl Harness) {}\nasync fn gate() {}\n";
        let tree = Tree::of(&[("crates/zmsg-cache/src/conformance/l1.rs", text)]);
        assert_eq!(tests_of(&tree.files[0]), ["survives"]);
    }
}
