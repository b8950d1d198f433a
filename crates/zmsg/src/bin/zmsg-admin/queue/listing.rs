//! Queues and tasks as text and as JSON.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Value, json};
use zmsg::core::UnixMillis;
use zmsg::queue::{QueueSummary, Stage, TaskInfo};

const HEADS: [&str; 12] = [
    "QUEUE",
    "PENDING",
    "SCHEDULED",
    "AGGREGATING",
    "RETRY",
    "ACTIVE",
    "DEAD",
    "COMPLETED",
    "OLDEST",
    "LATENCY",
    "TODAY",
    "STATE",
];

/// A table of queues.
pub(super) fn table(all: &[QueueSummary]) -> String {
    if all.is_empty() {
        return "no queues\n".to_owned();
    }
    let heads = HEADS.map(str::to_owned).to_vec();
    columns(&[vec![heads], all.iter().map(cells).collect()].concat())
}

fn cells(summary: &QueueSummary) -> Vec<String> {
    let counts = Stage::ALL.map(|stage| summary.at(stage).to_string());
    let rest = [
        summary.oldest_age.map_or_else(none, short),
        summary.latency.map_or_else(none, short),
        today(summary),
        state(summary).to_owned(),
    ];
    let name = summary.queue.escape_debug().to_string();
    [name].into_iter().chain(counts).chain(rest).collect()
}

/// A line of each queue, each by itself.
pub(super) fn lines(all: &[QueueSummary]) -> String {
    if all.is_empty() {
        return "no queues\n".to_owned();
    }
    all.iter().map(|summary| format!("{}\n", head(summary))).collect()
}

/// One queue in a line.
pub(super) fn head(summary: &QueueSummary) -> String {
    let mut text = format!("{}  {}", summary.queue.escape_debug(), state(summary));
    for stage in Stage::ALL {
        let _ = write!(text, "  {stage} {}", summary.at(stage));
    }
    for (name, span) in [("oldest", summary.oldest_age), ("latency", summary.latency)] {
        let _ = write!(text, "  {name} {}", span.map_or_else(none, short));
    }
    let _ = write!(text, "  today {}", today(summary));
    text
}

fn state(summary: &QueueSummary) -> &'static str {
    if summary.paused { "paused" } else { "runs" }
}

fn today(summary: &QueueSummary) -> String {
    match (summary.processed_today, summary.failed_today) {
        (Some(processed), Some(failed)) => format!("{processed} ({failed} failed)"),
        _ => none(),
    }
}

/// A table of tasks.
pub(super) fn tasks(tasks: &[TaskInfo]) -> String {
    if tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let heads = ["ID", "STAGE", "KIND", "BYTES", "ATTEMPTS", "DUE", "LAST ERROR"];
    let rows = tasks.iter().map(|task| {
        vec![
            task.id.to_string(),
            stage(task),
            task.kind.escape_debug().to_string(),
            task.payload_bytes.to_string(),
            format!("{}/{}", task.attempts_spent, task.attempts_max),
            moment(task.due),
            task.last_error.as_deref().map_or_else(none, one_line),
        ]
    });
    columns(&[vec![heads.map(str::to_owned).to_vec()], rows.collect()].concat())
}

fn stage(task: &TaskInfo) -> String {
    let left = task.stage == Stage::Active && !task.is_held();
    if left { "active (left)".to_owned() } else { task.stage.to_string() }
}

/// All that is known of one task.
pub(super) fn one(task: &TaskInfo, payload: Option<bytes::Bytes>) -> String {
    let mut rows = vec![("id", task.id.to_string())];
    rows.extend(task.name.as_ref().map(|name| ("name", name.escape_debug().to_string())));
    rows.extend([
        ("queue", task.queue.escape_debug().to_string()),
        ("kind", task.kind.escape_debug().to_string()),
        ("stage", stage(task)),
        ("payload", format!("{} bytes", task.payload_bytes)),
        ("attempts", format!("{}, of {} that count", task.attempts, task.attempts_spent)),
        ("attempts max", task.attempts_max.to_string()),
        ("due", moment(task.due)),
    ]);
    rows.extend(task.group.as_ref().map(|group| ("group", group.escape_debug().to_string())));
    rows.extend(task.lease_until.map(|until| ("lease until", moment(until))));
    rows.extend(task.lease_left.map(|left| ("lease left", short(left))));
    rows.extend(task.created.map(|created| ("created", moment(created))));
    rows.extend(task.died.map(|died| ("died", moment(died))));
    rows.extend(task.last_error.as_deref().map(|error| ("last error", one_line(error))));
    rows.extend(payload.map(|payload| ("payload as text", payload.escape_ascii().to_string())));
    rows.iter().fold(String::new(), |text, (name, value)| format!("{text}{name}: {value}\n"))
}

