//! One URL for every topology.

use zmsg_core::{Error, Result};

use crate::Address;
use crate::options::{Login, RedisOptions, Topology};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl RedisOptions {
    /// Reads a URL; everything that it does not say has its default.
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, or `rediss` for TLS
    /// - `redis+sentinel://[user[:password]@]host[:port],host[:port]/master[/database]`
    /// - `redis+cluster://[user[:password]@]host[:port],host[:port]`
    ///
    /// `rediss+sentinel` and `rediss+cluster` speak TLS to all servers. User and password are
    /// those of the data servers, percent-encoded where they contain `@:/?#%`.
    ///
    /// # Errors
    /// `InvalidConfig` that says what is wrong, without the URL, which may contain a password.
    ///
    /// ```
    /// use zmsg_redis::RedisOptions;
    ///
    /// let options = RedisOptions::from_url("redis://:secret@127.0.0.1:6379/1").unwrap();
    /// assert_eq!(options.topology.to_string(), "127.0.0.1:6379");
    /// assert!(!format!("{options:?}").contains("secret"));
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (secure, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or_else(unknown_scheme)?),
        };
        if rest.contains(['?', '#']) {
            return Err(wrong("parameters are not known: use the other options"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (read_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let port = if kind == "+sentinel" { SENTINEL_PORT } else { PORT };
        let addresses = hosts.split(',').map(|host| read_address(host, port, secure));
        let mut addresses = addresses.collect::<Result<Vec<_>>>()?;
        let (topology, database) = match (kind, addresses.len()) {
            ("", 1) => (Topology::Single(addresses.remove(0)), path),
            ("", _) => {
                return Err(wrong("several hosts need redis+sentinel or redis+cluster"));
            }
            ("+sentinel", _) => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                let master = decode(master)?;
                if master.is_empty() {
                    return Err(wrong("the name of the master is missing after the hosts"));
                }
                (Topology::Sentinel { sentinels: addresses, master, tls: secure }, database)
            }
            ("+cluster", _) => (Topology::Cluster(addresses), path),
            _ => return Err(unknown_scheme()),
        };
        let database = match database {
            "" => 0,
            digits => digits.parse().map_err(|_| wrong("the database is not a number"))?,
        };
        Ok(Self { login, database, ..Self::new(topology) })
    }
}

fn read_login(text: &str) -> Result<Login> {
    let (username, password) = match text.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (text, None),
    };
    let username = Some(decode(username)?).filter(|name| !name.is_empty());
    let password = password.map(decode).transpose()?.filter(|password| !password.is_empty());
    Ok(Login { username, password: password.map(Into::into) })
}

fn read_address(text: &str, default_port: u16, tls: bool) -> Result<Address> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
        (host, port)
    } else {
        text.find(':').map_or((text, ""), |colon| text.split_at(colon))
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().map_err(|_| wrong("a port is not a number up to 65535"))?,
        None if port.is_empty() => default_port,
        None => return Err(wrong("there is something between a host and its port")),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong("a host is missing"));
    }
    Ok(Address { host: host.to_owned(), port, tls })
}

fn decode(text: &str) -> Result<String> {
    let malformed = || wrong("a percent sign is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next(), rest.next()];
            let [Some(high), Some(low)] = digits.map(|d| char::from(d?).to_digit(16)) else {
                return Err(malformed());
            };
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("a percent-encoded part is not utf-8"))
}

fn unknown_scheme() -> Error {
    wrong("its scheme is none of redis, redis+sentinel, redis+cluster, or these with rediss")
}

fn wrong(text: &'static str) -> Error {
    Error::invalid_config(text).with_context("field", "redis.url")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn address(host: &str, port: u16, tls: bool) -> Address {
        Address { host: host.to_owned(), port, tls }
    }

    #[test]
    fn a_single_server_is_read() {
        let options = RedisOptions::from_url("redis://127.0.0.1/").unwrap();
        assert_eq!(options.topology, Topology::Single(address("127.0.0.1", 6379, false)));
        assert_eq!(options.database, 0);
        let options = RedisOptions::from_url("rediss://ann:p%40ss%2Fw%C3%B6@[::1]:7000/3").unwrap();
        assert_eq!(options.topology, Topology::Single(address("::1", 7000, true)));
        assert_eq!(options.database, 3);
        assert_eq!(options.login.username.as_deref(), Some("ann"));
        assert_eq!(options.login.password.unwrap().expose_secret(), "p@ss/wö");
    }

    #[test]
    fn sentinels_and_clusters_are_read() {
        let options = RedisOptions::from_url("redis+sentinel://:pw@a,b:1,[::1]/group/2").unwrap();
        let sentinels =
            vec![address("a", 26379, false), address("b", 1, false), address("::1", 26379, false)];
        let topology = Topology::Sentinel { sentinels, master: "group".to_owned(), tls: false };
        assert_eq!(options.topology, topology);
        assert_eq!(options.database, 2);
        assert!(options.login.username.is_none() && options.login.password.is_some());
        let options = RedisOptions::from_url("rediss+cluster://a,b:7001").unwrap();
        let nodes = vec![address("a", 6379, true), address("b", 7001, true)];
        assert_eq!(options.topology, Topology::Cluster(nodes));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, says) in [
            ("127.0.0.1:6379", "scheme"),
            ("http://:hunter2@a", "scheme"),
            ("redis+other://:hunter2@a", "scheme"),
            ("redis://:hunter2@", "host"),
            ("redis://:hunter2@a:b", "port"),
            ("redis://:hunter2@a:70000", "port"),
            ("redis://:hunter2@[::1", "bracket"),
            ("redis://:hunter2@[::1]x", "between"),
            ("redis://:hunter2%@a", "percent"),
            ("redis://:hunter2%ff@a", "utf-8"),
            ("redis://:hunter2@a,b", "several"),
            ("redis://:hunter2@a/x", "database"),
            ("redis://:hunter2@a/0?protocol=resp3", "parameters"),
            ("rediss://:hunter2@a/#insecure", "parameters"),
            ("redis+sentinel://:hunter2@a", "master"),
        ] {
            let error = RedisOptions::from_url(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn plaintext_stays_on_this_machine_unless_allowed() {
        use crate::options::Plaintext;
        let mut options = RedisOptions::from_url("redis+cluster://127.0.0.1,10.0.0.1").unwrap();
        let error = options.validate().unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:6379") && error.contains("redis.plaintext"), "{error}");
        options.plaintext = Plaintext::Anywhere;
        options.validate().unwrap();
        RedisOptions::from_url("rediss://10.0.0.1").unwrap().validate().unwrap();
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        type Spoil = fn(&mut RedisOptions);
        let cases: [(Spoil, &str); 6] = [
            (|o| o.namespace = "a:b".to_owned(), "namespace"),
            (|o| o.namespace = String::new(), "namespace"),
            (|o| o.connections = 0, "connections"),
            (|o| o.deadline = std::time::Duration::ZERO, "deadline"),
            (|o| o.breaker.failures = 0, "breaker.failures"),
            (|o| o.topology = Topology::Cluster(vec![]), "topology"),
        ];
        for (spoil, field) in cases {
            let mut options = RedisOptions::from_url("redis://localhost").unwrap();
            spoil(&mut options);
            let error = options.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("redis.{field}")), "{error}");
        }
        let cluster = RedisOptions::from_url("redis+cluster://localhost/1").unwrap();
        assert!(cluster.validate().unwrap_err().to_string().contains("redis.database"));
    }
}
