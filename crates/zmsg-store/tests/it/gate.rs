//! A function for SQL that holds the thread that calls it until it is released.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use zmsg_core::{Result, Statement, Value};
use zmsg_store::ScalarFunction;

/// Which gates are open; functions of SQL are plain pointers, so this is shared by all tests.
static OPEN: Mutex<Option<HashSet<i64>>> = Mutex::new(None);
static OPENED: Condvar = Condvar::new();
/// At which gates somebody has arrived.
static AT: Mutex<Option<watch::Sender<HashSet<i64>>>> = Mutex::new(None);

/// `wait_at(gate)`: waits until [`open`] was called for the gate.
pub(crate) const WAIT_AT: ScalarFunction =
    ScalarFunction { name: "wait_at", arguments: 1, call: wait_at };

/// A statement that holds the writer at a gate.
pub(crate) fn hold(gate: i64) -> Statement {
    Statement::query("SELECT wait_at(?)", vec![gate.into()])
}

/// Releases whoever waits at the gate or comes later.
pub(crate) fn open(gate: i64) {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(gate);
    OPENED.notify_all();
}

/// Opens the gate when dropped, so that a failed test does not leave a thread behind.
pub(crate) struct Gate(pub(crate) i64);

impl Drop for Gate {
    fn drop(&mut self) {
        open(self.0);
    }
}

fn wait_at(arguments: &[Value]) -> Result<Value> {
    let gate = arguments[0].as_int().unwrap_or_default();
    arrivals().send_if_modified(|at| at.insert(gate));
    let mut set = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    while !set.get_or_insert_default().contains(&gate) {
        set = OPENED.wait(set).unwrap_or_else(PoisonError::into_inner);
    }
    Ok(Value::Int(gate))
}

fn arrivals() -> watch::Sender<HashSet<i64>> {
    let mut at = AT.lock().unwrap_or_else(PoisonError::into_inner);
    at.get_or_insert_with(|| watch::channel(HashSet::new()).0).clone()
}

/// Waits until somebody stands at the gate.
pub(crate) async fn arrived(gate: i64) {
    let mut at = arrivals().subscribe();
    let arrival = at.wait_for(|at| at.contains(&gate));
    tokio::time::timeout(Duration::from_secs(30), arrival).await.unwrap().unwrap();
}