pub(super) fn json_of_all(all: &[QueueSummary]) -> Result<String> {
    pretty(&Value::from_iter(all.iter().map(json_of)))
}

pub(super) fn json_line(all: &[QueueSummary]) -> Result<String> {
    let all = Value::from_iter(all.iter().map(json_of));
    Ok(format!("{}\n", serde_json::to_string(&all)?))
}

pub(super) fn json_of_tasks(tasks: &[TaskInfo]) -> Result<String> {
    pretty(&Value::from_iter(tasks.iter().map(task_json)))
}

pub(super) fn json_of_task(task: &TaskInfo, payload: Option<bytes::Bytes>) -> Result<String> {
    let mut shown = task_json(task);
    if let (Some(payload), Some(fields)) = (payload, shown.as_object_mut()) {
        // Bytes need not be text.
        fields.insert("payload_hex".to_owned(), format!("{payload:x}").into());
    }
    pretty(&shown)
}

fn json_of(summary: &QueueSummary) -> Value {
    let ms = |span: Option<Duration>| span.map(|span| span.as_millis() as u64);
    json!({
        "queue": summary.queue,
        "paused": summary.paused,
        "pending": summary.pending,
        "scheduled": summary.scheduled,
        "aggregating": summary.aggregating,
        "retry": summary.retry,
        "active": summary.active,
        "dead": summary.dead,
        "completed": summary.completed,
        "oldest_age_ms": ms(summary.oldest_age),
        "latency_ms": ms(summary.latency),
        "processed_today": summary.processed_today,
        "failed_today": summary.failed_today,
    })
}

fn task_json(task: &TaskInfo) -> Value {
    json!({
        "id": task.id.to_string(),
        "name": task.name,
        "queue": task.queue,
        "kind": task.kind,
        "payload_bytes": task.payload_bytes,
        "stage": task.stage.name(),
        "attempts": task.attempts,
        "attempts_spent": task.attempts_spent,
        "attempts_max": task.attempts_max,
        "group": task.group,
        "due_ms": task.due,
        "lease_until_ms": task.lease_until,
        "lease_left_ms": task.lease_left.map(|left| left.as_millis() as u64),
        "last_error": task.last_error,
        "created_ms": task.created,
        "died_ms": task.died,
    })
}

fn pretty(value: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Rows under each other; the last column may be as long as it likes.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn none() -> String {
    "-".to_owned()
}

fn moment(at: UnixMillis) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at));
    // Beyond the year 9999 it means never.
    let at = at.filter(|at| is_printable(*at));
    at.map_or_else(|| "never".to_owned(), |at| humantime::format_rfc3339_millis(at).to_string())
}

fn is_printable(at: SystemTime) -> bool {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    at.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < YEAR_10000)
}

/// Two units at most: `2h 3m`.
fn short(span: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What others wrote, so that it cannot move the cursor.
fn one_line(text: &str) -> String {
    const SHOWN_MAX: usize = 200;
    let shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_queues_stands_in_columns() {
        let busy = QueueSummary {
            queue: "mail\u{1b}[2J".to_owned(),
            paused: true,
            pending: 12_345,
            oldest_age: Some(Duration::from_millis(93_784_999)),
            latency: Some(Duration::from_millis(40)),
            processed_today: Some(7),
            failed_today: Some(2),
            ..QueueSummary::default()
        };
        let idle = QueueSummary { queue: "default".to_owned(), ..QueueSummary::default() };
        let shown = table(&[idle.clone(), busy]);
        let shown: Vec<&str> = shown.lines().collect();
        assert!(shown[0].starts_with("QUEUE"), "{shown:?}");
        assert!(shown[2].contains("mail\\u{1b}[2J") && shown[2].ends_with("paused"), "{shown:?}");
        for part in ["12345", "1day 2h", "40ms", "7 (2 failed)"] {
            let at = shown[2].find(part).expect(part);
            assert!(shown[1].is_char_boundary(at), "{shown:?}");
        }
        assert_eq!(shown[0].find("STATE"), shown[1].find("runs"), "{shown:?}");
        assert_eq!(table(&[]), "no queues\n");
        assert!(head(&idle).starts_with("default  runs  pending 0  scheduled 0"));
    }

    #[test]
    fn a_moment_that_no_calendar_has_is_never() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(moment(253_402_300_800_000), "never");
        assert_eq!(moment(u64::MAX), "never");
    }
}
