//! Errors of the log, from what the system said and from what the bytes say.

use std::io;
use std::path::Path;

use zmsg_core::{Error, ErrorKind};

/// A file call that failed.
pub(crate) fn failed(what: &'static str, path: &Path, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::InvalidConfig,
        _ => ErrorKind::Unavailable,
    };
    let error = Error::new(kind, what).with_context("path", path.display()).with_source(cause);
    if kind == ErrorKind::Unavailable { error.temporary() } else { error }
}

/// Bytes that were synced and are not what was written.
pub(crate) fn damaged(why: &'static str, path: &Path, offset: u64, seq: u64) -> Error {
    Error::new(
        ErrorKind::Corrupted,
        "the log is damaged: restore it, or copy what is good by `salvage`",
    )
    .with_context("found", why)
    .with_context("file", path.display())
    .with_context("offset", offset)
    .with_context("sequence", seq)
}

/// True if there is no space, whoever says so.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
