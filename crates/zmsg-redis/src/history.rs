//! Stretches of a server's history.

use std::fmt;
use std::time::Instant;

use redis::{Pipeline, RedisError, RedisResult, Value};
use zmsg_core::Result;

use crate::client::read;
use crate::connector::{Link, ping};
use crate::failure::{Effect, Failure};
use crate::{Script, ServerClock};

/// A stretch of one server's history: nothing that it acknowledged in one is forgotten in the same,
/// unless it was told to, or evicted.
///
/// It is made of two numbers: one that the server draws when it starts, and one that it draws when
/// it is promoted, and at times without a cause that matters here. So it never comes again, and a
/// server that has read older data, after a crash or as the replica of another, shows another one.
///
/// [`history_script!`](crate::history_script) tells a script the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct History([u8; History::LEN]);

/// Letters of each of the two numbers: 40 bits, which do not meet by chance.
const LETTERS: usize = 10;

impl History {
    /// How many bytes it has.
    pub const LEN: usize = 2 * LETTERS;

    /// Its bytes, which are letters and digits.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Reads it from the answers to `INFO server` and `INFO replication`. `None` if they have none,
    /// as those of a sentinel.
    fn of(server: &str, replication: &str) -> Option<Self> {
        let number = |info: &str, name: &str| -> Option<[u8; LETTERS]> {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.as_bytes().first_chunk().copied()
        };
        let started = number(server, "run_id:")?;
        let promoted = number(replication, "master_replid:")?;
        let mut bytes = [0; Self::LEN];
        bytes[..LETTERS].copy_from_slice(&started);
        bytes[LETTERS..].copy_from_slice(&promoted);
        Some(Self(bytes))
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({})", self.0.escape_ascii())
    }
}

/// What a connection knows of the server that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Present {
    /// The history that the server is in.
    pub history: History,
    /// Its clock.
    pub clock: ServerClock,
}

/// As a [`history_script!`](crate::history_script) is told it.
pub(crate) fn bytes(present: &Option<Present>) -> &[u8] {
    present.as_ref().map_or(&[], |present| present.history.as_bytes())
}

/// Sees a server answer and asks for its present history and its time, in one round trip. `None` in
/// a cluster, where each node has its own, from a sentinel, and if the user has no right to `INFO`
/// or `TIME`.
pub(crate) async fn ask(link: &mut Link) -> Result<Option<Present>> {
    let failed = |error: &RedisError| Failure::of(error, Effect::None).error;
    if matches!(link, Link::Cluster(_)) {
        return ping(link).await.map(|()| None).map_err(|error| failed(&error));
    }
    let mut pipeline = Pipeline::with_capacity(4);
    pipeline.ignore_errors().cmd("PING");
    pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication").cmd("TIME");
    let asked = Instant::now();
    let answers: Value = pipeline.query_async(link).await.map_err(|error| failed(&error))?;
    let answered = Instant::now();
    let mut answers = read::<Vec<RedisResult<Value>>>(answers)?.into_iter();
    let mut next = || answers.next().transpose().map_err(|error| failed(&error));
    // One that still loads its data refuses this, and no `INFO`.
    next()?;
    let told = next().and_then(|server| Ok((server, next()?, next()?)));
    match told {
        Ok((Some(server), Some(replication), Some(time))) => {
            let (seconds, micros): (u64, u64) = read(time)?;
            let clock = ServerClock::new(seconds * 1000 + micros / 1000, asked, answered);
            let history = History::of(&read::<String>(server)?, &read::<String>(replication)?);
            Ok(history.map(|history| Present { history, clock }))
        }
        Err(error) if error.is_temporary() => Err(error),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// A [`Script`] that is told a history: [`history_script!`](crate::history_script) makes one.
#[derive(Debug)]
pub struct HistoryScript(pub(crate) Script);

impl HistoryScript {
    #[doc(hidden)]
    pub const fn new(body: &'static str) -> Self {
        Self(Script::new(body))
    }
}

/// A script for [`Redis::script_in_history`](crate::Redis::script_in_history), which finds the bytes of
/// a [`History`](crate::History) in `history`: the one that the connection knows, and in a cluster,
/// whose connections lead to many servers, the present one of this very server. Its own arguments
/// begin with `ARGV[2]`.
///
/// The connection is behind for a second or so after the server was given a new history without
/// a restart: its role was changed by hand, or its first replica came. Who must not be mistaken then
/// asks: `present()` gives the present history and costs the server 9 µs, twice what the rest of a
/// small script does, and `promoted()` the half of it that can have changed, `string.sub(history,
/// 11)`, for about 3.
///
/// ```
/// use zmsg_redis::{HistoryScript, history_script};
///
/// static TELL: HistoryScript = history_script!("return history");
/// ```
#[macro_export]
macro_rules! history_script {
    ($($body:tt)*) => {
        $crate::HistoryScript::new(concat!(
            "local function promoted()\n",
            "local info = redis.call('INFO', 'replication')\n",
            "return string.sub(string.match(info, 'master_replid:(%x+)'), 1, 10)\n",
            "end\n",
            "local function present()\n",
            "local started = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')\n",
            "return string.sub(started, 1, 10) .. promoted()\n",
            "end\n",
            "local history = ARGV[1]\n",
            "if history == '' then history = present() end\n",
            $($body)*
        ))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:0123456789abcdef\r\n";
    const REPLICATION: &str = "# Replication\r\nrole:master\r\nmaster_replid:fedcba9876543210\r\n\
                               master_replid2:0000000000000000\r\n";

    #[test]
    fn it_has_letters_of_both_numbers() {
        let history = History::of(SERVER, REPLICATION).unwrap();
        assert_eq!(history.as_bytes(), b"0123456789fedcba9876");
        assert_eq!(format!("{history:?}"), "History(0123456789fedcba9876)");
    }

    #[test]
    fn without_one_of_them_there_is_none() {
        assert_eq!(History::of(SERVER, ""), None);
        assert_eq!(History::of("", REPLICATION), None);
        assert_eq!(History::of("run_id:short", REPLICATION), None);
    }
}
