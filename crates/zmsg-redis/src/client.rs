//! The one way to Redis that all parts of an engine share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ToRedisArgs, Value};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, ErrorKind, Result};

use crate::breaker::{Breaker, Pass};
use crate::connector::{Connector, Link};
use crate::failure::{Effect, Failure, effect_of, is_unknown_script};
use crate::health::{Health, Monitor, RedisStats, count};
use crate::history::{self, Present};
use crate::line::{Keeper, Line, Ticket};
use crate::{HistoryScript, RedisKey, RedisOptions, Script, Topology};

/// A Redis, reached by a few connections that all calls share. Cloning it is cheap.
///
/// - Opening never waits and does not fail because the server is away.
/// - Each call ends within its deadline.
/// - A connection that broke is replaced by one task, without a restart and without traffic,
///   within 2 s of the server's return.
/// - While Redis keeps failing, calls are refused at once.
/// - A call whose answer was lost says so: its status is `OutcomeUnknown` if it may have written.
///
/// When the last clone is dropped, or after [`close`](Self::close), its tasks end.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
    deadline: Duration,
}

struct Inner {
    connector: Connector,
    lines: Box<[Arc<Line>]>,
    /// Deals the calls out to the lines.
    turn: AtomicUsize,
    breaker: Arc<Breaker>,
    monitor: Arc<Monitor>,
    shutdown: CancellationToken,
    _end_with_us: DropGuard,
}

