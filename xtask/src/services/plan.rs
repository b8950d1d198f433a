//! The decision where each server comes from, without looking at anything.

use std::fmt;

use anyhow::{Result, bail};

use super::machine::{self, Machine};

/// Where a server comes from, the first that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Its URL is in the environment: somebody else runs it.
    Environment,
    /// A Docker engine runs it, by `docker-compose.yml`.
    Docker,
    /// Its program is on the machine and is started privately.
    Binaries,
    /// Its package is installed first, and its program then started privately.
    Install,
}

/// Where both servers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) postgres: Way,
    pub(super) redis: Way,
}

/// Decides for each server.
///
/// # Errors
/// If one cannot be had, naming it and the ways to get it.
pub(super) fn decide(machine: &Machine) -> Result<Plan> {
    let Machine { postgres_url, redis_url, binaries, .. } = machine;
    let postgres = way(machine, postgres_url.is_some(), binaries.postgres.is_some());
    let redis = way(machine, redis_url.is_some(), binaries.redis.is_some());
    match (postgres, redis) {
        (Some(postgres), Some(redis)) => Ok(Plan { postgres, redis }),
        (None, Some(_)) => bail!(no_way("PostgreSQL", machine)),
        (Some(_), None) => bail!(no_way("Redis", machine)),
        (None, None) => bail!(no_way("PostgreSQL and Redis", machine)),
    }
}

fn way(machine: &Machine, url: bool, binary: bool) -> Option<Way> {
    let ways = [
        (url, Way::Environment),
        (machine.docker, Way::Docker),
        (binary, Way::Binaries),
        (machine.may_install(), Way::Install),
    ];
    ways.into_iter().find_map(|(possible, way)| possible.then_some(way))
}

fn no_way(what: &str, machine: &Machine) -> String {
    let install = if machine.installs_packages {
        "pass --install, or set CI=true, to have them installed by apt-get"
    } else {
        "as root on Debian, pass --install to have them installed by apt-get"
    };
    format!(
        "no {what} for the tests. The ways to get servers:\n  \
         1. set ZMSG_TEST_POSTGRES_URL and ZMSG_TEST_REDIS_URL to servers that run\n  \
         2. start a Docker engine that has `docker compose`\n  \
         3. install the programs: PostgreSQL (initdb, postgres), redis-server, pgbouncer\n  \
         4. {install}\n\
         Plain `cargo test` needs no server and says what it leaves out."
    )
}

impl Plan {
    /// The services of `docker-compose.yml` that are needed.
    pub(super) fn wanted_of_compose(self) -> Vec<&'static str> {
        let services = [(self.postgres, "postgres"), (self.redis, "redis")];
        services.into_iter().filter(|(way, _)| *way == Way::Docker).map(|(_, name)| name).collect()
    }

    /// The packages to install first. Where packages are installed for one server, or its program
    /// is started anyway, those of the tests that kill servers come along.
    pub(super) fn packages(self, machine: &Machine) -> Vec<&'static str> {
        let private = |way| matches!(way, Way::Binaries | Way::Install);
        if machine.may_install() && (private(self.postgres) || private(self.redis)) {
            machine::missing(&machine.binaries)
        } else {
            vec![]
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "servers: PostgreSQL {}, Redis {}", self.postgres, self.redis)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "by its URL in the environment",
            Self::Docker => "in Docker",
            Self::Binaries => "started privately",
            Self::Install => "installed first, then started privately",
        })
    }
}

#[cfg(test)]
mod tests {
    use zmsg_testbed::private::Binaries;

    use super::super::machine::Install;
    use super::*;

    fn binaries() -> Binaries {
        Binaries {
            postgres: Some("/pg/bin".into()),
            redis: Some("/bin/redis-server".into()),
            pgbouncer: Some("/bin/pgbouncer".into()),
            go: Some("/bin/go".into()),
        }
    }

    fn bare() -> Machine {
        Machine {
            postgres_url: None,
            redis_url: None,
            docker: false,
            binaries: Binaries::default(),
            installs_packages: false,
            install: Install::Never,
        }
    }

    fn ways(machine: &Machine) -> (Way, Way) {
        let Plan { postgres, redis } = decide(machine).unwrap();
        (postgres, redis)
    }

    #[test]
    fn the_ways_are_taken_in_their_order() {
        let mut machine = Machine {
            postgres_url: Some("postgres://h".into()),
            redis_url: Some("redis://h".into()),
            docker: true,
            binaries: binaries(),
            installs_packages: true,
            install: Install::IfMissing,
        };
        assert_eq!(ways(&machine), (Way::Environment, Way::Environment));
        machine.redis_url = None;
        assert_eq!(ways(&machine), (Way::Environment, Way::Docker));
        assert_eq!(decide(&machine).unwrap().wanted_of_compose(), ["redis"]);
        machine.postgres_url = None;
        machine.docker = false;
        assert_eq!(ways(&machine), (Way::Binaries, Way::Binaries));
        machine.binaries.redis = None;
        assert_eq!(ways(&machine), (Way::Binaries, Way::Install));
        machine.binaries.postgres = None;
        assert_eq!(ways(&machine), (Way::Install, Way::Install));
    }

    #[test]
    fn without_any_way_the_error_names_all_of_them() {
        let mut machine = Machine { redis_url: Some("redis://h".into()), ..bare() };
        let error = decide(&machine).unwrap_err().to_string();
        assert!(error.starts_with("no PostgreSQL for the tests"), "{error}");
        for way in ["ZMSG_TEST_POSTGRES_URL", "Docker", "pgbouncer", "--install", "cargo test"] {
            assert!(error.contains(way), "{way} in {error}");
        }
        machine.redis_url = None;
        let error = decide(&machine).unwrap_err().to_string();
        assert!(error.starts_with("no PostgreSQL and Redis for the tests"), "{error}");
    }

    #[test]
    fn nothing_is_installed_unless_it_was_allowed_and_can_be() {
        let allowed = Machine { install: Install::IfMissing, ..bare() };
        assert!(decide(&allowed).is_err());
        let able = Machine { installs_packages: true, ..bare() };
        let error = decide(&able).unwrap_err().to_string();
        assert!(error.contains("CI=true"), "{error}");
        let both = Machine { installs_packages: true, ..allowed };
        assert_eq!(
            decide(&both).unwrap().packages(&both),
            ["postgresql", "redis-server", "pgbouncer"]
        );
    }

    #[test]
    fn only_what_is_missing_is_installed_and_nothing_beside_servers_of_others() {
        let binaries = Binaries { pgbouncer: None, ..binaries() };
        let mut machine =
            Machine { binaries, installs_packages: true, install: Install::IfMissing, ..bare() };
        assert_eq!(decide(&machine).unwrap().packages(&machine), ["pgbouncer"]);
        machine.install = Install::Never;
        assert_eq!(decide(&machine).unwrap().packages(&machine), [""; 0]);
        machine.install = Install::IfMissing;
        machine.docker = true;
        assert_eq!(decide(&machine).unwrap().packages(&machine), [""; 0]);
    }
}
