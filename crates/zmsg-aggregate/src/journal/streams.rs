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

/// What ended processes left in a directory.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Streams, oldest first.
    pub(super) streams: Vec<PathBuf>,
    /// Streams that are done, and whose ledger rows may not have been forgotten yet.
    pub(super) done: Vec<Done>,
}

/// A stream that is done: an empty directory, until its ledger rows are forgotten.
#[derive(Debug)]
pub(crate) struct Done {
    dir: PathBuf,
    /// Nothing where an older version made its name.
    pub(super) stream: Option<Uuid>,
}

/// What ended processes left in `root`, but for `own`. The files of what is done are removed on the
/// way.
pub(super) fn left_in(root: &Path, own: Option<&Path>) -> Result<Left> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Left::default()),
        Err(cause) => {
            return Err(failed("could not read the directory of the journal", root, cause));
        }
    };
    let mut left = Left::default();
    for entry in entries {
        let entry = entry.map_err(|cause| failed("could not read the journal", root, cause))?;
        let dir = entry.path();
        if Some(dir.as_path()) == own {
            continue;
        }
        match Kind::of(&entry.file_name().to_string_lossy()) {
            Kind::Stream => left.streams.push(dir),
            Kind::Done(stream) => {
                empty(&dir)?;
                left.done.push(Done { dir, stream });
            }
            Kind::Foreign => {
                tracing::warn!(path = %dir.display(), "this is no stream of a journal: left alone");
            }
        }
    }
    // Their names begin with the time.
    left.streams.sort();
    Ok(left)
}

/// What the name of a directory says of it.
enum Kind {
    Stream,
    Done(Option<Uuid>),
    Foreign,
}

impl Kind {
    fn of(name: &str) -> Self {
        let (made, rest) = name.split_once('.').unwrap_or((name, ""));
        if Uuid::try_parse(made).is_err() {
            return Self::Foreign;
        }
        match rest.rsplit_once('.') {
            None if rest.is_empty() => Self::Stream,
            None if rest == DONE => Self::Done(None),
            Some((stream, DONE)) => {
                Uuid::try_parse(stream).map_or(Self::Foreign, |stream| Self::Done(Some(stream)))
            }
            _ => Self::Foreign,
        }
    }
}

/// Removes the files of a stream of which nothing is pending. Its new name says so first: a directory
/// of which half is gone must not be read as a stream. The directory stays, so that whoever comes
/// next forgets the ledger rows if this process does not come so far; see [`Done::bury`].
pub(super) fn retire(dir: &Path, stream: Uuid) -> Result<Done> {
    let done = Done { dir: dir.with_extension(format!("{stream}.{DONE}")), stream: Some(stream) };
    match fs::rename(dir, &done.dir) {
        Ok(()) => {}
        // Whoever adopted it after its end found nothing pending either.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(done),
        Err(cause) => return Err(failed("could not remove a stream of the journal", dir, cause)),
    }
    zmsg_core::fail_point!("zmsg-aggregate::streams::renamed");
    sync_parent(&done.dir)?;
    empty(&done.dir)?;
    Ok(done)
}

impl Done {
    /// Removes the last trace: the ledger rows are forgotten.
    pub(super) fn bury(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Ok(()) => sync_parent(&self.dir),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(failed("could not remove a stream of the journal", &self.dir, cause)),
        }
    }
}

/// Removes what is in the directory of a stream that is done. Somebody else may be at it too.
fn empty(dir: &Path) -> Result<()> {
    let removed = fs::read_dir(dir).and_then(|entries| {
        for entry in entries {
            match fs::remove_file(entry?.path()) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
        }
        Ok(())
    });
    match removed {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(failed("could not remove the files of a stream of the journal", dir, cause))
        }
        _ => Ok(()),
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
