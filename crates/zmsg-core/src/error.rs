//! One error for every crate: what happened, and whether to try again.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The result of every fallible call in zmsg.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What happened. A missing row is not an error: reads answer `Ok(None)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration cannot be used as it stands.
    InvalidConfig,
    /// The caller passed something that can never work: an identifier, a key, a statement.
    InvalidInput,
    /// The database refused the data itself: a constraint, an overflow, a type.
    InvalidData,
    /// Somebody else was first: a compare-and-set failed, a lease or a lock is held.
    Conflict,
    /// A backend cannot be reached or does not answer.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// A bound was reached; nothing was accepted.
    Overloaded,
    /// Stored bytes are damaged.
    Corrupted,
    /// The engine or the component was closed.
    Closed,
    /// This backend or this call can never do that.
    Unsupported,
    /// A defect in zmsg or in a backend.
    Unexpected,
}

/// Whether the same call is worth trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorStatus {
    /// It will fail again.
    Permanent,
    /// It may work later.
    Temporary,
    /// It was tried again and given up; an outer loop must not multiply the attempts.
    Exhausted,
    /// It may or may not have taken effect; find out before trying again.
    OutcomeUnknown,
}

/// An error: kind, status, the operation that failed, context, and the cause.
///
/// It is one pointer wide and cheap to clone, because every follower of a shared load receives
/// the leader's error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    status: ErrorStatus,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Cause>,
}

impl Error {
    /// An error that is permanent until said otherwise.
    ///
    /// The message is lowercase, without a full stop, and says what was attempted; values go
    /// into [`context`](Self::context).
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let status = ErrorStatus::Permanent;
        let inner = Inner { kind, status, message, operation: None, context: vec![], source: None };
        Self(Arc::new(inner))
    }

    /// Shorthand for the kind that callers cause most.
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Shorthand for a configuration that cannot be used.
    pub fn invalid_config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }

    /// Shorthand for a closed component, naming it.
    pub fn closed(what: &'static str) -> Self {
        Self::new(ErrorKind::Closed, "it was closed; open it anew").with_context("component", what)
    }

    /// Shorthand for a bound that was reached, naming it.
    pub fn overloaded(bound: &'static str) -> Self {
        Self::new(ErrorKind::Overloaded, "a bound was reached: try again later, or raise it")
            .temporary()
            .with_context("bound", bound)
    }

    /// Marks the error as worth trying again.
    #[must_use]
    pub fn temporary(self) -> Self {
        self.with_status(ErrorStatus::Temporary)
    }

    /// Marks the error as tried again and given up.
    #[must_use]
    pub fn exhausted(self) -> Self {
        self.with_status(ErrorStatus::Exhausted)
    }

    /// Marks the error as one whose effect may have happened.
    #[must_use]
    pub fn outcome_unknown(self) -> Self {
        self.with_status(ErrorStatus::OutcomeUnknown)
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(mut self, status: ErrorStatus) -> Self {
        self.inner().status = status;
        self
    }

    /// Names the operation that failed; an earlier name moves into the context.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        let inner = self.inner();
        if let Some(earlier) = inner.operation.replace(operation) {
            inner.context.push(("called", earlier.to_owned()));
        }
        self
    }

    /// Adds a fact for the person who reads the error.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.inner().context.push((name, value.to_string()));
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner().source = Some(Arc::new(cause));
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether to try again.
    pub fn status(&self) -> ErrorStatus {
        self.0.status
    }

    /// True if trying again may help.
    pub fn is_temporary(&self) -> bool {
        self.0.status == ErrorStatus::Temporary
    }

    /// True if the effect may have happened although the call failed.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.status == ErrorStatus::OutcomeUnknown
    }

    /// The message, without context and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts that were attached, in order.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, message, context, source, .. } = &*self.0;
        if let Some(operation) = operation {
            write!(f, "{operation}: ")?;
        }
        write!(f, "{message}")?;
        for (index, (name, value)) in context.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{name}: {value}")?;
        }
        if !context.is_empty() {
            write!(f, ")")?;
        }
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}: {self}", self.0.kind, self.0.status)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

// Results travel through every call: an error must not make them wide.
const _: () = assert!(size_of::<Error>() == size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_operation_context_and_cause() {
        let error = Error::new(ErrorKind::Unavailable, "could not reach the store")
            .temporary()
            .with_context("table", "feeds")
            .with_source(std::io::Error::other("refused"))
            .during("store.fetch");
        assert_eq!(
            error.to_string(),
            "store.fetch: could not reach the store (table: feeds): refused"
        );
        assert!(error.is_temporary());
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn an_outer_operation_keeps_the_inner_one_as_context() {
        let error = Error::invalid_input("no").during("store.execute").during("write.store");
        assert_eq!(error.to_string(), "write.store: no (called: store.execute)");
    }

    #[test]
    fn a_clone_is_not_changed_by_what_is_added_to_the_other() {
        let first = Error::closed("queue");
        let second = first.clone().temporary();
        assert_eq!(first.status(), ErrorStatus::Permanent);
        assert_eq!(second.status(), ErrorStatus::Temporary);
    }
}
