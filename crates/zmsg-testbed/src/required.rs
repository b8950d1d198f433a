//! What the tests may leave out, and what they must not.

use std::env;
use std::io::Write as _;
use std::sync::Mutex;

/// The variable that holds the URL of the PostgreSQL server of the tests. Its user may create
/// databases.
pub const POSTGRES_URL: &str = "ZMSG_TEST_POSTGRES_URL";

/// The variable that holds the URL of the Redis server of the tests. Nobody flushes it.
pub const REDIS_URL: &str = "ZMSG_TEST_REDIS_URL";

/// The variable that names what must be there: `postgres`, `redis`, `binaries`, `go`, separated by
/// commas.
pub const REQUIRE: &str = "ZMSG_TEST_REQUIRE";

/// Something that a test may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A shared PostgreSQL server.
    Postgres,
    /// A shared Redis server.
    Redis,
    /// The programs of servers, to start and kill processes of one's own.
    Binaries,
    /// A Go toolchain, and the modules that the tests with programs in Go use.
    Go,
}

impl Requirement {
    /// Its name in `ZMSG_TEST_REQUIRE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Binaries => "binaries",
            Self::Go => "go",
        }
    }

    /// Says once in this process that tests are left out because of `missing`.
    ///
    /// # Panics
    /// If `ZMSG_TEST_REQUIRE` names it.
    pub fn leave_out(self, missing: &str) {
        let required = env::var(REQUIRE).unwrap_or_default();
        assert!(
            !names(&required, self),
            "{REQUIRE}={required} and there is no {}: {missing}",
            self.name()
        );
        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut said = SAID.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !said.iter().any(|text| text == missing) {
            said.push(missing.to_owned());
            // Not `eprintln!`: the test runner swallows that of tests that pass.
            let _ = writeln!(std::io::stderr(), "left out: tests on {}: {missing}", self.name());
        }
    }
}

fn names(list: &str, requirement: Requirement) -> bool {
    list.split(',').any(|name| name.trim() == requirement.name())
}

/// The value of a variable, unless it is missing or empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_named_whole_and_spaces_do_not_matter() {
        assert!(names("postgres, redis", Requirement::Redis));
        assert!(names("binaries", Requirement::Binaries));
        assert!(names("redis,go", Requirement::Go));
        assert!(!names("postgresql,redis-server", Requirement::Postgres));
        assert!(!names("golang", Requirement::Go));
        assert!(!names("", Requirement::Redis));
    }
}
