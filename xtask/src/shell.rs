//! Command lines that are shown before they run.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

const CARGO: &str = "cargo";

/// A command line: program, arguments, and the variables set for it alone.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    program: String,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

/// A `cargo` line of space-separated words, in the caller's directory.
pub(crate) fn cargo(words: &str) -> Line {
    program(CARGO).with(words.split_whitespace())
}

/// A line of any program, without arguments yet, in the caller's directory.
pub(crate) fn program(name: impl Into<String>) -> Line {
    Line { program: name.into(), args: vec![], variables: vec![], directory: None }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

impl Line {
    /// Runs at the root of the repository, wherever the caller stands.
    #[must_use]
    pub(crate) fn at_root(mut self) -> Self {
        self.directory = Some(root().to_owned());
        self
    }

    /// Adds arguments, each one word whatever it contains.
    #[must_use]
    pub(crate) fn with(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable for this line.
    #[must_use]
    pub(crate) fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Shows the line and runs it with the caller's input and output.
    ///
    /// # Errors
    /// If it cannot be started or does not succeed.
    pub(crate) fn run(&self) -> Result<()> {
        println!("> {self}");
        let status = self.command().status().with_context(|| format!("could not run `{self}`"))?;
        if !status.success() {
            bail!("`{self}` failed ({status})");
        }
        Ok(())
    }

    /// Runs the line silently and returns what it wrote.
    ///
    /// # Errors
    /// If it cannot be started or does not succeed; the text holds what it complained about.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let output = self.command().output().with_context(|| format!("could not run `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }

    /// Whether the line can be run at all; its output is dropped.
    pub(crate) fn succeeds(&self) -> bool {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn command(&self) -> Command {
        // The cargo that runs us, not whichever comes first in the path.
        let own = std::env::var_os("CARGO").filter(|_| self.program == CARGO);
        let mut command = Command::new(own.unwrap_or_else(|| OsString::from(&self.program)));
        command.args(&self.args).envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            let secret = name.contains("PASSWORD");
            let shown = if secret { "***".into() } else { without_password(value) };
            write!(f, "{name}={} ", quoted(&shown))?;
        }
        write!(f, "{}", self.program)?;
        for arg in &self.args {
            write!(f, " {}", quoted(&without_password(arg)))?;
        }
        Ok(())
    }
}

fn quoted(arg: &str) -> Cow<'_, str> {
    if arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || "'\"$&|;<>*?".contains(c)) {
        Cow::Owned(format!("'{}'", arg.replace('\'', r"'\''")))
    } else {
        Cow::Borrowed(arg)
    }
}

/// The password of a URL must not reach the log of a CI run.
fn without_password(arg: &str) -> Cow<'_, str> {
    let hidden = || {
        let (scheme, rest) = arg.split_once("://")?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (user_and_password, _) = authority.rsplit_once('@')?;
        let (user, _) = user_and_password.split_once(':')?;
        let after = &rest[user_and_password.len()..];
        Some(format!("{scheme}://{user}:***{after}"))
    };
    hidden().map_or(Cow::Borrowed(arg), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_a_shell_would_take_it() {
        let line = cargo("doc --no-deps").variable("RUSTDOCFLAGS", "-D warnings").with(["a b"]);
        assert_eq!(line.to_string(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'a b'");
    }

    #[test]
    fn passwords_are_not_shown() {
        for (arg, shown) in [
            ("postgres://zmsg:s3cret@db:5432/app", "postgres://zmsg:***@db:5432/app"),
            ("--url=redis://:s3cret@cache", "--url=redis://:***@cache"),
            ("sqlite:data/app.db", "sqlite:data/app.db"),
            ("https://host/a:b@c", "https://host/a:b@c"),
        ] {
            assert_eq!(without_password(arg), shown);
        }
    }

    #[test]
    fn passwords_in_variables_are_not_shown_either() {
        let url = "redis://:s3cret@cache:6379/";
        let line = program("env").variable("URL", url).variable("A_PASSWORD", "s3cret");
        assert_eq!(line.to_string(), "URL='redis://:***@cache:6379/' A_PASSWORD='***' env");
    }

    #[test]
    fn a_failure_names_the_line() {
        let error = cargo("no-such-command-of-cargo").read().unwrap_err().to_string();
        assert!(error.starts_with("`cargo no-such-command-of-cargo` failed"), "{error}");
        assert!(!cargo("no-such-command-of-cargo").succeeds());
    }
}
