//! The servers of the tests: where they come from, and that they go again.
//!
//! Servers started here end when [`Services`] is dropped, and also when this process is killed or
//! interrupted: a watchdog outlives it for that.

mod plan; // start here: which way is taken
mod machine;
mod compose;
mod packages;
#[cfg(feature = "net")]
mod facts;

use anyhow::{Context as _, Result};
use zmsg_testbed::private::{
    Binaries, PostgresOptions, PrivatePostgres, PrivateRedis, RedisOptions,
};
use zmsg_testbed::{POSTGRES_URL, REDIS_URL, REQUIRE, Requirement};

use crate::shell::{Line, program};
use compose::Compose;
pub(crate) use machine::Install;
use machine::Machine;
use plan::{Plan, Way};

/// What can be done with servers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Tell what was found and which way `test` would take, and start nothing
    Status,
    /// Run a command with servers up and their URLs in its environment
    Run {
        /// Install servers with the package manager, if there is no other way
        #[arg(long)]
        install: bool,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
}

/// Runs `cargo xtask services`.
///
/// # Errors
/// If there is no way to get servers, or the command fails.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Status => {
            let machine = Machine::look(Install::wanted(false))?;
            println!("{machine}\n{}", plan::decide(&machine)?);
            Ok(())
        }
        Command::Run { install, words } => {
            let services = Services::up(Install::wanted(*install))?;
            let (name, args) = words.split_first().context("there is no command to run")?;
            services.around(program(name).with(args)).run()
        }
    }
}

/// Servers that are up.
#[derive(Debug)]
pub(crate) struct Services {
    variables: Vec<(&'static str, String)>,
    // Held for their ends.
    _compose: Option<Compose>,
    _postgres: Option<PrivatePostgres>,
    _redis: Option<PrivateRedis>,
}

impl Services {
    /// Brings both servers up, by the first way that this machine has.
    ///
    /// # Errors
    /// If it has none, naming the ways, or a server does not start.
    pub(crate) fn up(install: Install) -> Result<Self> {
        Self::up_with(install, &PostgresOptions::new())
    }

    /// As [`up`](Self::up), with a PostgreSQL that keeps what it has committed: one started here else
    /// leaves its syncs out.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    #[cfg(feature = "net")]
    pub(crate) fn up_durable(install: Install) -> Result<Self> {
        Self::up_with(install, &PostgresOptions::new().durable())
    }

    fn up_with(install: Install, postgres: &PostgresOptions) -> Result<Self> {
        let mut machine = Machine::look(install)?;
        let mut plan = plan::decide(&machine)?;
        let missing = plan.packages(&machine);
        if !missing.is_empty() {
            packages::install(&missing)?;
            machine = Machine::look(Install::Never)?;
            plan = plan::decide(&machine).context("the installed programs were not found")?;
        }
        println!("{plan}");
        start(&machine, plan, postgres)
    }

    /// Versions and settings of the servers.
    ///
    /// # Errors
    /// If one does not tell them.
    #[cfg(feature = "net")]
    pub(crate) fn facts(&self) -> Result<Vec<(String, String)>> {
        facts::of(self.postgres_url(), self.redis_url())
    }

    /// Names the servers to a program.
    #[cfg(feature = "net")]
    pub(crate) fn add_to(&self, command: &mut std::process::Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Where PostgreSQL is, with its password.
    #[cfg(feature = "net")]
    pub(crate) fn postgres_url(&self) -> &str {
        self.variable(POSTGRES_URL)
    }

    /// Where Redis is, with its password.
    #[cfg(feature = "net")]
    pub(crate) fn redis_url(&self) -> &str {
        self.variable(REDIS_URL)
    }

    #[cfg(feature = "net")]
    fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The line, with the URLs of the servers, and with the tests on them required.
    pub(crate) fn around(&self, line: Line) -> Line {
        let variables = self.variables.iter();
        variables.fold(line, |line, (name, value)| line.variable(*name, value))
    }
}

fn start(machine: &Machine, plan: Plan, options: &PostgresOptions) -> Result<Services> {
    let compose = plan.wanted_of_compose();
    let compose = if compose.is_empty() { None } else { Some(Compose::up(&compose)?) };
    let Binaries { postgres: programs, redis: server, .. } = &machine.binaries;
    let mut postgres = None;
    let postgres_url = match (plan.postgres, &compose, programs) {
        (Way::Binaries, _, Some(programs)) => {
            let started = PrivatePostgres::launch(programs, options)?;
            postgres.insert(started).url()
        }
        (Way::Docker, Some(compose), _) => compose.postgres_url(),
        _ => machine.postgres_url.clone().unwrap_or_default(),
    };
    let mut redis = None;
    let redis_url = match (plan.redis, &compose, server) {
        (Way::Binaries, _, Some(server)) => {
            let started = PrivateRedis::launch(server, &RedisOptions::new())?;
            redis.insert(started).url()
        }
        (Way::Docker, Some(compose), _) => compose.redis_url(),
        _ => machine.redis_url.clone().unwrap_or_default(),
    };
    let variables = vec![
        (POSTGRES_URL, postgres_url),
        (REDIS_URL, redis_url),
        (REQUIRE, required(&machine.binaries)),
    ];
    Ok(Services { variables, _compose: compose, _postgres: postgres, _redis: redis })
}

/// What the tests must not leave out: both servers, and those that they kill, if they can be. Programs in Go
/// whoever sets the variable may require.
fn required(binaries: &Binaries) -> String {
    let mut required = vec![Requirement::Postgres, Requirement::Redis];
    match machine::missing(binaries).as_slice() {
        [] => required.push(Requirement::Binaries),
        missing => println!(
            "note: tests that start and kill servers of their own are left out: no {}",
            missing.join(", ")
        ),
    }
    // Not required: where there is a toolchain its modules may still be out of reach.
    if binaries.go.is_none() {
        println!("note: tests with Go's asynq are left out: no go");
    }
    required.iter().map(|requirement| requirement.name()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_killed_servers_are_required_only_where_every_program_is() {
        let all = Binaries {
            postgres: Some("/pg/bin".into()),
            redis: Some("/redis-server".into()),
            pgbouncer: Some("/pgbouncer".into()),
            go: Some("/go".into()),
        };
        assert_eq!(required(&all), "postgres,redis,binaries");
        assert_eq!(required(&Binaries { pgbouncer: None, ..all }), "postgres,redis");
    }
}
