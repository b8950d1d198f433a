//! What the servers of a benchmark are, and how they are set.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::{Config, NoTls};

/// Settings of PostgreSQL that decide how fast it commits and what it keeps in memory.
const SETTINGS: [&str; 5] =
    ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_connections"];

/// Of both servers.
///
/// # Errors
/// If PostgreSQL does not answer.
pub(super) fn of(postgres: &str, redis: &str) -> Result<Vec<(String, String)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let postgres = runtime.block_on(of_postgres(postgres)).context("PostgreSQL does not answer")?;
    let redis = of_redis(redis).unwrap_or_else(|| "unknown".to_owned());
    Ok(vec![("PostgreSQL".to_owned(), postgres), ("Redis".to_owned(), redis)])
}

async fn of_postgres(url: &str) -> Result<String> {
    let config: Config = url.parse()?;
    let (client, connection) = config.connect(NoTls).await?;
    // It runs while the queries are waited for, which is all that it is for.
    tokio::runtime::Handle::current().spawn(connection);
    let show = async |name: &str| -> Result<String> {
        Ok(client.query_one(&format!("SHOW {name}"), &[]).await?.get(0))
    };
    let mut text = show("server_version").await?;
    for name in SETTINGS {
        text += &format!(", {name} = {}", show(name).await?);
    }
    Ok(text)
}

/// Its version and how it saves, if it can be asked in the clear.
fn of_redis(url: &str) -> Option<String> {
    let (login, place) = url
        .strip_prefix("redis://")?
        .rsplit_once('@')
        .unwrap_or(("", url.strip_prefix("redis://")?));
    let mut stream = TcpStream::connect(place.split('/').next()?).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    if let Some((_, password)) = login.split_once(':') {
        write!(stream, "AUTH {password}\r\n").ok()?;
    }
    write!(stream, "INFO\r\nQUIT\r\n").ok()?;
    let lines: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
    let (version, log) = (value("redis_version:")?, value("aof_enabled:")?);
    Some(format!("{version}, appendonly = {}", if log == "1" { "yes" } else { "no" }))
}
