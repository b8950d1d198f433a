//! Finding the master that sentinels watch over.

use std::sync::Arc;

use futures_util::future::select_ok;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use zmsg_core::{Error, ErrorKind, Result};

use crate::Address;
use crate::connector::{Connector, Server};
use crate::failure::{Effect, Failure};

/// Asks all sentinels at once, and connects to the first server named that is a master by its own
/// account: a sentinel that was cut off may still name the old one.
pub(crate) async fn connect(
    connector: &Connector,
    sentinels: &[Address],
    master: &str,
    tls: bool,
    lost: Option<Arc<Notify>>,
) -> Result<MultiplexedConnection> {
    let asked = sentinels.iter().map(|sentinel| {
        let lost = lost.clone();
        Box::pin(async move {
            let address = master_by(connector, sentinel, master, tls).await?;
            connect_master(connector, &address, lost).await
        })
    });
    select_ok(asked).await.map(|(connection, _others)| connection)
}

/// Where that master is.
pub(crate) async fn find(
    connector: &Connector,
    sentinels: &[Address],
    master: &str,
    tls: bool,
) -> Result<Address> {
    let asked = sentinels.iter().map(|sentinel| {
        Box::pin(async move {
            let address = master_by(connector, sentinel, master, tls).await?;
            connect_master(connector, &address, None).await.map(|_| address)
        })
    });
    select_ok(asked).await.map(|(address, _others)| address)
}

async fn master_by(
    connector: &Connector,
    sentinel: &Address,
    master: &str,
    tls: bool,
) -> Result<Address> {
    let server = Server { address: sentinel, login: &connector.options().sentinel_login };
    let mut connection = connector.connect_to(server, 0, None).await?;
    let found: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(master)
        .query_async(&mut connection)
        .await
        .map_err(|error| failed(&error).with_context("sentinel", sentinel))?;
    let (host, port) = found.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "the sentinel knows no master of this name")
            .temporary()
            .with_context("sentinel", sentinel)
            .with_context("master", format_args!("{master:?}"))
    })?;
    Ok(Address { host, port, tls })
}

async fn connect_master(
    connector: &Connector,
    address: &Address,
    lost: Option<Arc<Notify>>,
) -> Result<MultiplexedConnection> {
    let options = connector.options();
    let server = Server { address, login: &options.login };
    let mut connection = connector.connect_to(server, options.database, lost).await?;
    let role: Vec<Value> = redis::cmd("ROLE")
        .query_async(&mut connection)
        .await
        .map_err(|error| failed(&error).with_context("redis", address))?;
    let is_master = match role.first() {
        Some(Value::BulkString(name)) => name == b"master",
        Some(Value::SimpleString(name)) => name == "master",
        _ => false,
    };
    if is_master {
        return Ok(connection);
    }
    Err(Error::new(ErrorKind::Unavailable, "the server that a sentinel named is no master")
        .temporary()
        .with_context("redis", address))
}

fn failed(error: &redis::RedisError) -> Error {
    Failure::of(error, Effect::None).error
}
