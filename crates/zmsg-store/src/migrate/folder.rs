//! A folder of migrations, read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zmsg_core::{Error, Result};

use super::Migration;

/// What was found for one version.
#[derive(Debug)]
struct Found {
    name: String,
    up: Option<PathBuf>,
    down: Option<PathBuf>,
}

/// The entries of a folder, and what is wrong with them.
#[derive(Debug, Default)]
struct Folder {
    found: BTreeMap<i64, Found>,
    problems: Vec<String>,
}

/// Reads a folder, or says everything that is wrong with it.
pub(super) fn read(dir: &Path) -> Result<Vec<Migration>> {
    let mut folder = Folder::default();
    for path in entries(dir)? {
        folder.add(&path);
    }
    let Folder { found, mut problems } = folder;
    let mut scripts = Vec::new();
    for (version, found) in found {
        match load(version, found) {
            Ok(script) => scripts.push(script),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(scripts);
    }
    let error = Error::invalid_input("the folder of migrations cannot be used")
        .with_context("dir", dir.display());
    Err(problems.into_iter().fold(error, |error, problem| error.with_context("problem", problem)))
}

/// The entries in the order of their names, so that problems come in the same order each time.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed: std::io::Result<Vec<PathBuf>> =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths = listed.map_err(|cause| {
        Error::invalid_input("could not read the folder of migrations")
            .with_context("dir", dir.display())
            .with_source(cause)
    })?;
    paths.sort();
    Ok(paths)
}

impl Folder {
    fn add(&mut self, path: &Path) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with('.') {
            return;
        }
        if path.is_dir() {
            let down = Some(path.join("down.sql")).filter(|down| down.exists());
            self.put(&file, &file, Some(path.join("up.sql")), down);
        } else if let Some(stem) = file.strip_suffix(".down.sql") {
            self.put(&file, stem, None, Some(path.to_owned()));
        } else if let Some(stem) =
            file.strip_suffix(".up.sql").or_else(|| file.strip_suffix(".sql"))
        {
            self.put(&file, stem, Some(path.to_owned()), None);
        }
    }

    fn put(&mut self, file: &str, stem: &str, up: Option<PathBuf>, down: Option<PathBuf>) {
        let Some((version, name)) = parse(stem) else {
            self.problems.push(format!("{file}: is not named <version>_<name>"));
            return;
        };
        let known = self.found.entry(version).or_insert_with(|| Found {
            name: name.to_owned(),
            up: None,
            down: None,
        });
        let taken = known.name != name
            || (up.is_some() && known.up.is_some())
            || (down.is_some() && known.down.is_some());
        if taken {
            let other = format!("{version}_{}", known.name);
            self.problems.push(format!("{file}: its version is taken by {other}"));
            return;
        }
        known.up = known.up.take().or(up);
        known.down = known.down.take().or(down);
    }
}

/// `20261121000000_create_feeds` and `2026-11-21-000000_create_feeds` alike.
fn parse(stem: &str) -> Option<(i64, &str)> {
    let (version, name) = stem.split_once('_')?;
    let digits = version.replace('-', "");
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('-');
    let version = digits.parse().ok().filter(|_| numeric)?;
    (!name.is_empty()).then_some((version, name))
}

fn load(version: i64, found: Found) -> Result<Migration, String> {
    let Found { name, up, down } = found;
    let up = up.ok_or_else(|| format!("{version}_{name}: there is a way back and no way there"))?;
    let up = read_text(&up)?;
    let down = down.map(|path| read_text(&path)).transpose()?;
    Ok(Migration { version, name, up, down })
}

fn read_text(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
    // Some editors begin a file with a byte order mark, which is no SQL.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_read_in_the_order_of_versions() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("2026-01-02-000000_b")).unwrap();
        fs::write(dir.path().join("2026-01-02-000000_b/up.sql"), "\u{feff}SELECT 2").unwrap();
        fs::write(dir.path().join("2026-01-02-000000_b/down.sql"), "SELECT -2").unwrap();
        fs::write(dir.path().join("20260101000000_a.sql"), "SELECT 1").unwrap();
        fs::write(dir.path().join("20260103000000_c.up.sql"), "SELECT 3").unwrap();
        fs::write(dir.path().join("20260103000000_c.down.sql"), "SELECT -3").unwrap();
        fs::write(dir.path().join("README.md"), "no script").unwrap();
        fs::write(dir.path().join(".hidden.sql"), "no script").unwrap();
        let scripts = read(dir.path()).unwrap();
        let shown: Vec<_> = scripts.iter().map(|s| (s.to_string(), s.up.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("20260101000000_a".to_owned(), "SELECT 1"),
                ("20260102000000_b".to_owned(), "SELECT 2"),
                ("20260103000000_c".to_owned(), "SELECT 3"),
            ]
        );
        assert_eq!(scripts[0].down, None);
        assert_eq!(scripts[1].down.as_deref(), Some("SELECT -2"));
        assert_eq!(scripts[2].down.as_deref(), Some("SELECT -3"));
    }

    #[test]
    fn one_error_names_everything_that_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["1_a.sql", "1_b.sql", "2_c.down.sql", "first.sql", "3_.sql", "-4_x.sql"] {
            fs::write(dir.path().join(file), "SELECT 1").unwrap();
        }
        fs::create_dir(dir.path().join("5_empty")).unwrap();
        fs::write(dir.path().join("6_latin.sql"), b"SELECT '\xe9'").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        for named in ["1_b.sql", "2_c", "first.sql", "3_.sql", "-4_x.sql", "5_empty", "6_latin"] {
            assert!(error.contains(named), "{named} is missing from: {error}");
        }
        assert!(!error.contains("1_a.sql"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(read(Path::new("no/such/folder")).is_err());
    }
}
