//! Servers in containers, by `docker-compose.yml`.

use std::process;

use anyhow::Result;
use zmsg_testbed::private::{Watchdog, free_port, password};

use crate::shell::{Line, program, root};

/// Removes the containers of a project with their data.
const DOWN: &str =
    r#"exec docker compose --project-name "$1" --file "$2" down --volumes --timeout 5"#;

/// The variables that `docker-compose.yml` reads.
const POSTGRES_PORT: &str = "ZMSG_POSTGRES_PORT";
const POSTGRES_PASSWORD: &str = "ZMSG_POSTGRES_PASSWORD";
const REDIS_PORT: &str = "ZMSG_REDIS_PORT";
const REDIS_PASSWORD: &str = "ZMSG_REDIS_PASSWORD";

/// Whether an engine answers, and its client knows `compose`.
pub(super) fn is_there() -> bool {
    program("docker").with(["compose", "version"]).succeeds()
        && program("docker").with(["info"]).succeeds()
}

/// Containers of our own, removed with their data when the value is dropped.
#[derive(Debug)]
pub(super) struct Compose {
    project: Project,
    _watchdog: Watchdog,
}

/// A project of this run alone, with its ports and passwords.
#[derive(Debug)]
struct Project {
    name: String,
    postgres_port: u16,
    redis_port: u16,
    password: String,
}

impl Compose {
    /// Starts these services and waits until their health checks pass.
    ///
    /// # Errors
    /// If one does not become healthy in two minutes; what was started is removed.
    pub(super) fn up(services: &[&str]) -> Result<Self> {
        let project = Project {
            name: format!("zmsg-test-{}", process::id()),
            postgres_port: free_port(),
            redis_port: free_port(),
            password: password(),
        };
        let watchdog = Watchdog::start(DOWN, [project.name.as_str(), &file()])?;
        let compose = Self { project, _watchdog: watchdog };
        compose.project.up(services).run()?;
        Ok(compose)
    }

    pub(super) fn postgres_url(&self) -> String {
        let Project { password, postgres_port, .. } = &self.project;
        format!("postgres://zmsg:{password}@127.0.0.1:{postgres_port}/postgres")
    }

    pub(super) fn redis_url(&self) -> String {
        let Project { password, redis_port, .. } = &self.project;
        format!("redis://:{password}@127.0.0.1:{redis_port}/")
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if let Err(error) = self.project.down().run() {
            eprintln!("note: containers of {} may still run: {error:#}", self.project.name);
        }
    }
}

impl Project {
    fn line(&self) -> Line {
        let Self { name, postgres_port, redis_port, password } = self;
        // Every command reads the whole file, `down` too.
        program("docker")
            .variable(POSTGRES_PORT, postgres_port.to_string())
            .variable(POSTGRES_PASSWORD, password)
            .variable(REDIS_PORT, redis_port.to_string())
            .variable(REDIS_PASSWORD, password)
            .with(["compose", "--project-name", name, "--file", &file()])
    }

    fn up(&self, services: &[&str]) -> Line {
        self.line()
            .with(["up", "--detach", "--wait", "--wait-timeout", "120"])
            .with(services.iter().copied())
    }

    fn down(&self) -> Line {
        self.line().with(["down", "--volumes", "--timeout", "5"])
    }
}

fn file() -> String {
    root().join("docker-compose.yml").display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        let (name, password) = ("zmsg-test-1".into(), "s3cret".into());
        Project { name, postgres_port: 16001, redis_port: 16002, password }
    }

    #[test]
    fn the_lines_name_project_file_and_services_and_show_no_password() {
        let shown = |line: Line| line.to_string().replace(&file(), "FILE");
        let variables = "ZMSG_POSTGRES_PORT=16001 ZMSG_POSTGRES_PASSWORD='***' \
                         ZMSG_REDIS_PORT=16002 ZMSG_REDIS_PASSWORD='***'";
        let compose = "docker compose --project-name zmsg-test-1 --file FILE";
        assert_eq!(
            shown(project().up(&["redis"])),
            format!("{variables} {compose} up --detach --wait --wait-timeout 120 redis")
        );
        assert_eq!(
            shown(project().down()),
            format!("{variables} {compose} down --volumes --timeout 5")
        );
    }

    #[test]
    fn the_file_has_these_services_variables_and_only_local_ports() {
        let text = std::fs::read_to_string(file()).unwrap();
        for needed in ["  postgres:", "  redis:", "healthcheck:"] {
            assert!(text.contains(needed), "{needed}");
        }
        for variable in [POSTGRES_PORT, POSTGRES_PASSWORD, REDIS_PORT, REDIS_PASSWORD] {
            assert!(text.contains(&format!("${{{variable}")), "{variable}");
        }
        let ports = text.lines().filter(|line| line.contains("_PORT"));
        assert!(ports.into_iter().all(|line| line.contains("127.0.0.1:")), "{text}");
    }
}
