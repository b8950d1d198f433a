//! Compression of payloads, record by record.

use std::borrow::Cow;

use zmsg_core::{Error, ErrorKind, Result};

use crate::{Compression, LogOptions};

/// How a payload is stored; the number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain = 0,
    Lz4 = 1,
    Zstd = 2,
    Gzip = 3,
}

impl Codec {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Plain, Self::Lz4, Self::Zstd, Self::Gzip]
            .into_iter()
            .find(|codec| *codec as u8 == code)
    }

    fn needs(self) -> (&'static str, bool) {
        match self {
            Self::Plain => ("", true),
            Self::Lz4 => ("lz4", cfg!(feature = "lz4")),
            Self::Zstd => ("zstd", cfg!(feature = "zstd")),
            Self::Gzip => ("gzip", cfg!(feature = "gzip")),
        }
    }
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Self::None => Codec::Plain,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd { .. } => Codec::Zstd,
            Self::Gzip { .. } => Codec::Gzip,
        }
    }
}

/// Refuses a compression that was not compiled in.
pub(crate) fn supported(compression: Compression) -> Result<()> {
    let (feature, compiled) = compression.codec().needs();
    if compiled {
        return Ok(());
    }
    Err(Error::invalid_config("this compression was not compiled in: enable its feature")
        .with_context("feature", feature)
        .during("wal.open"))
}

/// The payload made smaller, if it is worth it.
pub(crate) fn compress(
    options: &LogOptions,
    parts: &[&[u8]],
    len: usize,
) -> Option<(Codec, Vec<u8>)> {
    if options.compression == Compression::None || len < options.compress_above.max(1) {
        return None;
    }
    let whole = match parts {
        [one] => Cow::Borrowed(*one),
        parts => Cow::Owned(parts.concat()),
    };
    // What cannot be compressed is stored as it is: that is no error of the caller's.
    let packed = pack(options.compression, &whole)?;
    (packed.len() < len).then_some((options.compression.codec(), packed))
}

#[cfg_attr(
    not(any(feature = "lz4", feature = "zstd", feature = "gzip")),
    expect(unused_variables, reason = "nothing was compiled in")
)]
fn pack(compression: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => None,
        #[cfg(feature = "lz4")]
        Compression::Lz4 => Some(lz4_flex::block::compress(bytes)),
        #[cfg(feature = "zstd")]
        Compression::Zstd { level } => zstd::bulk::compress(bytes, level).ok(),
        #[cfg(feature = "gzip")]
        Compression::Gzip { level } => {
            use std::io::Write as _;
            let level = flate2::Compression::new(level.min(9));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
        #[allow(unreachable_patterns, reason = "what was not compiled in was refused at open")]
        _ => None,
    }
}

/// The payload as it was appended.
///
/// `len` was checked against the limit of the segment: nothing longer is ever allocated, whatever
/// the compressed bytes pretend to contain.
pub(crate) fn decompress(codec: Codec, stored: &[u8], len: usize) -> Result<Vec<u8>> {
    let bytes = match codec {
        Codec::Plain => Some(stored.to_vec()),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => {
            let mut bytes = vec![0; len];
            let filled = lz4_flex::block::decompress_into(stored, &mut bytes);
            filled.ok().map(|filled| {
                bytes.truncate(filled);
                bytes
            })
        }
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::bulk::decompress(stored, len).ok(),
        #[cfg(feature = "gzip")]
        Codec::Gzip => unzip(stored, len),
        #[allow(unreachable_patterns, reason = "what was not compiled in")]
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a record is compressed in a way that was not compiled in: enable its feature",
            )
            .with_context("feature", other.needs().0));
        }
    };
    bytes.filter(|bytes| bytes.len() == len).ok_or_else(|| {
        Error::new(ErrorKind::Corrupted, "a compressed record does not decompress to its length")
    })
}

#[cfg(feature = "gzip")]
fn unzip(stored: &[u8], len: usize) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::with_capacity(len);
    // One more than there may be, to see that there is more.
    let limit = u64::try_from(len).ok()?.checked_add(1)?;
    flate2::read::GzDecoder::new(stored).take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
