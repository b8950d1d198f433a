//! `cargo xtask feed`: the example `feed` on a database of its own on the servers of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zmsg_testbed::Postgres;

use crate::services::{Install, Services};
use crate::shell::{self, cargo};

/// What is passed to the example.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of the example: `--messages 20000`, `--processes 4`, `--input FILE`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Brings the servers up, makes a database and a namespace, and runs the example on them.
///
/// # Errors
/// If there is no way to get the servers, or the totals of the example are not exact.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = build(Profile::Release)?;
    let services = Services::up(Install::wanted(false))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let database = runtime.block_on(Postgres::at(services.postgres_url()).database());
    let scratch = tempfile::tempdir().context("could not make a temporary directory")?;
    let place = Place {
        postgres: database.url().to_owned(),
        redis: services.redis_url().to_owned(),
        namespace: database.name().to_owned(),
    };
    let (config, passwords) = place.write(scratch.path())?;
    let line = shell::program(program.display().to_string())
        .at_root()
        .with(["--no-progress"])
        .with(&args.rest);
    let line = line.with(["--config".to_owned(), config.display().to_string()]);
    passwords.into_iter().fold(line, |line, (name, value)| line.variable(name, value)).run()
}

/// How the example is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As it is measured.
    Release,
    /// As the tests are.
    Dev,
}

/// Compiles the example and tells where it is.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    build_example("feed", &[], profile)
}

/// Compiles an example of the engine with these features and tells where it is.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build_example(name: &str, features: &[&str], profile: Profile) -> Result<PathBuf> {
    let line = cargo("build --package zmsg --example").at_root().with([name]);
    let line = features.iter().fold(line, |line, feature| line.with(["--features", feature]));
    let line = if profile == Profile::Release { line.with(["--release"]) } else { line };
    line.run()?;
    // Nothing is left to build: this asks only where the program went.
    let messages = line.with(["--quiet", "--message-format=json"]).read()?;
    executable("example", name, &String::from_utf8_lossy(&messages))
        .context("cargo does not name the example")
}

/// The program of a target among cargo's messages, one in JSON a line.
pub(crate) fn executable(kind: &str, name: &str, messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        let is_wanted = target["name"] == name && target["kind"][0] == kind;
        message["executable"].as_str().filter(|_| is_wanted).map(PathBuf::from)
    })
}

/// Where the engine of the example works: URLs with their passwords.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) postgres: String,
    pub(crate) redis: String,
    pub(crate) namespace: String,
}

impl Place {
    /// Writes the configuration, without the passwords: those are the variables that are returned.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> Result<(PathBuf, Vec<(String, String)>)> {
        let (postgres, postgres_password) = without_password(&self.postgres);
        let (redis, redis_password) = without_password(&self.redis);
        let text = serde_json::json!({
            "directory": directory.join("zmsg"),
            "store": { "url": postgres },
            "redis": { "url": redis, "namespace": self.namespace },
        });
        // What is JSON is YAML too, and needs no thought about what to quote.
        let path = directory.join("zmsg.yaml");
        fs::write(&path, text.to_string()).context("could not write the configuration")?;
        let passwords = [
            ("ZMSG__STORE__PASSWORD", postgres_password),
            ("ZMSG__REDIS__PASSWORD", redis_password),
        ];
        let given = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        Ok((path, passwords.into_iter().filter_map(given).collect()))
    }
}

/// The URL without its password, and the password.
fn without_password(url: &str) -> (String, Option<String>) {
    let found = || {
        let (scheme, rest) = url.split_once("://")?;
        let (login, place) = rest.split_once('@')?;
        let (user, password) = login.split_once(':')?;
        let at = if user.is_empty() { "" } else { "@" };
        Some((format!("{scheme}://{user}{at}{place}"), Some(password.to_owned())))
    };
    found().unwrap_or_else(|| (url.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_leaves_its_url() {
        for (url, left, password) in [
            ("postgres://zmsg:s3@h:1/db", "postgres://zmsg@h:1/db", Some("s3")),
            ("redis://:s3@h:1/", "redis://h:1/", Some("s3")),
            ("postgres://zmsg@h/db", "postgres://zmsg@h/db", None),
            ("redis://h", "redis://h", None),
        ] {
            let expected = (left.to_owned(), password.map(str::to_owned));
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn the_configuration_holds_no_password() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            postgres: "postgres://zmsg:s3cret@h/db".into(),
            redis: "redis://:s3cret@h/".into(),
            namespace: "n".into(),
        };
        let (path, passwords) = place.write(directory.path()).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("postgres://zmsg@h/db") && !text.contains("s3cret"), "{text}");
        assert_eq!(passwords.len(), 2);
    }

    #[test]
    fn the_program_is_that_of_the_example() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"zmsg"},"executable":null}"#,
            "\nnot json\n",
            r#"{"target":{"name":"feed","kind":["bench"]},"executable":"/t/other"}"#,
            "\n",
            r#"{"target":{"name":"feed","kind":["example"]},"executable":"/t/feed"}"#,
        );
        assert_eq!(executable("example", "feed", messages), Some(PathBuf::from("/t/feed")));
        assert_eq!(executable("example", "feed", ""), None);
    }
}
