//! What an answer of Redis, or its absence, means to a caller.

use std::time::Duration;

use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind as Server};
use zmsg_core::{Error, ErrorKind};

/// Whether the commands that failed could have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They only read.
    None,
    /// They may have written.
    Possible,
}

/// A failed call: what the caller is told, and what it says about the server.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The server cannot serve at all: counts for the breaker.
    pub(crate) unhealthy: bool,
    /// The connection leads to the wrong server, or nowhere.
    pub(crate) renew: bool,
}

impl Failure {
    /// The call was never sent.
    pub(crate) fn unsent(error: Error) -> Self {
        Self { error, unhealthy: true, renew: false }
    }

    /// The call was sent, and no answer came in time.
    pub(crate) fn late(deadline: Duration, effect: Effect) -> Self {
        let error = Error::new(ErrorKind::Timeout, "redis did not answer in time")
            .with_context("deadline", format_args!("{deadline:?}"));
        Self { error: sent(error, effect), unhealthy: true, renew: false }
    }

    /// Redis, or the connection, failed the call.
    pub(crate) fn of(cause: &RedisError, effect: Effect) -> Self {
        let says = cause.detail().unwrap_or_default();
        match cause.kind() {
            RedisKind::Io if cause.is_timeout() => {
                let error = Error::new(ErrorKind::Timeout, "redis did not answer in time");
                Self::unhealthy(sent(error.with_source(cause.clone()), effect)).renewed()
            }
            RedisKind::Io => {
                let error = Error::new(ErrorKind::Unavailable, "the connection to redis was lost");
                Self::unhealthy(sent(error.with_source(cause.clone()), effect)).renewed()
            }
            RedisKind::Server(kind) => Self::refused(kind, cause, says),
            RedisKind::Extension => Self::refused_with(&code_of(cause), cause),
            RedisKind::AuthenticationFailed => Self::healthy(no_access(cause)),
            RedisKind::RESP3NotSupported => {
                let text = "the server is older than redis 6.0";
                Self::healthy(because(ErrorKind::Unsupported, text, cause))
            }
            RedisKind::ClusterConnectionNotFound
            | RedisKind::MasterNameNotFoundBySentinel
            | RedisKind::NoValidReplicasFoundBySentinel => {
                let text = "no redis server was found that serves this";
                Self::unhealthy(because(ErrorKind::Unavailable, text, cause).temporary())
            }
            RedisKind::Parse | RedisKind::UnexpectedReturnType => Self::healthy(because(
                ErrorKind::Unexpected,
                "redis answered something else",
                cause,
            )),
            _ => Self::healthy(because(ErrorKind::Unexpected, "a call to redis failed", cause)),
        }
    }

    fn refused(kind: Server, cause: &RedisError, says: &str) -> Self {
        let unavailable = |text| because(ErrorKind::Unavailable, text, cause).temporary();
        match kind {
            Server::BusyLoading => Self::unhealthy(unavailable("redis is loading its data")),
            Server::MasterDown => Self::unhealthy(unavailable("the replica has lost its master")),
            Server::ClusterDown => Self::unhealthy(unavailable("the redis cluster is down")),
            Server::Moved | Server::Ask | Server::TryAgain => {
                Self::healthy(unavailable("the key is on its way to another node"))
            }
            Server::ReadOnly => {
                Self::healthy(unavailable("the server is a replica and takes no writes")).renewed()
            }
            Server::NoPerm => Self::healthy(no_access(cause)),
            Server::CrossSlot => {
                let text = "the keys of one call are on several nodes";
                Self::healthy(because(ErrorKind::InvalidInput, text, cause))
            }
            Server::ResponseError if is_no_access_in_script(says) => {
                Self::healthy(no_access(cause))
            }
            // What a script meets comes wrapped from servers before 7.0.
            Server::ResponseError if says.contains("Error running script") => {
                let codes = ["OOM", "READONLY", "WRONGTYPE", "MISCONF", "NOREPLICAS"];
                let code = codes.into_iter().find(|code| says.contains(code));
                Self::refused_with(code.unwrap_or("ERR"), cause)
            }
            _ => Self::healthy(because(ErrorKind::Unexpected, "redis refused a call", cause)),
        }
    }

    fn refused_with(code: &str, cause: &RedisError) -> Self {
        let unavailable = |text| because(ErrorKind::Unavailable, text, cause).temporary();
        match code {
            "OOM" => {
                let text = "redis is out of memory: raise maxmemory, or let it evict";
                Self::healthy(because(ErrorKind::Overloaded, text, cause).temporary())
            }
            "READONLY" => {
                Self::healthy(unavailable("the server is a replica and takes no writes")).renewed()
            }
            "MISCONF" => Self::healthy(unavailable("redis cannot save and takes no writes")),
            "NOREPLICAS" => Self::healthy(unavailable("redis has too few replicas to write")),
            "BUSY" => Self::unhealthy(unavailable("redis is busy with a script")),
            "WRONGTYPE" => {
                let text = "a key holds something that zmsg did not put there";
                Self::healthy(because(ErrorKind::Corrupted, text, cause))
            }
            "NOAUTH" | "WRONGPASS" => Self::healthy(no_access(cause)),
            _ => Self::healthy(because(ErrorKind::Unexpected, "redis refused a call", cause)),
        }
    }

