//! The directories of streams.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};

/// What the name of a directory ends with from when it may go until it is gone.
const DONE: &str = "done";

/// The name of a directory for a new stream; the log makes it.
pub(super) fn fresh(root: &Path) -> Result<PathBuf> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|cause| failed("could not make the directory of the journal", root, cause))?;
    // Its own name, and that of the engine's directory: they may be new.
    sync_parent(root)?;
    root.parent().map_or(Ok(()), sync_parent)?;
    Ok(root.join(Uuid::now_v7().to_string()))
}

/// The streams that ended processes left in `root`, oldest first, but for `own`. What was to be
/// removed is removed on the way.
pub(super) fn left_in(root: &Path, own: Option<&Path>) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => {
            return Err(failed("could not read the directory of the journal", root, cause));
        }
    };
    let mut streams = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| failed("could not read the journal", root, cause))?;
        let path = entry.path();
        if Some(path.as_path()) == own {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match name.split_once('.') {
            None if Uuid::try_parse(&name).is_ok() => streams.push(path),
            Some((stream, DONE)) if Uuid::try_parse(stream).is_ok() => discard(&path)?,
            _ => {
                tracing::warn!(path = %path.display(), "this is no stream of a journal: left alone")
            }
        }
    }
    // Their names begin with the time.
    streams.sort();
    Ok(streams)
}

/// Removes a stream of which nothing is pending. Its new name says so first: a directory of which
/// half is gone must not be read as a stream.
pub(super) fn remove(dir: &Path) -> Result<()> {
    let done = dir.with_extension(DONE);
    match fs::rename(dir, &done) {
        Ok(()) => {}
        // Whoever adopted it after its end found nothing pending either.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed("could not remove a stream of the journal", dir, cause)),
    }
    sync_parent(&done)?;
    discard(&done)
}

fn discard(done: &Path) -> Result<()> {
    match fs::remove_dir_all(done) {
        Ok(()) => sync_parent(done),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(failed("could not remove a stream of the journal", done, cause)),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let synced = fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|cause| failed("could not sync the directory of the journal", parent, cause))
}

fn failed(message: &'static str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, message)
        .with_context("path", path.display())
        .with_source(cause)
}
