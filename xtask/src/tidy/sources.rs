//! Rust files: a sentence at the top, a bounded length, nothing left for later.

use super::Report;
use super::layers::says_nothing;
use super::tree::{File, Tree};

/// The longest file of a crate, without its unit tests.
const LINES_MAX: usize = 600;

/// What must not be in the tree, and why. The patterns are put together here, so that this file
/// does not contain them.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "unfinished"),
    (concat!("unimplemented", "!("), "unfinished"),
    (concat!("FIX", "ME"), "unfinished"),
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
];

/// A test that sleeps is slow when it passes and wrong when the machine is busy; where time is
/// paused, sleeping only moves it, and a loop may sleep between two looks at its condition.
const SLEEP: &str = concat!("sleep(", "Duration::from_");

/// Reads every Rust file.
pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.with_extension("rs") {
        check_head(file, report);
        check_text(file, report);
        let parts = file.path.trim_end_matches(".rs").split('/');
        if let Some(part) = parts.into_iter().find(|part| says_nothing(part)) {
            report.problem(format!("{}: the name {part} says nothing", file.path));
        }
    }
    check_lengths(tree, report);
}

fn check_head(file: &File, report: &mut Report) {
    if is_source(file) && !file.text.starts_with("//!") {
        report.problem(format!("{}:1: does not begin with a `//!` sentence", file.path));
    }
}

fn check_text(file: &File, report: &mut Report) {
    for (index, line) in file.text.lines().enumerate() {
        for (pattern, reason) in FORBIDDEN {
            if line.contains(pattern) {
                let (path, number) = (&file.path, index + 1);
                report.problem(format!("{path}:{number}: `{pattern}`: {reason}"));
            }
        }
    }
    let (code, tests) = file.code_and_tests();
    for line in sleeps(tests) {
        let number = code.lines().count() + line;
        let reason = "wait for the condition, or pause the time";
        report.problem(format!("{}:{number}: `{SLEEP}`: {reason}", file.path));
    }
}

/// The lines of tests that wait for the time to pass.
fn sleeps(tests: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut paused = false;
    let mut before = "";
    for (index, line) in tests.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("#[") && code.contains("test") {
            paused = code.contains("start_paused = true");
        } else if line == "}" {
            paused = false;
        }
        let polls = before.starts_with("while ") || before.starts_with("loop ");
        if code.contains(SLEEP) && !paused && !polls {
            found.push(index + 1);
        }
        before = code;
    }
    found
}

fn check_lengths(tree: &Tree, report: &mut Report) {
    let sources = tree.with_extension("rs").filter(|file| is_source(file));
    let lengths = sources.map(|file| (file.code_and_tests().0.lines().count(), &file.path));
    let mut lengths: Vec<_> = lengths.collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in &lengths {
        if *lines > LINES_MAX {
            report.problem(format!("{path}: {lines} lines without tests, at most {LINES_MAX}"));
        }
    }
    if let Some((lines, path)) = lengths.first() {
        report.note(format!("the longest source is {path}, {lines} lines without tests"));
    }
}

/// A file under the `src` of a package.
fn is_source(file: &File) -> bool {
    let mut parts = file.path.split('/');
    match parts.next() {
        Some("crates") => parts.nth(1) == Some("src"),
        Some("xtask") => parts.next() == Some("src"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(&Tree::of(&[(path, text)]), &mut report);
        report.problems
    }

    #[test]
    fn a_source_begins_with_its_sentence() {
        assert_eq!(problems("crates/a/src/b.rs", "//! Says what.\n"), [""; 0]);
        assert_eq!(
            problems("crates/a/src/b.rs", "use x;\n"),
            ["crates/a/src/b.rs:1: does not begin with a `//!` sentence"]
        );
        assert_eq!(problems("crates/a/tests/it/b.rs", "use x;\n"), [""; 0]);
    }

    #[test]
    fn what_was_left_for_later_is_found_with_its_line() {
        for (pattern, reason) in FORBIDDEN {
            assert_eq!(
                problems("crates/a/src/b.rs", &format!("//! B.\nfn b() {{ {pattern} }}\n")),
                [format!("crates/a/src/b.rs:2: `{pattern}`: {reason}")]
            );
        }
    }

    #[test]
    fn tests_must_not_sleep_and_code_may() {
        let sleep = format!("    tokio::time::{SLEEP}secs(1)).await;\n");
        let unit = format!("//! B.\n#[cfg(test)]\nmod tests {{\n{sleep}}}\n");
        assert_eq!(problems("crates/a/src/b.rs", &format!("//! B.\n{sleep}")), [""; 0]);
        assert!(problems("crates/a/src/b.rs", &unit)[0].starts_with("crates/a/src/b.rs:4: "));
        assert_eq!(problems("crates/a/tests/it/b.rs", &sleep).len(), 1);
    }

    #[test]
    fn a_sleep_under_paused_time_or_between_two_looks_is_fine() {
        let sleep = format!("    {SLEEP}secs(1)).await;\n");
        let paused = "#[tokio::test(start_paused = true)]\nasync fn a() {\n";
        let polling = "async fn b() {\n    while !ready() {\n";
        assert_eq!(sleeps(&format!("{paused}{sleep}}}\n{polling}{sleep}}}\n")), [0; 0]);
        assert_eq!(sleeps(&format!("{paused}{sleep}}}\nasync fn b() {{\n{sleep}}}\n")), [6]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = format!("//! B.\n{}", "// x\n".repeat(LINES_MAX - 1));
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n}}\n");
        assert_eq!(problems("crates/a/src/b.rs", &tests), [""; 0]);
        assert_eq!(
            problems("crates/a/src/b.rs", &format!("{code}// x\n")),
            ["crates/a/src/b.rs: 601 lines without tests, at most 600"]
        );
    }

    #[test]
    fn a_module_with_an_empty_name_is_found() {
        assert_eq!(
            problems("crates/a/src/utils.rs", "//! U.\n"),
            ["crates/a/src/utils.rs: the name utils says nothing"]
        );
        assert_eq!(problems("crates/a/src/utility.rs", "//! U.\n"), [""; 0]);
    }
}
