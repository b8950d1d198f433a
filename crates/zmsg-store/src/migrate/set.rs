//! An ordered set of migrations.

use std::fmt;
use std::path::Path;

use zmsg_core::Result;
use zmsg_sqlbuilder::Dialect;

use super::{checksum, folder};

/// A named, ordered set of migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrations {
    set_name: String,
    scripts: Vec<Migration>,
}

/// One migration: how to get there, and maybe how to get back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// What orders it within its set: the number before the name of its folder.
    pub version: i64,
    /// The name of its folder, without the number.
    pub name: String,
    /// The script that applies it.
    pub up: String,
    /// The script that reverts it, if there is one.
    pub down: Option<String>,
}

/// Scripts of zmsg's own, from `migrations/` at the top of the repository.
macro_rules! embedded {
    ($dialect:literal: $($version:literal $name:literal,)+) => {
        vec![$(Migration {
            version: $version,
            name: String::from($name),
            up: String::from(embedded!(@file $dialect, $version, $name, "up")),
            down: Some(String::from(embedded!(@file $dialect, $version, $name, "down"))),
        }),+]
    };
    (@file $dialect:literal, $version:literal, $name:literal, $file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/../../migrations/",
            $dialect, "/", $version, "_", $name, "/", $file, ".sql"
        ))
    };
}

impl Migrations {
    /// The name of the set of zmsg's own tables.
    pub const ZMSG: &'static str = "zmsg";

    /// The name of a user's set where nothing else is said.
    pub const APP: &'static str = "app";

    /// The migrations of zmsg's own tables.
    pub fn zmsg(dialect: Dialect) -> Self {
        let scripts = match dialect {
            Dialect::Sqlite => embedded!("sqlite":
                20261121000000 "zmsg_tables",
                20261121000001 "zmsg_queue",
                20261121000002 "zmsg_nodes",
                20261121000003 "zmsg_folds",
                20261121000004 "zmsg_filter",
                20261121000007 "zmsg_leases",
                20261121000008 "zmsg_pauses",
                20261121000009 "zmsg_lanes",
                20261121000010 "zmsg_periodic",
            ),
            Dialect::Postgres => embedded!("postgres":
                20261121000000 "zmsg_tables",
                20261121000001 "zmsg_queue",
                20261121000002 "zmsg_nodes",
                20261121000003 "zmsg_folds",
                20261121000004 "zmsg_filter",
                20261121000005 "zmsg_members",
                20261121000006 "zmsg_flushes",
                20261121000007 "zmsg_leases",
                20261121000008 "zmsg_pauses",
                20261121000009 "zmsg_lanes",
                20261121000010 "zmsg_periodic",
            ),
        };
        Self { set_name: Self::ZMSG.to_owned(), scripts }
    }

    /// Reads a folder of migrations: either diesel's layout, `<version>_<name>/up.sql` with or
    /// without a `down.sql`, or flat files, `<version>_<name>.up.sql` and `.down.sql`, or
    /// `<version>_<name>.sql` alone. A version is digits, with or without dashes in between.
    /// Hidden files, and files that do not end in `.sql`, are passed over.
    ///
    /// It reads files on the calling thread, once, at the start.
    ///
    /// # Errors
    /// One `InvalidInput` that names everything that is wrong: names without a version, versions
    /// that occur twice, a way back without a way there, files that cannot be read.
    pub fn load_dir(dir: impl AsRef<Path>, set_name: &str) -> Result<Self> {
        let scripts = folder::read(dir.as_ref())?;
        Ok(Self { set_name: set_name.to_owned(), scripts })
    }

    /// The name under which the history keeps this set.
    pub fn set_name(&self) -> &str {
        &self.set_name
    }

    /// The migrations, in the order of their versions.
    pub fn scripts(&self) -> &[Migration] {
        &self.scripts
    }

    /// The migration of a version.
    pub(super) fn get(&self, version: i64) -> Option<&Migration> {
        self.scripts.iter().find(|script| script.version == version)
    }
}

impl Migration {
    /// SHA-256 of both scripts, in hexadecimal. The ends of lines do not count, so a checkout on
    /// another system is no edit.
    pub fn checksum(&self) -> String {
        checksum::of([self.up.as_str(), self.down.as_deref().unwrap_or_default()])
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.version, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_no_edit_and_everything_else_is() {
        let script = |up: &str, down: Option<&str>| {
            let down = down.map(str::to_owned);
            Migration { version: 1, name: "a".into(), up: up.into(), down }.checksum()
        };
        let original = script("a;\nb;\n", Some("c;\n"));
        assert_eq!(original, script("a;\r\nb;\r\n", Some("c;\r\n")));
        assert_ne!(original, script("a;\n b;\n", Some("c;\n")));
        assert_ne!(original, script("a;\nb;\n", Some("d;\n")));
        assert_ne!(original, script("a;\nb;\nc;\n", None));
        assert_ne!(script("ab", Some("c")), script("a", Some("bc")));
    }

    #[test]
    fn zmsg_brings_its_own_tables_and_a_way_back() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            let zmsg = Migrations::zmsg(dialect);
            assert!(zmsg.scripts().iter().all(|script| script.down.is_some()));
            assert!(zmsg.scripts().is_sorted_by(|a, b| a.version < b.version));
        }
    }
}
