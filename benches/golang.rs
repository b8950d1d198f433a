//! Peers that are written in Go: small programs that measure themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::round;

/// A program of `go/cmd`, built.
#[derive(Debug)]
pub struct Go(PathBuf);

impl Go {
    /// Builds a program into a directory; a target gives `env!("CARGO_TARGET_TMPDIR")`.
    ///
    /// # Errors
    /// Why it cannot be built, for [`Figures::left_out`](crate::Figures::left_out).
    pub fn build(program: &str, into: &str) -> Result<Self, String> {
        let target = Path::new(into).join(program);
        let mut build = Command::new("go");
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"));
        build.args(["build", "-o"]).arg(&target).arg(format!("./cmd/{program}"));
        match build.output() {
            Ok(output) if output.status.success() => Ok(Self(target)),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("it cannot be built: {said}"))
            }
            Err(error) => Err(format!("there is no Go on this machine: {error}")),
        }
    }

    /// Runs it and gives the number that it prints.
    ///
    /// # Panics
    /// If it fails, or prints something else.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> f64 {
        let output = Command::new(&self.0).args(arguments).output().expect("it was built");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse().unwrap_or_else(|_| panic!("no number: {said}"))
    }

    /// How long one [`round`] takes, as Go reads it.
    pub fn round() -> String {
        format!("{}ms", round().as_millis())
    }
}
