//! A connection to PostgreSQL for those who may wait: opened when it is needed, and anew when it
//! broke.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How long a statement of ours may take.
const BOUND: Duration = Duration::from_secs(20);

/// A connection that is closed with the value.
#[derive(Debug)]
pub(super) struct Sql {
    runtime: Runtime,
    url: String,
    client: Option<Client>,
}

impl Sql {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// If there can be no runtime.
    pub(super) fn at(url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, url: url.to_owned(), client: None })
    }

    /// Runs statements.
    ///
    /// # Errors
    /// If one fails or takes too long. The connection is then closed, its transaction with it.
    pub(super) fn run(&mut self, statements: &str) -> Result<()> {
        self.messages(statements).map(drop)
    }

    /// The number that a query gives.
    ///
    /// # Errors
    /// As [`run`](Self::run); and if it gives none.
    pub(super) fn number(&mut self, query: &str) -> Result<u64> {
        let messages = self.messages(query)?;
        let first = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let text = first.with_context(|| format!("`{query}` gives nothing"))?;
        text.parse().with_context(|| format!("`{query}` gives {text:?}"))
    }

    fn messages(&mut self, statements: &str) -> Result<Vec<SimpleQueryMessage>> {
        let Self { runtime, url, client } = self;
        let taken = client.take();
        let ask = async {
            let client = match taken {
                Some(client) if !client.is_closed() => client,
                _ => connect(url).await?,
            };
            let messages = client.simple_query(statements).await?;
            Ok::<_, tokio_postgres::Error>((client, messages))
        };
        let answered = runtime.block_on(async { timeout(BOUND, ask).await });
        match answered {
            Ok(Ok((used, messages))) => {
                *client = Some(used);
                Ok(messages)
            }
            Ok(Err(error)) => {
                Err(anyhow::Error::from(error).context(format!("`{statements}` failed")))
            }
            Err(_) => bail!("`{statements}` took longer than {BOUND:?}"),
        }
    }
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: Config = url.parse()?;
    config.application_name("faults").connect_timeout(Duration::from_secs(5));
    let (client, connection) = config.connect(NoTls).await?;
    // It runs while a statement is waited for, which is all that it is for.
    tokio::runtime::Handle::current().spawn(connection);
    Ok(client)
}
