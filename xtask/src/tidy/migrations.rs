//! Migrations: each folder leads up and down again.

use std::collections::BTreeSet;

use super::Report;
use super::tree::{File, Tree};

/// Looks at `migrations/DIALECT/VERSION_NAME/`.
pub(super) fn check(tree: &Tree, report: &mut Report) {
    let files = || tree.files.iter().filter(|file| file.path.starts_with("migrations/"));
    let folders: BTreeSet<&str> = files().filter_map(folder).collect();
    for file in files().filter(|file| folder(file).is_none()) {
        report.problem(format!("{}: a migration lies in DIALECT/VERSION_NAME/", file.path));
    }
    for folder in folders {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        let version = name.split_once('_').map_or("", |(version, _)| version);
        if version.len() != 14 || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            report.problem(format!("{folder}: does not begin with a version of 14 digits"));
        }
        for script in ["up.sql", "down.sql"] {
            match tree.text(&format!("{folder}/{script}")) {
                None => report.problem(format!("{folder}: {script} is missing")),
                Some(text) if text.trim().is_empty() => {
                    report.problem(format!("{folder}: {script} is empty"));
                }
                Some(_) => {}
            }
        }
    }
}

fn folder(file: &File) -> Option<&str> {
    let (folder, _) = file.path.rsplit_once('/')?;
    (folder.split('/').count() == 3).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let mut report = Report::default();
        check(&Tree::of(files), &mut report);
        report.problems
    }

    #[test]
    fn a_pair_of_scripts_is_fine() {
        let files = [
            ("migrations/sqlite/20261121000000_a/up.sql", "CREATE TABLE a (b);"),
            ("migrations/sqlite/20261121000000_a/down.sql", "DROP TABLE a;"),
        ];
        assert_eq!(problems(&files), [""; 0]);
    }

    #[test]
    fn a_way_without_a_way_back_is_found() {
        let files = [
            ("migrations/sqlite/20261121000000_a/up.sql", "CREATE TABLE a (b);"),
            ("migrations/sqlite/20261122000000_b/up.sql", "CREATE TABLE b (c);"),
            ("migrations/sqlite/20261122000000_b/down.sql", "\n"),
        ];
        assert_eq!(
            problems(&files),
            [
                "migrations/sqlite/20261121000000_a: down.sql is missing",
                "migrations/sqlite/20261122000000_b: down.sql is empty"
            ]
        );
    }

    #[test]
    fn a_folder_without_a_version_and_a_stray_script_are_found() {
        let files = [
            ("migrations/sqlite/stray.sql", "SELECT 1;"),
            ("migrations/sqlite/first/up.sql", "SELECT 1;"),
            ("migrations/sqlite/first/down.sql", "SELECT 1;"),
        ];
        assert_eq!(
            problems(&files),
            [
                "migrations/sqlite/stray.sql: a migration lies in DIALECT/VERSION_NAME/",
                "migrations/sqlite/first: does not begin with a version of 14 digits"
            ]
        );
    }
}