impl Redis {
    /// Begins to connect, by tasks on `tracker`, whose owner waits for them.
    ///
    /// # Errors
    /// `InvalidConfig` for options that can never work. A server that is away is no error: calls
    /// fail until it is there; [`health`](Self::health) tells.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(options: RedisOptions, tracker: &TaskTracker) -> Result<Self> {
        let connector = Connector::new(options)?;
        let shutdown = CancellationToken::new();
        let breaker = Arc::new(Breaker::new(connector.options().breaker));
        let monitor = Arc::new(Monitor::new());
        let lines = (0..connector.options().connections).map(|_| Arc::new(Line::new())).collect();
        let inner = Inner {
            lines,
            turn: AtomicUsize::new(0),
            breaker,
            monitor,
            _end_with_us: shutdown.clone().drop_guard(),
            shutdown,
            connector,
        };
        for line in &inner.lines {
            let keeper = Keeper {
                line: Arc::clone(line),
                connector: inner.connector.clone(),
                breaker: Arc::clone(&inner.breaker),
                monitor: Arc::clone(&inner.monitor),
            };
            tracker.spawn(keeper.run(inner.shutdown.clone()));
        }
        let deadline = inner.connector.options().deadline;
        Ok(Self { inner: Arc::new(inner), deadline })
    }

    /// The same Redis with another deadline for each call, for work in bulk. In a cluster one
    /// attempt at a node takes no longer than the options' deadline all the same.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), deadline }
    }

    /// The key of `name` among the things of one kind, such as "c". A kind has lowercase letters
    /// only.
    pub fn key(&self, kind: &'static str, name: &str) -> RedisKey {
        RedisKey::plain(&self.options().namespace, kind, name)
    }

    /// The key of a part of what `tag` names. All parts of one kind and tag are on one node of a
    /// cluster, so that one script may use them.
    pub fn tagged(&self, kind: &'static str, tag: &str, part: &str) -> RedisKey {
        RedisKey::tagged(&self.options().namespace, kind, tag, part)
    }

    /// Sends one command.
    ///
    /// # Errors
    /// `Unavailable` if Redis cannot be reached, cannot serve now, or the breaker is open;
    /// `Timeout` after the deadline; `Overloaded` if Redis is out of memory; `Corrupted` for a key
    /// of another type; `InvalidConfig` if the user may not do this; `Closed` after
    /// [`close`](Self::close). If a command that may write was sent and not answered, the
    /// status is `OutcomeUnknown`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the command done or not done.
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T> {
        let value = self
            .call(effect_of_cmd(cmd), async |mut link| cmd.query_async::<Value>(&mut link).await);
        read(value.await?)
    }

    /// Sends several commands in one round trip; they are not one transaction. In a cluster all
    /// their keys must be on one node.
    ///
    /// # Errors
    /// As for [`query`](Self::query). If one command fails the others may have been carried out;
    /// with [`Pipeline::ignore_errors`] each answer is a result of its own.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each command done or not done.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        let reads = pipeline.cmd_iter().all(|cmd| effect_of_cmd(cmd) == Effect::None);
        let effect = if reads { Effect::None } else { Effect::Possible };
        read(self.call(effect, async |link| send_pipeline(link, pipeline).await).await?)
    }

    /// [`query`](Self::query), and what is known of the server that answered. Of data that was
    /// written with its history, what does not match may be of before a crash or a failover. `None`
    /// in a cluster, and if the user has no right to `INFO` or `TIME`.
    ///
    /// It is known of the connection, and costs nothing. A server that is restarted, and one that
    /// sentinels demote, breaks its connections. One whose role is changed by hand does not, nor one
    /// whose clock is set: of that it is told within about a second.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn query_with_present<T: FromRedisValue>(
        &self,
        cmd: &Cmd,
    ) -> Result<(T, Option<Present>)> {
        let send = async |mut link: Link, _| cmd.query_async::<Value>(&mut link).await;
        let (value, present) = self.call_in_history(effect_of_cmd(cmd), send).await?;
        Ok((read(value)?, present))
    }

    /// Runs a script. Redis is sent its digest; a server that does not know it gets the text.
    /// Several arguments are a tuple; none are an empty slice of text.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script run or not run.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[RedisKey],
        args: &(impl ToRedisArgs + Sync),
    ) -> Result<T> {
        let send = async |link| send_script(link, script, keys, args).await;
        read(self.call(Effect::Possible, send).await?)
    }

    /// Runs a [`history_script!`](crate::history_script) on the server of this history, which the
    /// connection knows at no cost, or, in a cluster, on whichever server has the keys.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`script`](Self::script).
    pub async fn script_in_history<T: FromRedisValue>(
        &self,
        HistoryScript(script): &HistoryScript,
        keys: &[RedisKey],
        args: &(impl ToRedisArgs + Sync),
    ) -> Result<T> {
        let send = async |link, present| {
            send_script(link, script, keys, &(history::bytes(&present), args)).await
        };
        let (value, _) = self.call_in_history(Effect::Possible, send).await?;
        read(value)
    }

    /// Sends a command that is made for the history, and the clock, of the server that gets it.
    ///
    /// # Errors
    /// As for [`query`](Self::query), of a command that may write. Where no history is known nothing
    /// is sent: `InvalidConfig` if the user has no right to `INFO` or `TIME`, and `Unsupported` in a
    /// cluster, where [`script_in_history`](Self::script_in_history) serves.
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn query_in_history<T: FromRedisValue>(
        &self,
        cmd: impl FnOnce(&Present) -> Cmd,
    ) -> Result<T> {
        let send = async |mut link: Link, present: Option<Present>| match present {
            Some(present) => cmd(&present).query_async::<Value>(&mut link).await,
            None => Ok(Value::Nil),
        };
        match self.call_in_history(Effect::Possible, send).await? {
            (value, Some(_)) => read(value),
            (_, None) if matches!(self.options().topology, Topology::Cluster(_)) => Err(
                Error::new(ErrorKind::Unsupported, "in a cluster each node has its own history"),
            ),
            (_, None) => Err(Error::invalid_config("the user has no right to INFO or TIME")),
        }
    }

    /// The values under these keys, in their order, in one round trip (in a cluster: one to each
    /// node). What is no string reads as nothing.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn multi_get(&self, keys: &[RedisKey]) -> Result<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // A cluster connection splits MGET by slot and puts the answers together in order.
        self.query(redis::cmd("MGET").arg(keys)).await
    }

    /// Whether it can be used now.
    pub fn health(&self) -> Health {
        let Inner { shutdown, breaker, monitor, lines, .. } = &*self.inner;
        if shutdown.is_cancelled() {
            return Health::Closed;
        }
        let connected = lines.iter().any(|line| line.is_up());
        if connected && !breaker.is_open() {
            return Health::Up;
        }
        match monitor.trouble() {
            Some((since, error)) => Health::Down { since, breaker_open: connected, error },
            None => Health::Connecting,
        }
    }

    /// Tells each time that calls which failed before may succeed now: a connection was made
    /// anew, or the breaker closed. Await [`changed`](watch::Receiver::changed); the number itself
    /// means nothing.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.inner.monitor.returns()
    }

    /// What it has done so far.
    pub fn stats(&self) -> RedisStats {
        self.inner.monitor.stats()
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &RedisOptions {
        self.inner.connector.options()
    }

    /// What makes its connections: a manager for a pool of others, for commands that block.
    pub fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    /// Ends its tasks and gives up its connections. Calls from now on fail with `Closed`; those
    /// under way may end.
    pub fn close(&self) {
        self.inner.shutdown.cancel();
    }

    /// Sends by a shared connection, within the deadline, and learns from what comes of it.
    pub(crate) async fn call(
        &self,
        effect: Effect,
        send: impl AsyncFnOnce(Link) -> RedisResult<Value>,
    ) -> Result<Value> {
        let send = async |link, _| send(link).await;
        self.call_in_history(effect, send).await.map(|(value, _)| value)
    }

    /// [`call`](Self::call), told and answered with what the connection knows of its server.
    pub(crate) async fn call_in_history(
        &self,
        effect: Effect,
        send: impl AsyncFnOnce(Link, Option<Present>) -> RedisResult<Value>,
    ) -> Result<(Value, Option<Present>)> {
        let inner = &*self.inner;
        count(&inner.monitor.calls);
        let pass = match inner.enter() {
            Ok(pass) => pass,
            Err(error) => {
                count(&inner.monitor.errors);
                return Err(error);
            }
        };
        let mut used = None;
        let answer = timeout(self.deadline, async {
            let (line, ticket) = inner.ticket().await.map_err(Failure::unsent)?;
            used = Some((line, ticket.generation));
            let value = send(ticket.link, ticket.present).await;
            let value = value.map_err(|error| Failure::of(&error, effect))?;
            Ok((value, ticket.present))
        });
        let failure = match answer.await {
            Ok(Ok(answer)) => {
                inner.served(pass);
                return Ok(answer);
            }
            Ok(Err(failure)) => failure,
            Err(_elapsed) => {
                count(&inner.monitor.timeouts);
                let effect = if used.is_some() { effect } else { Effect::None };
                Failure::late(self.deadline, effect)
            }
        };
        Err(inner.failed(pass, failure, used))
    }
}

