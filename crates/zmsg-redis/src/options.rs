//! What a user says about a Redis.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use zmsg_core::{Error, Result};

use crate::Address;

/// How to reach a Redis, and how long to wait for it.
///
/// Made by [`from_url`](Self::from_url); the fields may be changed afterwards. `Debug` shows no
/// password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisOptions {
    /// One server, one found by sentinels, or a cluster.
    pub topology: Topology,
    /// Who the servers know us as; empty passwords and users mean none.
    pub login: Login,
    /// Who the sentinels know us as. Default: nobody.
    pub sentinel_login: Login,
    /// The numbered database. Default 0, the only one that a cluster has.
    pub database: u32,
    /// The first part of every key: what two engines on one Redis tell apart by. 1 to 64 letters,
    /// digits, `_`, `-` and `.`. Default "zmsg".
    pub namespace: String,
    /// How many connections all calls share. Default 2.
    pub connections: usize,
    /// How long making a connection may take, TLS and login included. Default 1 s, so that an
    /// attempt that hangs is over, and a better one made, within 2 s of the server's return.
    pub connect_timeout: Duration,
    /// How long a call may take, waiting for a connection included. Default 250 ms.
    pub deadline: Duration,
    /// When calls are refused at once.
    pub breaker: BreakerPolicy,
    /// What the certificate of a `rediss` server is checked against. Default: the roots of the
    /// system.
    pub certificates: Certificates,
    /// Where connections without TLS may go. Default: this machine.
    pub plaintext: Plaintext,
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Address),
    /// The server that the sentinels name as master of a group; asked anew for each connection.
    Sentinel {
        /// The sentinels; one that answers is enough.
        sentinels: Vec<Address>,
        /// The name of the group.
        master: String,
        /// Whether the master is reached by TLS. From a URL: as the sentinels are.
        tls: bool,
    },
    /// A Redis Cluster. A command whose connection broke under way may be carried out twice.
    Cluster(
        /// Nodes to ask for the others; one that answers is enough.
        Vec<Address>,
    ),
}

/// A user and a password, both optional.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The ACL user; Redis takes "default" if there is none.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
}

/// When calls are refused without asking Redis, because it failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// This many failures in a row open the breaker: time-outs, lost connections, and servers that
    /// say they cannot serve. Default 5.
    pub failures: u32,
    /// How long it stays open until one call is let through to try. It closes earlier when a
    /// new connection answers. Default 500 ms.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_millis(500) }
    }
}

/// What the certificate of a server is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificates {
    /// The certificate authorities that the system trusts.
    #[default]
    System,
    /// The authorities in this PEM file, and no others.
    File(PathBuf),
    /// Nothing: whoever can reach the network between may read and change everything.
    Unchecked,
}

/// Where connections without TLS may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintext {
    /// To this machine: loopback addresses and `localhost`.
    #[default]
    Loopback,
    /// Anywhere: passwords and data are readable on the way.
    Anywhere,
}

impl RedisOptions {
    pub(crate) fn new(topology: Topology) -> Self {
        Self {
            topology,
            login: Login::default(),
            sentinel_login: Login::default(),
            database: 0,
            namespace: "zmsg".to_owned(),
            connections: 2,
            connect_timeout: Duration::from_secs(1),
            deadline: Duration::from_millis(250),
            breaker: BreakerPolicy::default(),
            certificates: Certificates::default(),
            plaintext: Plaintext::default(),
        }
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// `InvalidConfig` naming the field.
    pub fn validate(&self) -> Result<()> {
        let addresses = self.topology.addresses();
        if addresses.is_empty() {
            return Err(wrong("topology", "an address is missing"));
        }
        addresses.iter().try_for_each(|address| self.permits(address))?;
        match &self.topology {
            Topology::Sentinel { master, .. } if master.is_empty() => {
                return Err(wrong("topology", "the sentinels need the name of a master"));
            }
            Topology::Cluster(_) if self.database != 0 => {
                return Err(wrong("database", "a cluster has only database 0"));
            }
            _ => {}
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.namespace.is_empty()
            || self.namespace.len() > 64
            || !self.namespace.chars().all(plain)
        {
            let text = "it has 1 to 64 letters, digits, underscores, hyphens and dots";
            return Err(wrong("namespace", text));
        }
        if self.connections == 0 || self.connections > 64 {
            return Err(wrong("connections", "from 1 to 64 of them can be shared"));
        }
        for (field, time) in [
            ("connect_timeout", self.connect_timeout),
            ("deadline", self.deadline),
            ("breaker.open_for", self.breaker.open_for),
        ] {
            if time < Duration::from_millis(1) {
                return Err(wrong(field, "a time must be at least one millisecond"));
            }
        }
        if self.breaker.failures == 0 {
            return Err(wrong("breaker.failures", "it must be at least one"));
        }
        Ok(())
    }

    /// Refuses to speak without TLS to where that is not allowed.
    pub(crate) fn permits(&self, address: &Address) -> Result<()> {
        if address.tls || self.plaintext == Plaintext::Anywhere || address.is_loopback() {
            return Ok(());
        }
        let text = "a connection without tls would leave this machine: use rediss, or allow it";
        Err(wrong("plaintext", text).with_context("address", address))
    }
}

fn wrong(field: &'static str, text: &'static str) -> Error {
    Error::invalid_config(text).with_context("field", format_args!("redis.{field}"))
}

impl Topology {
    /// The addresses that were given, not those that are found from there.
    pub fn addresses(&self) -> &[Address] {
        match self {
            Self::Single(address) => std::slice::from_ref(address),
            Self::Sentinel { sentinels, .. } => sentinels,
            Self::Cluster(nodes) => nodes,
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(_) => {}
            Self::Sentinel { master, .. } => write!(f, "master {master:?} of sentinels ")?,
            Self::Cluster(_) => write!(f, "cluster of ")?,
        }
        for (index, address) in self.addresses().iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
