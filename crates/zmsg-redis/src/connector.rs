//! Making connections.

use std::fmt;
use std::sync::Arc;

use futures_util::future::select_ok;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    TlsCertificates, Value,
};
use secrecy::ExposeSecret;
use tokio::sync::Notify;
use tokio::time::timeout;
use zmsg_core::{Error, ErrorKind, Result};

use crate::failure::{Effect, Failure};
use crate::history::{self, Present};
use crate::options::{Certificates, Login, RedisOptions, Topology};
use crate::{Address, sentinel};

/// A connection that many calls share. Cloning it is cheap.
#[derive(Clone)]
pub enum Link {
    /// To one server.
    Server(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

/// Where to connect, and as whom.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) address: &'a Address,
    pub(crate) login: &'a Login,
}

/// Makes connections to the servers that the options name, looking for the master where there
/// are sentinels.
///
/// It is a `bb8` manager, for pools of connections that are not shared because commands block on
/// them; [`Redis::connector`](crate::Redis::connector) gives one. The manager of `bb8-redis`
/// itself has a fixed answer time-out of 500 ms, leaves Nagle's algorithm on, and does not notice
/// that a connection was lost.
#[derive(Clone)]
pub struct Connector {
    options: Arc<RedisOptions>,
    /// The PEM text of the authorities to trust in place of the system's.
    authorities: Option<Arc<[u8]>>,
}

impl Connector {
    /// Checks the options, and reads the file with certificates.
    pub(crate) fn new(options: RedisOptions) -> Result<Self> {
        options.validate()?;
        let authorities = match &options.certificates {
            Certificates::File(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    Error::invalid_config("the file with certificate authorities is not readable")
                        .with_context("file", path.display())
                        .with_source(error)
                })?;
                Some(pem.into())
            }
            Certificates::System | Certificates::Unchecked => None,
        };
        let connector = Self { options: Arc::new(options), authorities };
        if connector.speaks_tls() {
            // A process that already chose one keeps its own. Without any choice rustls panics
            // where other crates have enabled a second provider.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        for address in connector.options.topology.addresses() {
            connector.info(address, &connector.options.login, 0)?;
        }
        Ok(connector)
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    fn speaks_tls(&self) -> bool {
        let topology = &self.options.topology;
        topology.addresses().iter().any(|address| address.tls)
            || matches!(topology, Topology::Sentinel { tls: true, .. })
    }