impl Inner {
    fn enter(&self) -> Result<Pass<'_>> {
        if self.shutdown.is_cancelled() {
            return Err(Error::closed("redis"));
        }
        self.breaker.enter().ok_or_else(|| {
            count(&self.monitor.refused);
            let error = Error::new(ErrorKind::Unavailable, "redis keeps failing: not asked");
            let error = error.temporary();
            match self.monitor.trouble() {
                Some((_, trouble)) => error.with_source(trouble),
                None => error,
            }
        })
    }

    /// A connection, and by which line: the next in turn that is up, else the one whose turn it
    /// is, awaited.
    async fn ticket(&self) -> Result<(&Line, Ticket)> {
        let first = self.turn.fetch_add(1, Relaxed) % self.lines.len();
        let (before, after) = self.lines.split_at(first);
        for line in after.iter().chain(before) {
            if let Some(ticket) = line.ready() {
                return Ok((line, ticket));
            }
        }
        let line = &self.lines[first];
        line.ticket().await.map(|ticket| (&**line, ticket))
    }

    fn served(&self, pass: Pass<'_>) {
        if pass.served() {
            self.monitor.came_back();
        }
    }

    fn failed(&self, pass: Pass<'_>, failure: Failure, used: Option<(&Line, u64)>) -> Error {
        count(&self.monitor.errors);
        if let (true, Some((line, generation))) = (failure.renew, used) {
            line.renew(generation);
        }
        if !failure.unhealthy {
            self.served(pass);
        } else if pass.failed() {
            count(&self.monitor.breaker_opened);
            self.monitor.went_down(&failure.error);
            // A connection on which nothing is answered any more never breaks by itself.
            self.lines.iter().for_each(|line| line.renew_present());
        }
        failure.error
    }
}

async fn send_script(
    mut link: Link,
    script: &Script,
    keys: &[RedisKey],
    args: &(impl ToRedisArgs + Sync),
) -> RedisResult<Value> {
    match script.by_digest(keys, args).query_async::<Value>(&mut link).await {
        Err(error) if is_unknown_script(&error) => {
            script.by_body(keys, args).query_async(&mut link).await
        }
        answer => answer,
    }
}

/// Sends a pipeline. If it ignores errors, and the first one tells of the server rather than of
/// the command, the server has refused them all.
pub(crate) async fn send_pipeline(mut link: Link, pipeline: &Pipeline) -> RedisResult<Value> {
    let answers = pipeline.query_async::<Value>(&mut link).await?;
    if let Value::Array(answers) = &answers
        && let Some(Value::ServerError(error)) = answers.first()
    {
        let error = RedisError::from(error.clone());
        let failure = Failure::of(&error, Effect::None);
        if failure.unhealthy || failure.renew {
            return Err(error);
        }
    }
    Ok(answers)
}

fn effect_of_cmd(cmd: &Cmd) -> Effect {
    match cmd.args_iter().next() {
        Some(redis::Arg::Simple(name)) => effect_of(name),
        _ => Effect::Possible,
    }
}

pub(crate) fn read<T: FromRedisValue>(value: Value) -> Result<T> {
    T::from_redis_value(value)
        .map_err(|error| Failure::of(&RedisError::from(error), Effect::None).error)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("topology", &format_args!("{}", self.options().topology))
            .field("namespace", &self.options().namespace)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
