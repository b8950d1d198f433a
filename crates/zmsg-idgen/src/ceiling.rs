//! The file that remembers how far a node's ids may have come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use crate::Layout;

const FAMILY: &str = "zmsg node ceiling, version ";
const VERSION: &str = "1";

/// What is remembered of a node: a few lines of text, the last one their checksum (xxh3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) layout: Layout,
    pub(crate) node: u32,
    pub(crate) epoch: u64,
    pub(crate) owner: Uuid,
    pub(crate) ceiling_ms: UnixMillis,
}

/// Where it is remembered.
#[derive(Debug, Clone)]
pub(crate) struct CeilingFile {
    path: PathBuf,
}

impl CeilingFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What was written last; `None` if nothing ever was.
    pub(crate) fn read(&self) -> Result<Option<Ceiling>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("could not read a node's ceiling", &self.path, error)),
        };
        let text = String::from_utf8_lossy(&bytes);
        Ceiling::decode(&text)
            .map(Some)
            .map_err(|error| error.with_context("file", self.path.display()))
    }

    /// Replaces the file. Synced, with its directory, before it returns: after a crash at any
    /// moment the file holds either the old or the new text.
    pub(crate) fn write(&self, ceiling: &Ceiling) -> Result<()> {
        self.replace(&ceiling.encode())
            .map_err(|error| failed("could not write a node's ceiling", &self.path, error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        private(&mut options);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, &self.path)?;
        sync_directory(directory_of(&self.path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Ceiling {
    fn encode(&self) -> String {
        let Self { layout, node, epoch, owner, ceiling_ms } = self;
        let body = format!(
            "{FAMILY}{VERSION}\nlayout {layout}\nnode {node}\nepoch {epoch}\nowner {owner}\n\
             ceiling_ms {ceiling_ms}\n"
        );
        let checksum = xxh3_64(body.as_bytes());
        format!("{body}checksum {checksum:016x}\n")
    }

    fn decode(text: &str) -> Result<Self> {
        let version = text.lines().next().and_then(|line| line.strip_prefix(FAMILY));
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(Error::new(ErrorKind::Unsupported, "a node's ceiling has another version")
                .with_context("version", version.escape_debug()));
        }
        let decoded = fields(text).filter(|ceiling| ceiling.encode() == text);
        decoded.ok_or_else(|| Error::new(ErrorKind::Corrupted, "a node's ceiling is damaged"))
    }
}

/// The fields by name; that nothing else is there shows when they are written again.
fn fields(text: &str) -> Option<Ceiling> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let mut layout = field("layout")?.split('/');
    Some(Ceiling {
        layout: Layout::new(
            layout.next()?.parse().ok()?,
            layout.next()?.parse().ok()?,
            layout.next()?.parse().ok()?,
            layout.next()?.parse().ok()?,
        )
        .ok()?,
        node: field("node")?.parse().ok()?,
        epoch: field("epoch")?.parse().ok()?,
        owner: field("owner")?.parse().ok()?,
        ceiling_ms: field("ceiling_ms")?.parse().ok()?,
    })
}

/// An I/O error of a lease's files. Disks fill up and come back, so it may pass.
pub(crate) fn failed(attempted: &'static str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, attempted)
        .temporary()
        .with_context("file", path.display())
        .with_source(cause)
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes a directory for ceilings, for its owner alone.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    // Ceilings in a directory that a power cut takes away would be promises to nobody.
    sync_directory(directory_of(directory))
}

/// Makes a rename or a new entry in the directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and its entries are journaled anyway.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Readable and writable by the owner alone.
pub(crate) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ceiling {
        Ceiling {
            layout: Layout::default(),
            node: 7,
            epoch: 3,
            owner: Uuid::from_u128(5),
            ceiling_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = CeilingFile::new(directory.path().join("node.ceiling"));
        assert_eq!(file.read().unwrap(), None);
        file.write(&sample()).unwrap();
        let later = Ceiling { epoch: 4, ..sample() };
        file.write(&later).unwrap();
        assert_eq!(file.read().unwrap(), Some(later));
    }

    #[test]
    fn any_changed_byte_is_damage_or_another_version() {
        let text = sample().encode();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            let kind = Ceiling::decode(&changed).unwrap_err().kind();
            assert!(
                matches!(kind, ErrorKind::Corrupted | ErrorKind::Unsupported),
                "{index}: {kind:?}"
            );
        }
        for end in 0..text.len() {
            assert!(Ceiling::decode(&text[..end]).is_err(), "{end}");
        }
        assert!(Ceiling::decode(&format!("{text}\n")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = CeilingFile::new(directory.path().join("node.ceiling"));
        file.write(&sample()).unwrap();
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