    /// Makes a connection, sees it answer, and learns in which history the server is. `lost` is told
    /// when it breaks.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub(crate) async fn open(&self, lost: Option<Arc<Notify>>) -> Result<(Link, Option<Present>)> {
        let options = &self.options;
        let opened = timeout(options.connect_timeout, self.connect_anywhere(lost)).await;
        let mut link = opened.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "connecting to redis took too long").temporary())
        })?;
        // A server that accepts connections may still be loading, or be too slow to be of use.
        match timeout(options.deadline, history::ask(&mut link)).await {
            Ok(present) => Ok((link, present?)),
            Err(_) => Err(Failure::late(options.deadline, Effect::None).error),
        }
    }

    async fn connect_anywhere(&self, lost: Option<Arc<Notify>>) -> Result<Link> {
        match &self.options.topology {
            Topology::Single(address) => {
                let server = Server { address, login: &self.options.login };
                self.connect_to(server, self.options.database, lost).await.map(Link::Server)
            }
            Topology::Sentinel { sentinels, master, tls } => {
                sentinel::connect(self, sentinels, master, *tls, lost).await.map(Link::Server)
            }
            Topology::Cluster(nodes) => self.connect_cluster(nodes).await.map(Link::Cluster),
        }
    }

    /// Connects to one server.
    pub(crate) async fn connect_to(
        &self,
        Server { address, login }: Server<'_>,
        database: u32,
        lost: Option<Arc<Notify>>,
    ) -> Result<MultiplexedConnection> {
        self.options.permits(address)?;
        let client = Client::open(self.info(address, login, database)?)
            .map_err(|error| unreachable_at(address, &error))?;
        // The caller has the deadline: a call may wait for its connection, and be answered late.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(self.options.connect_timeout));
        if let Some(lost) = lost {
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), ()> {
                if push.kind == PushKind::Disconnection {
                    lost.notify_one();
                }
                Ok(())
            });
        }
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| unreachable_at(address, &error))
    }

    /// A connection to listen by, to the master or to any node of a cluster.
    pub(crate) async fn listen(&self) -> Result<PubSub> {
        match &self.options.topology {
            Topology::Single(address) => self.listen_at(address).await,
            Topology::Sentinel { sentinels, master, tls } => {
                self.listen_at(&sentinel::find(self, sentinels, master, *tls).await?).await
            }
            Topology::Cluster(nodes) => {
                let all = nodes.iter().map(|node| Box::pin(self.listen_at(node)));
                select_ok(all).await.map(|(connection, _others)| connection)
            }
        }
    }

    async fn listen_at(&self, address: &Address) -> Result<PubSub> {
        self.options.permits(address)?;
        let info = self.info(address, &self.options.login, 0)?;
        let unreachable = |error| unreachable_at(address, &error);
        let client = Client::open(info).map_err(unreachable)?;
        client.get_async_pubsub().await.map_err(unreachable)
    }

    async fn connect_cluster(&self, nodes: &[Address]) -> Result<ClusterConnection> {
        let options = &self.options;
        let infos = nodes.iter().map(|node| self.info(node, &options.login, 0));
        let mut builder = ClusterClient::builder(infos.collect::<Result<Vec<_>>>()?)
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp_settings())
            .connection_timeout(options.connect_timeout)
            // A node that is stuck has to be noticed before the caller gives up on it.
            .response_timeout(options.deadline.mul_f32(0.75))
            .overall_response_timeout(None)
            .retries(3)
            .min_retry_wait(5)
            .max_retry_wait(50);
        if let Some(name) = &options.login.username {
            builder = builder.username(name);
        }
        if let Some(password) = &options.login.password {
            builder = builder.password(password.expose_secret());
        }
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        let unreachable = |error| unreachable_at(&options.topology, &error);
        let client = builder.build().map_err(unreachable)?;
        client.get_async_connection().await.map_err(unreachable)
    }

    /// What the client crate wants to know about a server.
    fn info(&self, address: &Address, login: &Login, database: u32) -> Result<ConnectionInfo> {
        let mut redis = RedisConnectionInfo::default()
            .set_db(i64::from(database))
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("zmsg", env!("CARGO_PKG_VERSION"));
        if let Some(name) = &login.username {
            redis = redis.set_username(name);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password.expose_secret());
        }
        let (host, port) = (address.host.clone(), address.port);
        let insecure = self.options.certificates == Certificates::Unchecked;
        let at = if address.tls {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let invalid = |error: RedisError| {
            Error::invalid_config("redis cannot be reached with these options").with_source(error)
        };
        let info = at.into_connection_info().map_err(invalid)?;
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp_settings());
        match self.certificates().filter(|_| address.tls) {
            Some(certificates) => Client::build_with_tls(info, certificates)
                .map(|client| client.get_connection_info().clone())
                .map_err(invalid),
            None => Ok(info),
        }
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let authorities = self.authorities.as_ref()?;
        Some(TlsCertificates { client_tls: None, root_cert: Some(authorities.to_vec()) })
    }
}

/// Without Nagle's algorithm: a command is small, and waits for nothing.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

pub(crate) async fn ping(link: &mut Link) -> RedisResult<()> {
    redis::cmd("PING").query_async::<Value>(link).await.map(drop)
}

fn unreachable_at(place: &dyn fmt::Display, cause: &RedisError) -> Error {
    Failure::of(cause, Effect::None).error.with_context("redis", place)
}

impl bb8::ManageConnection for Connector {
    type Connection = Link;
    type Error = Error;

    async fn connect(&self) -> Result<Link> {
        self.open(None).await.map(|(link, _)| link)
    }

    async fn is_valid(&self, link: &mut Link) -> Result<()> {
        ping(link).await.map_err(|error| Failure::of(&error, Effect::None).error)
    }

    fn has_broken(&self, _: &mut Link) -> bool {
        false
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}
