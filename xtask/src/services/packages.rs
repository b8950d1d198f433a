//! Programs of servers from the package manager of Debian.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zmsg_testbed::private::Watchdog;

use crate::shell::{Line, program};

/// Asked by the scripts of packages before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// "Forbidden", for every service.
const FORBID: &str = "#!/bin/sh\nexit 101\n";

/// Installs packages without starting the services in them: only the programs are wanted.
///
/// # Errors
/// If the package manager fails, or starting services cannot be forbidden.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let _forbidden = Forbidden::set(Path::new(POLICY))?;
    lines(packages).iter().try_for_each(Line::run)
}

fn lines(packages: &[&str]) -> Vec<Line> {
    let apt = || program("apt-get").variable("DEBIAN_FRONTEND", "noninteractive");
    let install = apt().with(["install", "-y", "--no-install-recommends"]);
    vec![apt().with(["update"]), install.with(packages.iter().copied())]
}

/// While it lives, installing a package starts no service.
struct Forbidden {
    /// The file, if we wrote it.
    own: Option<(PathBuf, Watchdog)>,
}

impl Forbidden {
    /// Writes the policy, unless the machine has one: that of a container forbids as ours does.
    fn set(path: &Path) -> Result<Self> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
        let mut file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Ok(Self { own: None });
            }
            created => created.with_context(|| format!("could not write {}", path.display()))?,
        };
        // It must not outlive us, even if we are killed: services would never start again.
        let watchdog = Watchdog::start("rm -f -- \"$1\"", [path])?;
        let forbidden = Self { own: Some((path.to_owned(), watchdog)) };
        file.write_all(FORBID.as_bytes())?;
        Ok(forbidden)
    }
}

impl Drop for Forbidden {
    fn drop(&mut self) {
        if let Some((path, _watchdog)) = self.own.take() {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_fetched_before_packages_and_nobody_is_asked() {
        let shown: Vec<String> =
            lines(&["postgresql", "pgbouncer"]).iter().map(Line::to_string).collect();
        assert_eq!(
            shown,
            [
                "DEBIAN_FRONTEND=noninteractive apt-get update",
                "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
                 postgresql pgbouncer"
            ]
        );
    }

    #[test]
    fn our_policy_goes_again_and_that_of_the_machine_stays() {
        let name = format!("zmsg-policy-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let ours = Forbidden::set(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), FORBID);
        drop(Forbidden::set(&path).unwrap());
        assert!(path.exists());
        drop(ours);
        assert!(!path.exists());
    }
}