    fn healthy(error: Error) -> Self {
        Self { error, unhealthy: false, renew: false }
    }

    fn unhealthy(error: Error) -> Self {
        Self { error, unhealthy: true, renew: false }
    }

    fn renewed(self) -> Self {
        Self { renew: true, ..self }
    }
}

/// True if a script did what its user may not do: by the words of servers from 7.0 on, and before.
fn is_no_access_in_script(says: &str) -> bool {
    says.contains("ACL failure in script") || says.contains("The user executing the script can't")
}

/// True if the server has not seen the script yet.
pub(crate) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == RedisKind::Server(Server::NoScript)
}

/// The code of a refusal; of a pipeline, that of the first command that was refused.
fn code_of(cause: &RedisError) -> String {
    let code = cause.code().map(str::to_owned);
    let first = || Some(cause.clone().into_server_errors()?.first()?.1.code().to_owned());
    code.or_else(first).unwrap_or_default()
}

fn because(kind: ErrorKind, text: &'static str, cause: &RedisError) -> Error {
    Error::new(kind, text).with_source(cause.clone())
}

fn no_access(cause: &RedisError) -> Error {
    because(ErrorKind::InvalidConfig, "redis refuses this user", cause)
}

fn sent(error: Error, effect: Effect) -> Error {
    match effect {
        Effect::None => error.temporary(),
        Effect::Possible => error.outcome_unknown(),
    }
}

/// What a command may have done when its answer was lost. One that is not known counts as a write.
pub(crate) fn effect_of(name: &[u8]) -> Effect {
    const READS: [&str; 26] = [
        "GET",
        "MGET",
        "EXISTS",
        "TTL",
        "PTTL",
        "STRLEN",
        "GETRANGE",
        "GETBIT",
        "BITCOUNT",
        "BITFIELD_RO",
        "HGET",
        "HMGET",
        "HGETALL",
        "HLEN",
        "LLEN",
        "LRANGE",
        "SCARD",
        "SISMEMBER",
        "ZCARD",
        "ZSCORE",
        "XLEN",
        "TYPE",
        "PING",
        "TIME",
        "INFO",
        "ROLE",
    ];
    let reads = READS.iter().any(|read| read.as_bytes().eq_ignore_ascii_case(name));
    if reads { Effect::None } else { Effect::Possible }
}

#[cfg(test)]
mod tests {
    use std::io;

    use zmsg_core::ErrorStatus;

    use super::*;

    /// The error that a client makes of an answer.
    fn answer(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn each_refusal_has_its_kind_status_and_consequence() {
        use ErrorKind::{Corrupted, InvalidConfig, InvalidInput, Overloaded, Unavailable};
        use ErrorStatus::{Permanent, Temporary};
        for (line, kind, status, unhealthy, renew) in [
            ("LOADING Redis is loading the dataset", Unavailable, Temporary, true, false),
            ("MASTERDOWN Link with MASTER is down", Unavailable, Temporary, true, false),
            ("CLUSTERDOWN The cluster is down", Unavailable, Temporary, true, false),
            ("BUSY Redis is busy running a script", Unavailable, Temporary, true, false),
            ("TRYAGAIN Multiple keys request", Unavailable, Temporary, false, false),
            ("MOVED 3999 127.0.0.1:6381", Unavailable, Temporary, false, false),
            ("ASK 3999 127.0.0.1:6381", Unavailable, Temporary, false, false),
            ("READONLY You can't write", Unavailable, Temporary, false, true),
            ("MISCONF Redis is configured to save", Unavailable, Temporary, false, false),
            ("NOREPLICAS Not enough good replicas", Unavailable, Temporary, false, false),
            ("OOM command not allowed", Overloaded, Temporary, false, false),
            ("WRONGTYPE Operation against a key", Corrupted, Permanent, false, false),
            ("CROSSSLOT Keys in request", InvalidInput, Permanent, false, false),
            ("NOPERM this user has no permissions", InvalidConfig, Permanent, false, false),
            ("NOAUTH Authentication required.", InvalidConfig, Permanent, false, false),
            (
                "ERR Error running script (call to f_1): @user_script:1: OOM command not allowed",
                Overloaded,
                Temporary,
                false,
                false,
            ),
            (
                "ERR ACL failure in script: User w has no permissions to run the 'zadd' command",
                InvalidConfig,
                Permanent,
                false,
                false,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:1: The user executing the \
                 script can't run this command or subcommand",
                InvalidConfig,
                Permanent,
                false,
                false,
            ),
            ("ERR unknown command", ErrorKind::Unexpected, Permanent, false, false),
        ] {
            let failure = Failure::of(&answer(line), Effect::Possible);
            assert_eq!((failure.error.kind(), failure.error.status()), (kind, status), "{line}");
            assert_eq!((failure.unhealthy, failure.renew), (unhealthy, renew), "{line}");
        }
    }

    #[test]
    fn a_write_whose_answer_was_lost_may_have_happened() {
        let lost = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        let failure = Failure::of(&lost, effect_of(b"set"));
        assert!(failure.error.is_outcome_unknown() && failure.renew && failure.unhealthy);
        let failure = Failure::of(&lost, effect_of(b"get"));
        assert!(failure.error.is_temporary());
        let failure = Failure::late(Duration::from_millis(1), effect_of(b"EVALSHA"));
        assert!(failure.error.is_outcome_unknown());
    }
}
