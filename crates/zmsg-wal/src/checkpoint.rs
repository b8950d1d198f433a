//! The file that says what was delivered: everything below a sequence.
//!
//! ```text
//!  0  magic    8 bytes "zmsg-wcp"
//!  8  version  u32  1
//! 12  zeros
//! 16  stream   16 bytes
//! 32  below    u64
//! 40  zeros
//! 44  crc      u32  CRC-32C of the 44 bytes before
//! ```

use std::io;
use std::path::Path;

use uuid::Uuid;
use zmsg_core::Result;

use crate::Fs;
use crate::error::{damaged, failed};
use crate::format::{u32_at, u64_at, u128_at};
use crate::header::NUMBER_CAP;
use crate::segment::UNFINISHED;

pub(crate) const NAME: &str = "CHECKPOINT";

const LEN: usize = 48;
const MAGIC: &[u8; 8] = b"zmsg-wcp";
const VERSION: u32 = 1;

/// What was delivered of which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) stream: Uuid,
    pub(crate) below: u64,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.stream.as_u128().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.below.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..LEN - 4]);
        bytes[LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() != LEN || &bytes[..8] != MAGIC {
            return Err("this is no checkpoint");
        }
        if crc32c::crc32c(&bytes[..LEN - 4]) != u32_at(bytes, LEN - 4) {
            return Err("the checkpoint is damaged");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("the checkpoint was written by another version of the format");
        }
        let below = u64_at(bytes, 32);
        if below > NUMBER_CAP {
            return Err("the checkpoint is beyond any record");
        }
        Ok(Self { stream: Uuid::from_u128(u128_at(bytes, 16)), below })
    }

    /// Writes the checkpoint in place of the one before: a power cut leaves one of the two.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let unfinished = dir.join(format!("{NAME}{UNFINISHED}"));
        // A new file each time: one whose sync failed once is never believed again.
        match fs.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fs.create(&unfinished)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()?;
        zmsg_core::fail_point!("zmsg-wal::checkpoint::written");
        fs.rename(&unfinished, &dir.join(NAME))?;
        zmsg_core::fail_point!("zmsg-wal::checkpoint::named");
        fs.sync_dir(dir)
    }

    /// Reads the checkpoint, if there is one.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(NAME);
        let cannot = |error| failed("could not read the checkpoint", &path, error);
        let file = match fs.open_to_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(cannot)?,
        };
        // One byte more, to see that there is no more.
        let mut bytes = [0; LEN + 1];
        let mut filled = 0;
        loop {
            match file.read_at(&mut bytes[filled..], filled as u64).map_err(cannot)? {
                0 => break,
                read => filled += read,
            }
        }
        Self::decode(&bytes[..filled]).map(Some).map_err(|why| damaged(why, &path, 0, 0))
    }
}
