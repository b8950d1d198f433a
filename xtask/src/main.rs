//! The project's own commands: `cargo xtask help` lists them.
//!
//! Every command prints the lines it runs. The engine is never linked into this binary, which has
//! to be ready in seconds on a fresh machine: what needs the engine runs `zmsg-admin`, and what
//! talks to servers is compiled, behind the feature `net`, when it is called.

mod admin;
#[cfg(feature = "net")]
mod bench;
#[cfg(feature = "net")]
mod chaos;
mod ci;
#[cfg(feature = "net")]
mod feed;
#[cfg(feature = "net")]
mod faults;
#[cfg(feature = "net")]
mod kills;
#[cfg(feature = "net")]
mod load;
mod services;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test of the workspace, doctests included, with the servers they need
    Test(test::Args),
    /// Servers of the tests: `status` tells where they would come from, `run CMD` runs with them
    #[command(subcommand)]
    Services(services::Command),
    /// Run what CI runs, stage by stage, in the same order
    Ci,
    /// Check what the compiler does not: layers, sources, migrations, proofs, links
    Tidy,
    /// ARGS..: run the example `feed` on PostgreSQL and Redis, in a database of its own
    #[cfg(feature = "net")]
    Feed(feed::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Feed(admin::Args),
    /// [--only NAME] [--messages N] [--dev] [--list]: run `feed` through every fault of its servers
    #[cfg(feature = "net")]
    Faults(faults::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Faults(admin::Args),
    /// [--seed S] [--kills N] [--resume] [--controls] [--list]: kill processes while they write
    #[cfg(feature = "net")]
    Chaos(chaos::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Chaos(admin::Args),
    /// [--kills N] [--messages N] [--dev]: kill `feed` again and again, and let it go on each time
    #[cfg(feature = "net")]
    Kills(kills::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Kills(admin::Args),
    /// [--quick] [--only NAME] [--save NAME] [--baseline NAME] [--list]: measure zmsg beside its peers
    #[cfg(feature = "net")]
    Bench(bench::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Bench(admin::Args),
    /// Put zmsg under the load that a TOML file describes; benches/workloads has some
    #[cfg(feature = "net")]
    Load(load::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Load(admin::Args),
    /// [--from NAME]: write what was measured to docs/reports, with charts
    #[cfg(feature = "net")]
    Report(bench::report::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Report(admin::Args),
    /// [--from NAME]: what it means for choosing zmsg or something else
    #[cfg(feature = "net")]
    Analyse(bench::analyse::Args),
    #[cfg(not(feature = "net"))]
    #[command(disable_help_flag = true)]
    Analyse(admin::Args),
    /// up | down | status | new NAME  [--dry-run] [--dir DIR] [--steps N] --url URL
    #[command(disable_help_flag = true)]
    Migrate(admin::Args),
    /// list | retry | drop  --url URL: the operations and tasks that were given up
    #[command(disable_help_flag = true)]
    DeadLetters(admin::Args),
    /// ls | show | retry | archive | delete | pause | resume  --url URL: task queues and their tasks
    #[command(disable_help_flag = true)]
    Queue(admin::Args),
    /// list | free CLUSTER NODE  --url URL: the node numbers of ids that processes hold
    #[command(disable_help_flag = true)]
    Nodes(admin::Args),
    /// --url URL: before and after rows are written by other programs than zmsg
    #[command(disable_help_flag = true)]
    DistrustFilters(admin::Args),
    /// DIRECTORY --config FILE: what a process that never came back left in its journal
    #[command(disable_help_flag = true)]
    Adopt(admin::Args),
    /// --config FILE [--json]: check the settings of the servers and the directory
    #[command(disable_help_flag = true)]
    Doctor(admin::Args),
}

fn main() -> ExitCode {
    let command = parse(std::env::args().collect()).unwrap_or_else(|refused| refused.exit());
    let done = match command {
        Command::Test(args) => test::run(&args),
        Command::Services(command) => services::run(&command),
        Command::Ci => ci::run(),
        Command::Tidy => tidy::run(),
        #[cfg(feature = "net")]
        Command::Feed(args) => feed::run(&args),
        #[cfg(feature = "net")]
        Command::Faults(args) => faults::run(&args),
        #[cfg(feature = "net")]
        Command::Chaos(args) => chaos::run(&args),
        #[cfg(feature = "net")]
        Command::Kills(args) => kills::run(&args),
        #[cfg(feature = "net")]
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "net")]
        Command::Load(args) => load::run(&args),
        #[cfg(feature = "net")]
        Command::Report(args) => bench::report::run(&args),
        #[cfg(feature = "net")]
        Command::Analyse(args) => bench::analyse::run(&args),
        #[cfg(not(feature = "net"))]
        Command::Feed(args) => with_net("feed", &args),
        #[cfg(not(feature = "net"))]
        Command::Faults(args) => with_net("faults", &args),
        #[cfg(not(feature = "net"))]
        Command::Chaos(args) => with_net("chaos", &args),
        #[cfg(not(feature = "net"))]
        Command::Kills(args) => with_net("kills", &args),
        #[cfg(not(feature = "net"))]
        Command::Bench(args) => with_net("bench", &args),
        #[cfg(not(feature = "net"))]
        Command::Load(args) => with_net("load", &args),
        #[cfg(not(feature = "net"))]
        Command::Report(args) => with_net("report", &args),
        #[cfg(not(feature = "net"))]
        Command::Analyse(args) => with_net("analyse", &args),
        Command::Migrate(args) => admin::run("migrate", &args),
        Command::DeadLetters(args) => admin::run("dead-letters", &args),
        Command::Queue(args) => admin::run("queue", &args),
        Command::Nodes(args) => admin::run("nodes", &args),
        Command::DistrustFilters(args) => admin::run("distrust-filters", &args),
        Command::Adopt(args) => admin::run("adopt", &args),
        Command::Doctor(args) => admin::run("doctor", &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles these commands with what talks to servers, and runs one of them.
#[cfg(not(feature = "net"))]
fn with_net(command: &str, args: &admin::Args) -> anyhow::Result<()> {
    shell::cargo(ci::WITH_NET).with([command]).with(&args.rest).run()
}

/// Parses a command line, program first.
fn parse(mut words: Vec<String>) -> Result<Command, clap::Error> {
    let is_test = words.get(1).is_some_and(|command| command == "test");
    // clap takes a leading `--` for itself; the test runner's part has to keep its place.
    let separator = words.iter().position(|word| is_test && word == "--");
    let runner = separator.map(|at| words.split_off(at).split_off(1)).unwrap_or_default();
    let mut command = Cli::try_parse_from(words)?.command;
    if let Command::Test(args) = &mut command {
        args.runner = runner;
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        parse(line.split(' ').map(str::to_owned).collect()).unwrap()
    }

    #[test]
    fn the_commands_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_test_runner_are_passed_on_with_their_separator() {
        let Command::Test(args) = parsed("xtask test -p zmsg-core fold -- --nocapture x") else {
            panic!("not the test command");
        };
        assert_eq!(args.cargo, ["-p", "zmsg-core", "fold"]);
        assert_eq!(args.runner, ["--nocapture", "x"]);
        assert!(!args.nextest);

        let Command::Test(args) = parsed("xtask test --nextest -- --nocapture") else {
            panic!("not the test command");
        };
        assert!(args.nextest && args.cargo.is_empty());
        assert_eq!(args.runner, ["--nocapture"]);
    }

    #[test]
    fn everything_behind_migrate_is_passed_on() {
        let Command::Migrate(args) = parsed("xtask migrate up --dry-run --url sqlite:a.db") else {
            panic!("not the migrate command");
        };
        assert_eq!(args.rest, ["up", "--dry-run", "--url", "sqlite:a.db"]);
        let Command::Migrate(args) = parsed("xtask migrate --help") else {
            panic!("not the migrate command");
        };
        assert_eq!(args.rest, ["--help"]);
        let Command::Queue(args) = parsed("xtask queue ls --watch --url redis://a") else {
            panic!("not the queue command");
        };
        assert_eq!(args.rest, ["ls", "--watch", "--url", "redis://a"]);
    }

    #[test]
    fn a_command_with_servers_is_passed_on_with_its_options() {
        for line in ["xtask services run -- env -i", "xtask services run env -i"] {
            let Command::Services(services::Command::Run { install, words }) = parsed(line) else {
                panic!("not the command that runs with servers");
            };
            assert!(!install);
            assert_eq!(words, ["env", "-i"]);
        }
    }
}
