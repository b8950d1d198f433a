//! A new migration, to be filled in.

use std::fs;
use std::path::{Path, PathBuf};

use zmsg_core::{Clock, Error, Result, UnixMillis};

use super::folder;

const UP: &str = "\
-- What this migration does, and why. All statements run in one transaction; write
-- `-- zmsg:no-transaction` as the first line for statements that cannot.
";

const DOWN: &str = "\
-- How to get back. A migration without a statement here cannot be reverted.
";

/// Creates `<version>_<name>/` with an empty `up.sql` and `down.sql` in a folder of migrations,
/// which is created too if it is not there, and returns its path. The version is the time,
/// `YYYYMMDDhhmmss` in UTC, or one above the newest version in the folder if that is later.
///
/// # Errors
/// `InvalidInput` if the name is not made of 1 to 64 lowercase letters, digits and underscores,
/// or if the folder cannot be used as it stands.
pub fn create(dir: impl AsRef<Path>, name: &str, clock: &dyn Clock) -> Result<PathBuf> {
    let dir = dir.as_ref();
    check_name(name)?;
    let failed = |cause: std::io::Error| {
        Error::invalid_input("could not create the migration")
            .with_context("dir", dir.display())
            .with_context("name", name)
            .with_source(cause)
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let newest = folder::read(dir)?.last().map_or(0, |script| script.version);
    let version = timestamp(clock.wall()).max(newest.saturating_add(1));
    let path = dir.join(format!("{version}_{name}"));
    fs::create_dir(&path).map_err(failed)?;
    fs::write(path.join("up.sql"), UP).map_err(failed)?;
    fs::write(path.join("down.sql"), DOWN).map_err(failed)?;
    Ok(path)
}

fn check_name(name: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(legal) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    Err(Error::invalid_input(
        "the name of a migration is 1 to 64 lowercase letters, digits and underscores",
    )
    .with_context("name", shown))
}

/// `YYYYMMDDhhmmss` in UTC.
///
/// The calendar is H. Hinnant's `civil_from_days` (chrono-Compatible Low-Level Date Algorithms,
/// 2013), for days after the epoch: years begin in March, so that the leap day comes last.
fn timestamp(at: UnixMillis) -> i64 {
    let seconds = i64::try_from(at / 1000).unwrap_or(i64::MAX);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let since = days + 719_468;
    let (era, day_of_era) = (since / 146_097, since % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = year * 10_000 + month * 100 + day;
    date * 1_000_000 + second / 3_600 * 10_000 + second / 60 % 60 * 100 + second % 60
}

#[cfg(test)]
mod tests {
    use zmsg_core::ManualClock;

    use super::*;

    #[test]
    fn the_timestamp_knows_the_calendar() {
        for (seconds, expected) in [
            (0, 19_700_101_000_000),
            (951_782_399, 20_000_228_235_959),
            (951_782_400, 20_000_229_000_000),
            (951_868_800, 20_000_301_000_000),
            (1_767_225_599, 20_251_231_235_959),
            (1_795_246_063, 20_261_121_072_743),
            (4_107_542_400, 21_000_301_000_000),
        ] {
            assert_eq!(timestamp(seconds * 1000), expected);
        }
    }

    #[test]
    fn a_new_migration_is_newer_than_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let schema = dir.path().join("schema");
        let clock = ManualClock::new(1_767_225_599_000);
        let first = create(&schema, "first", &clock).unwrap();
        assert!(first.ends_with("20251231235959_first"));
        assert!(create(&schema, "second", &clock).unwrap().ends_with("20251231235960_second"));
        clock.jump(-100_000_000);
        assert!(create(&schema, "third", &clock).unwrap().ends_with("20251231235961_third"));
        assert!(first.join("up.sql").exists() && first.join("down.sql").exists());
    }

    #[test]
    fn a_name_that_could_leave_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(0);
        for name in ["", "..", "a/b", "a b", "Ä", "A", "a.sql", "a\0", &"x".repeat(65)] {
            assert!(create(dir.path(), name, &clock).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
