//! Links of the documents to files and headings of this repository.

use super::Report;
use super::tree::{File, Tree};

/// Follows every local link of every Markdown file.
pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.with_extension("md") {
        for (line, target) in targets(&file.text) {
            if let Some(problem) = problem_of(file, target, tree) {
                report.problem(format!("{}:{line}: link to {target}: {problem}", file.path));
            }
        }
    }
}

fn problem_of(file: &File, target: &str, tree: &Tree) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let Some(path) = resolve(&file.path, path) else {
        return Some("it leaves the repository");
    };
    if !path.is_empty() && !tree.contains(&path) {
        return Some("there is no such file");
    }
    if heading.is_empty() || !path.ends_with(".md") {
        return None;
    }
    let text = tree.text(&path).unwrap_or_default();
    let known = prose(text).any(|(_, line)| anchor(line).as_deref() == Some(heading));
    (!known).then_some("there is no such heading")
}

/// The path from the root that a relative path of a document means.
fn resolve(document: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(document.to_owned());
    }
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            "" => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The targets of inline links, with their lines.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        // What stands in backticks is not a link.
        line.split('`').step_by(2).flat_map(move |piece| {
            let links = piece.split("](").skip(1);
            links.filter_map(move |rest| {
                let target = rest.split([')', ' ']).next()?;
                Some((number, target.trim_matches(['<', '>'])))
            })
        })
    })
}

/// The lines outside fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The name under which a heading can be linked to, as the usual viewers make it.
fn anchor(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#');
    if title.len() == line.len() || !title.starts_with(' ') {
        return None;
    }
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        let other = ("docs/other.md", "# Other\n\n## What `get` does\n");
        check(&Tree::of(&[(path, text), other]), &mut report);
        report.problems
    }

    #[test]
    fn links_to_files_directories_and_headings_resolve() {
        let text = "[a](other.md) [b](../docs/) [c](other.md#what-get-does) [d](#here)\n# Here\n\
                    [e](https://example.org/none.md) [f](mailto:a@example.org)\n";
        assert_eq!(problems("docs/a.md", text), [""; 0]);
    }

    #[test]
    fn broken_links_are_found_with_their_line() {
        assert_eq!(
            problems("docs/a.md", "\n[a](gone.md) [b](other.md#gone) [c](../../x.md)\n"),
            [
                "docs/a.md:2: link to gone.md: there is no such file",
                "docs/a.md:2: link to other.md#gone: there is no such heading",
                "docs/a.md:2: link to ../../x.md: it leaves the repository"
            ]
        );
    }

    #[test]
    fn code_is_not_read_as_links() {
        assert_eq!(problems("README.md", "`a[0](x)`\n```rust\nlist[0](gone)\n```\n"), [""; 0]);
    }
}
