//! A process that is killed leaves no server behind.
//!
//! The test binary starts itself again as the process that is killed.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use zmsg_testbed::Requirement;
use zmsg_testbed::private::until;
use zmsg_testbed::private::{
    Binaries, PostgresOptions, PrivatePostgres, PrivateRedis, RedisOptions,
};

const CHILD: &str = "ZMSG_TESTBED_CHILD";
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn servers_end_and_their_directories_go_when_their_process_is_killed() {
    if env::var_os(CHILD).is_some() {
        return serve();
    }
    let Binaries { postgres: Some(_), redis: Some(_), .. } = Binaries::find() else {
        return Requirement::Binaries
            .leave_out("PostgreSQL and Redis are not both on this machine");
    };
    let name = "killed::servers_end_and_their_directories_go_when_their_process_is_killed";
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let words =
        lines.filter_map(|line| line.split_once("serving ").map(|found| found.1.to_owned()));
    let served: Vec<String> = words.take(2).collect();
    assert_eq!(served.len(), 2, "the process did not start its servers");
    assert!(served.iter().all(|directory| Path::new(directory).join("running").exists()));
    let processes: Vec<String> = served
        .iter()
        .map(|directory| std::fs::read_to_string(Path::new(directory).join("running")).unwrap())
        .collect();

    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || served.iter().all(|directory| !Path::new(directory).exists());
    assert!(until(BOUND, gone), "{served:?} are still there");
    let ended = |process: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    assert!(until(BOUND, || processes.iter().all(ended)), "{processes:?} still run");
}

/// Starts servers, says where, and waits to be killed.
fn serve() {
    let Some(postgres) = PrivatePostgres::start(PostgresOptions::new()) else { return };
    let Some(redis) = PrivateRedis::start(RedisOptions::new()) else { return };
    let data = postgres.data();
    let mut out = std::io::stdout();
    writeln!(out, "\nserving {}", data.parent().unwrap().display()).unwrap();
    writeln!(out, "\nserving {}", redis.directory().display()).unwrap();
    out.flush().unwrap();
    // Ends with the pipe, which the killed process never sees.
    let _ = std::io::stdin().read_line(&mut String::new());
}
