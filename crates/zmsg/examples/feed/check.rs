//! Every total in the database against the application's own count.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value as Json;
use zmsg::{CloseReport, Row, Value, Zmsg, sql};

use crate::expected::{Conversation, Expected, User};

/// Waits until the task queue of a reopened engine has drained.
pub(crate) async fn drained(zmsg: &Zmsg) -> Result<()> {
    for _ in 0..6_000 {
        let Some(queue) = zmsg.stats().await.queue else { bail!("the queue cannot be asked") };
        if queue.pending + queue.leased == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the task queue did not drain within a minute")
}

/// Whether the tables hold nothing yet.
pub(crate) async fn is_empty(zmsg: &Zmsg) -> Result<bool> {
    let any = "SELECT 1 FROM messages UNION ALL SELECT 1 FROM users LIMIT 1";
    Ok(rows(zmsg, any).await?.is_empty())
}

/// Everything that differs.
pub(crate) async fn differences(
    zmsg: &Zmsg,
    expected: &Expected,
    closed: &CloseReport,
) -> Result<Vec<String>> {
    let mut differences = expected.wrong_reads.clone();
    if !closed.is_clean() {
        differences.push(format!("close left something behind: {closed:?}"));
    }
    differences.extend(of_tables(zmsg, expected).await?);
    let sent: i64 = expected.users.values().map(|user| user.sent).sum();
    let kept = (expected.messages.len() + expected.deleted.len()) as i64;
    if sent != kept {
        differences.push(format!("the application counted {sent} sent and {kept} messages"));
    }
    Ok(differences)
}

/// What differs in the tables, also while messages are only half counted; and the dead letters.
pub(crate) async fn of_tables(zmsg: &Zmsg, expected: &Expected) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for dead in zmsg.dead_letters().list(10).await? {
        differences.push(format!("dead letter {}: {} ({})", dead.id, dead.summary, dead.cause));
    }
    let found = tables(zmsg).await?;
    compare("user", &found.users, &expected.users, &mut differences);
    compare("conversation", &found.conversations, &expected.conversations, &mut differences);
    compare("message", &found.messages, &expected.messages, &mut differences);
    Ok(differences)
}

/// Everything in the tables.
pub(crate) async fn tables(zmsg: &Zmsg) -> Result<Expected> {
    let (users, conversations) = (users(zmsg).await?, conversations(zmsg).await?);
    let messages = messages(zmsg).await?;
    Ok(Expected { users, conversations, messages, ..Expected::default() })
}

/// Names the first differences.
pub(crate) fn show(differences: &[String]) {
    for difference in differences.iter().take(20) {
        eprintln!("difference: {difference}");
    }
}

fn compare<K: Ord + std::fmt::Display, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    differences: &mut Vec<String>,
) {
    for (key, wanted) in expected {
        match found.get(key) {
            Some(value) if value == wanted => {}
            Some(value) => differences.push(format!("{what} {key}: {value:?}, not {wanted:?}")),
            None => differences.push(format!("{what} {key} is missing")),
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(key)) {
        differences.push(format!("{what} {key} should not exist"));
    }
}

async fn rows(zmsg: &Zmsg, query: &str) -> Result<Vec<Row>> {
    Ok(zmsg.sql_exec(sql(query, ())).await?.rows)
}

async fn users(zmsg: &Zmsg) -> Result<BTreeMap<u32, User>> {
    let mut found = BTreeMap::new();
    for row in rows(zmsg, "SELECT id, sent, received, unread FROM users").await? {
        let user = User { sent: row.int(1)?, received: row.int(2)?, unread: row.int(3)? };
        found.insert(u32::try_from(row.int(0)?)?, user);
    }
    Ok(found)
}

async fn conversations(zmsg: &Zmsg) -> Result<BTreeMap<String, Conversation>> {
    let mut found = BTreeMap::new();
    for row in rows(zmsg, "SELECT id, messages, participants, last FROM conversations").await? {
        // Both are absent in a row of which a kill left only the counter.
        let participants: Option<Vec<u32>> = serde_json::from_value(json(row.at(2)?)?)?;
        let last = json(row.at(3)?)?;
        let conversation = Conversation {
            messages: row.int(1)?,
            participants: participants.unwrap_or_default(),
            last_id: last["id"].as_str().unwrap_or_default().to_owned(),
            last_at: last["at"].as_i64().unwrap_or_default(),
        };
        found.insert(row.text(0)?.to_owned(), conversation);
    }
    Ok(found)
}

async fn messages(zmsg: &Zmsg) -> Result<BTreeMap<String, bool>> {
    let mut found = BTreeMap::new();
    for row in rows(zmsg, "SELECT id, read FROM messages").await? {
        found.insert(row.text(0)?.to_owned(), row.int(1)? == 1);
    }
    Ok(found)
}

/// JSON comes as text from SQLite and typed from PostgreSQL.
fn json(value: &Value) -> Result<Json> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Json(json) => json.clone(),
        Value::Text(text) => serde_json::from_str(text)?,
        other => bail!("a JSON column holds {other:?}"),
    })
}
