//! A store that fails when a test says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;
use zmsg_core::{Error, ErrorKind, Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Outcome, SqlStore, Step, StepError};

/// What goes wrong with one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It fails with an error that passes.
    Temporary,
    /// Its commit gets no answer, and did not happen.
    LostBefore,
    /// Its commit gets no answer, and happened.
    LostAfter,
    /// Its commit gets no answer, and happened; the next question gets none either.
    LostAndAway,
    /// It happened, and the store claims that it failed.
    Denied,
    /// The store panics.
    Panic,
}

/// A store around another one: faults are queued, transactions are held, all are counted.
#[derive(Debug)]
pub(crate) struct Flaky {
    inner: Arc<dyn SqlStore>,
    faults: Mutex<VecDeque<Fault>>,
    always: Mutex<Option<Fault>>,
    held: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    pub(crate) transactions: AtomicUsize,
    texts: Mutex<Vec<String>>,
    pub(crate) deaf: AtomicBool,
    away_once: AtomicBool,
    refused: Mutex<Option<&'static str>>,
}

impl Flaky {
    /// Another way to the same database, on which nothing fails.
    pub(crate) fn bypass(&self) -> Arc<dyn SqlStore> {
        Arc::clone(&self.inner)
    }

    /// Statements that begin like this fail, outside of transactions.
    pub(crate) fn refuse(&self, begin: Option<&'static str>) {
        *self.refused.lock().unwrap() = begin;
    }

    pub(crate) fn new(inner: Arc<dyn SqlStore>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            always: Mutex::default(),
            held: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            transactions: AtomicUsize::new(0),
            texts: Mutex::default(),
            deaf: AtomicBool::new(false),
            away_once: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// The next transactions fail like this, one each.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// The transaction after the next `passed` ones fails like this.
    pub(crate) fn fail_after(&self, passed: usize, fault: Fault) {
        let mut faults = self.faults.lock().unwrap();
        faults.extend(std::iter::repeat_n(Fault::None, passed));
        faults.push_back(fault);
    }

    /// True if a fault still waits for its transaction.
    pub(crate) fn is_armed(&self) -> bool {
        !self.faults.lock().unwrap().is_empty()
    }

    /// Every transaction fails like this until further notice.
    pub(crate) fn fail_always(&self, fault: Option<Fault>) {
        *self.always.lock().unwrap() = fault;
    }

    /// Transactions wait from now on.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// Returns when so many transactions wait.
    pub(crate) async fn reached(&self, count: usize) {
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= count).await;
    }

    /// The texts of the statements that were sent since the last time.
    pub(crate) fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.texts.lock().unwrap())
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

fn failed(error: Error) -> StepError {
    StepError { step: None, error }
}

#[async_trait]
impl SqlStore for Flaky {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        if self.deaf.load(SeqCst) || self.away_once.swap(false, SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "deaf").temporary());
        }
        self.inner.fetch(query).await
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        if self.refused.lock().unwrap().is_some_and(|begin| statement.text.starts_with(begin)) {
            return Err(Error::new(ErrorKind::Unavailable, "refused").temporary());
        }
        if self.deaf.load(SeqCst) || self.away_once.swap(false, SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "deaf").temporary());
        }
        self.inner.execute(statement).await
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        self.pass().await;
        self.transactions.fetch_add(1, SeqCst);
        self.texts.lock().unwrap().extend(steps.iter().map(|step| step.statement.text.clone()));
        let fault = self.faults.lock().unwrap().pop_front().or(*self.always.lock().unwrap());
        let away = || Error::new(ErrorKind::Unavailable, "the connection was lost");
        match fault {
            None | Some(Fault::None) => self.inner.execute_all(steps).await,
            Some(Fault::Temporary) => Err(failed(away().temporary())),
            Some(Fault::LostBefore) => Err(failed(away().outcome_unknown())),
            Some(Fault::LostAfter) => {
                self.inner.execute_all(steps).await?;
                Err(failed(away().outcome_unknown()))
            }
            Some(Fault::LostAndAway) => {
                self.inner.execute_all(steps).await?;
                self.away_once.store(true, SeqCst);
                Err(failed(away().outcome_unknown()))
            }
            Some(Fault::Denied) => {
                self.inner.execute_all(steps).await?;
                Err(failed(away().temporary()))
            }
            Some(Fault::Panic) => panic!("the store panics because a test asked for it"),
        }
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
