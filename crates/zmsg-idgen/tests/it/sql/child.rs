//! A process that leases a node and makes ids: this test program, called anew.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zmsg_core::{ErrorKind, SystemClock};
use zmsg_idgen::{IdGenerator, IdOptions, Layout, RawId, SqlLease, SqlLeaseOptions};

use super::open;

const PLAN: &str = "ZMSG_IDGEN_TEST_PLAN";

/// Between a refusal and the next attempt, as a caller would make it.
const PAUSE: Duration = Duration::from_millis(5);

/// What a child does; travels as text.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) node_bits: u8,
    pub(crate) lease_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) reserve_ms: u64,
    /// How many ids to make before it closes; 0 for as long as it lives.
    pub(crate) ids: u64,
}

impl Plan {
    /// The defaults, without an end.
    pub(crate) fn new(url: &str, node_bits: u8) -> Self {
        let (lease_ms, grace_ms, reserve_ms) = (30_000, 5_000, 10_000);
        Self { url: url.to_owned(), node_bits, lease_ms, grace_ms, reserve_ms, ids: 0 }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(Layout::EPOCH_2021_MS, 43, self.node_bits, 20 - self.node_bits).unwrap()
    }

    pub(crate) fn lease_options(&self) -> SqlLeaseOptions {
        SqlLeaseOptions {
            lease: Duration::from_millis(self.lease_ms),
            grace: Duration::from_millis(self.grace_ms),
            ..SqlLeaseOptions::default()
        }
    }

    pub(crate) fn id_options(&self) -> IdOptions {
        let reserve_ahead = Duration::from_millis(self.reserve_ms);
        IdOptions { reserve_ahead, ..IdOptions::default() }
    }

    fn to_text(&self) -> String {
        let Self { url, node_bits, lease_ms, grace_ms, reserve_ms, ids } = self;
        format!("{node_bits} {lease_ms} {grace_ms} {reserve_ms} {ids} {url}")
    }

    fn from_text(text: &str) -> Self {
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        Self {
            node_bits: words[0].parse().unwrap(),
            lease_ms: number(1),
            grace_ms: number(2),
            reserve_ms: number(3),
            ids: number(4),
            url: words[5].to_owned(),
        }
    }
}

/// In an ordinary run there is nothing for it to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_child_makes_ids_as_planned() {
    let Ok(text) = std::env::var(PLAN) else { return };
    let plan = Plan::from_text(&text);
    let leases = SqlLease::new(open(&plan.url).await, plan.lease_options()).unwrap();
    let leases = Arc::new(leases);
    let began = Instant::now();
    let generator = loop {
        let clock = Arc::new(SystemClock);
        match IdGenerator::start(plan.layout(), leases.clone(), clock, plan.id_options()).await {
            Ok(generator) => break generator,
            // Of those that were killed, until their leases end.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                assert!(began.elapsed() < Duration::from_secs(30), "{error}");
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let mut keeper = JoinSet::new();
    keeper.spawn(generator.keeper().run(CancellationToken::new()));
    // The test harness has begun a line.
    println!();
    make_ids(&generator, &plan).await;
    if plan.ids > 0 {
        say(&[String::from("done")]);
        // Its node stays held until everybody has one.
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        generator.close().await.unwrap();
    }
}

/// Ids one by one, said by the hundred; refusals as they come.
async fn make_ids(generator: &IdGenerator, plan: &Plan) {
    let mut made = 0;
    let mut lines = Vec::new();
    while plan.ids == 0 || made < plan.ids {
        match generator.next().await {
            Ok(id) => {
                made += 1;
                lines.push(format!("id {id}"));
            }
            Err(error) => {
                lines.push(format!("refused {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
        if lines.len() == 100 || lines.last().is_some_and(|line| line.starts_with("refused")) {
            say(&std::mem::take(&mut lines));
        }
    }
    say(&lines);
}

fn say(lines: &[String]) {
    let mut text = lines.join("\n");
    text.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// A child, seen from its parent. It is killed when it is dropped.
pub(crate) struct Made {
    child: Child,
    stdin: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

/// A line of a child's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Id(RawId),
    Refused(String),
    Done,
}

impl Made {
    pub(crate) fn spawn(plan: &Plan) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sql::child::the_child_makes_ids_as_planned", "--nocapture"])
            .env(PLAN, plan.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, stdin, said: BufReader::new(stdout) }
    }

    /// The next line; `None` when the child has ended. Blocks.
    pub(crate) fn next(&mut self) -> Option<Said> {
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The last line may have been cut by a kill, and the test harness speaks too.
            let Some(line) = line.strip_suffix('\n') else { continue };
            match line.split_once(' ') {
                Some(("id", id)) => {
                    return Some(Said::Id(RawId::new(id.parse().unwrap()).unwrap()));
                }
                Some(("refused", why)) => return Some(Said::Refused(why.to_owned())),
                None if line == "done" => return Some(Said::Done),
                _ => {}
            }
        }
    }

    /// The next `count` ids. Blocks.
    pub(crate) fn ids(&mut self, count: usize) -> Vec<RawId> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            match self.next() {
                Some(Said::Id(id)) => ids.push(id),
                other => panic!("{other:?} after {} ids", ids.len()),
            }
        }
        ids
    }

    /// Lets a child that is done go, and waits for it. Blocks.
    pub(crate) fn finish(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// `kill -9`; returns what it had said by then. Blocks.
    pub(crate) fn kill(mut self) -> Vec<RawId> {
        self.child.kill().unwrap();
        let mut ids = Vec::new();
        while let Some(said) = self.next() {
            if let Said::Id(id) = said {
                ids.push(id);
            }
        }
        ids
    }

    /// Sends a signal by its name.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
