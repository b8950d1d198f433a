//! What this machine has that servers could come from.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use zmsg_testbed::private::Binaries;
use zmsg_testbed::{POSTGRES_URL, REDIS_URL};

use super::compose;
use crate::shell::program;

/// Whether packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// No.
    Never,
    /// If there is no other way.
    IfMissing,
}

impl Install {
    /// As asked for on the command line; on CI machines also without.
    pub(crate) fn wanted(asked: bool) -> Self {
        let ci = env::var("CI").is_ok_and(|value| value == "true");
        if asked || ci { Self::IfMissing } else { Self::Never }
    }
}

/// The facts that decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) postgres_url: Option<String>,
    pub(super) redis_url: Option<String>,
    /// An engine runs, and its client has `compose`.
    pub(super) docker: bool,
    pub(super) binaries: Binaries,
    /// We are root on Debian or a kin of it.
    pub(super) installs_packages: bool,
    pub(super) install: Install,
}

impl Machine {
    /// Looks, and asks an engine only where it could be needed: that takes a moment.
    ///
    /// # Errors
    /// If the URL of a server is not text.
    pub(super) fn look(install: Install) -> Result<Self> {
        let (postgres_url, redis_url) = (url(POSTGRES_URL)?, url(REDIS_URL)?);
        let all_given = postgres_url.is_some() && redis_url.is_some();
        Ok(Self {
            postgres_url,
            redis_url,
            docker: !all_given && compose::is_there(),
            binaries: Binaries::find(),
            installs_packages: is_root() && is_debian(),
            install,
        })
    }

    pub(super) fn may_install(&self) -> bool {
        self.installs_packages && self.install == Install::IfMissing
    }
}

/// The packages of the programs that were not found.
pub(super) fn missing(binaries: &Binaries) -> Vec<&'static str> {
    let packages = [
        (&binaries.postgres, "postgresql"),
        (&binaries.redis, "redis-server"),
        (&binaries.pgbouncer, "pgbouncer"),
    ];
    packages.into_iter().filter(|(found, _)| found.is_none()).map(|(_, name)| name).collect()
}

fn url(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(url) => Ok(Some(url).filter(|url| !url.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context(name.to_owned())),
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && program("apt-get").with(["--version"]).succeeds()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |found: bool| if found { "yes" } else { "no" };
        writeln!(f, "{POSTGRES_URL} is set: {}", yes(self.postgres_url.is_some()))?;
        writeln!(f, "{REDIS_URL} is set: {}", yes(self.redis_url.is_some()))?;
        writeln!(f, "Docker engine with compose: {}", yes(self.docker))?;
        let Binaries { postgres, redis, pgbouncer, go } = &self.binaries;
        for (name, found) in [
            ("PostgreSQL", postgres),
            ("redis-server", redis),
            ("pgbouncer", pgbouncer),
            ("go", go),
        ] {
            let shown =
                found.as_ref().map_or("not found".into(), |path| path.display().to_string());
            writeln!(f, "{name}: {shown}")?;
        }
        write!(f, "packages may be installed: {}", yes(self.may_install()))
    }
}
