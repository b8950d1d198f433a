//! The text files of the repository.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The kinds of files that some rule reads; of others only the name is known.
const TEXT: &[&str] = &["rs", "md", "sql", "toml"];

/// Directories at the root that hold no sources.
const SKIPPED: &[&str] = &["target", "data"];

/// Every file of the repository, sorted by its path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

/// A file: its path from the root, with `/` between the parts, and its text.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
    /// The whole file is compiled for tests alone.
    of_tests: bool,
}

impl Tree {
    /// Reads the repository, without hidden directories and build products.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.descend(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.mark_tests();
        Ok(tree)
    }

    /// A tree of these files, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let own = |&(path, text): &(&str, &str)| File {
            path: path.into(),
            text: text.into(),
            of_tests: false,
        };
        let mut tree = Self { files: files.iter().map(own).collect() };
        tree.mark_tests();
        tree
    }

    /// The files whose name ends with this extension.
    pub(super) fn with_extension(&self, extension: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.extension() == extension)
    }

    /// The text of the file at this path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Whether this path is a file or a directory of the tree.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.files.iter().any(|file| {
            file.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn mark_tests(&mut self) {
        let sources = self.files.iter().filter(|file| file.extension() == "rs");
        let modules: Vec<String> = sources
            .flat_map(|file| test_modules(&file.text).map(|m| format!("{}/{m}", file.modules())))
            .collect();
        for file in &mut self.files {
            let named = |part: &str| part == "tests" || part.starts_with("conformance");
            let declared = |module: &String| {
                file.path
                    .strip_prefix(module.as_str())
                    .is_some_and(|rest| rest.starts_with(['.', '/']))
            };
            file.of_tests = file.path.split('/').any(named) || modules.iter().any(declared);
        }
    }

    fn descend(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let shown = || format!("could not read {}", directory.display());
        for entry in fs::read_dir(directory).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type().with_context(shown)?.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci";
                let skipped = prefix.is_empty() && SKIPPED.contains(&name.as_str());
                if !hidden && !skipped {
                    self.descend(&entry.path(), &format!("{path}/"))?;
                }
            } else {
                let file = File { path, ..File::default() };
                let text = if TEXT.contains(&file.extension()) {
                    fs::read_to_string(entry.path())
                        .with_context(|| format!("could not read {}", entry.path().display()))?
                } else {
                    String::new()
                };
                self.files.push(File { text, ..file });
            }
        }
        Ok(())
    }
}

impl File {
    pub(super) fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The text before the unit tests, and the unit tests; one of the two may be empty.
    pub(super) fn code_and_tests(&self) -> (&str, &str) {
        if self.of_tests {
            return ("", &self.text);
        }
        let begin = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text.split_at(begin)
    }

    /// The folder in which the modules that this file declares lie.
    fn modules(&self) -> &str {
        let stem = self.path.trim_end_matches(".rs");
        let root = |name: &&str| stem.ends_with(name);
        match ["/lib", "/main", "/mod"].iter().find(|name| root(name)) {
            Some(name) => &stem[..stem.len() - name.len()],
            None => stem,
        }
    }
}

/// The names of the modules that are declared in files of their own and for tests alone.
fn test_modules(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.trim_start().lines().next()?;
        line.split_once("mod ")?.1.strip_suffix(';')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_tests_are_told_from_code() {
        let tree = Tree::of(&[
            ("crates/a/src/b.rs", "fn b() {}\n#[cfg(test)]\nmod tests {}\n"),
            ("crates/a/tests/it/b.rs", "fn c() {}\n"),
            ("crates/a/src/conformance/d.rs", "fn d() {}\n"),
            ("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod law;\n"),
            ("crates/a/src/law/e.rs", "fn e() {}\n"),
            ("crates/a/src/lawful.rs", "fn f() {}\n"),
        ]);
        let split: Vec<_> = tree.files.iter().map(File::code_and_tests).collect();
        assert_eq!(split[0], ("fn b() {}\n", "#[cfg(test)]\nmod tests {}\n"));
        assert_eq!(split[1], ("", "fn c() {}\n"));
        assert_eq!(split[2], ("", "fn d() {}\n"));
        assert_eq!(split[4], ("", "fn e() {}\n"));
        assert_eq!(split[5], ("fn f() {}\n", ""));
    }

    #[test]
    fn a_path_is_a_file_or_a_directory() {
        let tree = Tree::of(&[("docs/a.md", "")]);
        assert!(tree.contains("docs/a.md") && tree.contains("docs"));
        assert!(!tree.contains("doc") && !tree.contains("docs/a"));
    }
}
