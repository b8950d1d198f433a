//! How a log behaves: bounds, when it syncs, compression.

use std::time::Duration;

use zmsg_core::{Error, Result};

use crate::frame::frame_len;
use crate::header::{HEADER, RECORD_BYTES_CAP};
use crate::sabotage::Sabotage;

/// What a record survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// In memory of this process, in order. Lost if the process stops.
    Buffered,
    /// Handed to the operating system. Survives the process, also kill -9, but not a power cut.
    Flushed,
    /// On the disk, as far as the disk tells the truth. Survives a power cut.
    Synced,
}

/// When the log syncs by itself.
///
/// Whatever is chosen: a segment is synced before the next one begins, and so is what was written
/// when it reaches `buffer_bytes_max`, because it is kept in memory until it is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After each write; all who wait meanwhile share the next sync.
    Always,
    /// By a timer, so long after the first record that is not synced. Who waits for
    /// [`Durability::Synced`] waits for the timer; [`Log::sync`](crate::Log::sync) does not.
    Interval(Duration),
    /// Only when somebody asks: by [`Log::sync`](crate::Log::sync), or by waiting for
    /// [`Durability::Synced`].
    Os,
}

/// How a payload is stored. Compression that does not make it smaller is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// Needs the feature `lz4`.
    Lz4,
    /// Needs the feature `zstd`.
    Zstd {
        /// From 1 (fast) to 22 (small).
        level: i32,
    },
    /// Needs the feature `gzip`.
    Gzip {
        /// From 0 (fast) to 9 (small).
        level: u32,
    },
}

/// How a log behaves. The defaults hold up to 1 GiB in segments of 32 MiB and sync always.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// When the log syncs by itself.
    pub sync: SyncPolicy,
    /// The size of a segment; two are allocated ahead.
    pub segment_bytes: u64,
    /// The longest payload, before compression and after.
    pub record_bytes_max: u32,
    /// How much may wait in memory to be written. As much again may be kept that is written and not
    /// yet synced.
    pub buffer_bytes_max: usize,
    /// The size of the whole log, without what is allocated ahead.
    pub bytes_max: u64,
    /// How payloads are stored.
    pub compression: Compression,
    /// Payloads from this size on are compressed.
    pub compress_above: usize,
    /// What the log does wrong, to prove that a check finds it.
    #[cfg(feature = "testing")]
    pub sabotage: Sabotage,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            segment_bytes: 32 << 20,
            record_bytes_max: 4 << 20,
            buffer_bytes_max: 8 << 20,
            bytes_max: 1 << 30,
            compression: Compression::None,
            compress_above: 1024,
            #[cfg(feature = "testing")]
            sabotage: Sabotage::Nothing,
        }
    }
}

impl LogOptions {
    /// Refuses bounds that cannot be kept together.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |why: &'static str| Err(Error::invalid_config(why).during("wal.open"));
        if self.record_bytes_max == 0 || self.record_bytes_max > RECORD_BYTES_CAP {
            return refuse("record_bytes_max must be from 1 to 1 GiB");
        }
        let frame_max = self.frame_bytes_max();
        if self.buffer_bytes_max < frame_max {
            return refuse("buffer_bytes_max must hold the longest record");
        }
        // Then what is buffered never needs more than the live segment and one in reserve.
        let least = self.buffer_bytes_max.saturating_add(frame_max + HEADER) as u64;
        if self.segment_bytes < least {
            return refuse("segment_bytes must hold the buffer and the longest record");
        }
        if self.bytes_max < self.segment_bytes {
            return refuse("bytes_max must hold a segment");
        }
        if let SyncPolicy::Interval(every) = self.sync
            && every.is_zero()
        {
            return refuse("an interval of zero is SyncPolicy::Always");
        }
        crate::codec::supported(self.compression)
    }

    /// What a record with a payload of so many bytes takes in the log, and in its buffer.
    pub fn record_bytes(payload: usize) -> usize {
        frame_len(payload)
    }

    /// The longest frame.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        frame_len(self.record_bytes_max as usize)
    }

    /// The room for frames in a segment.
    pub(crate) fn segment_room(&self) -> u64 {
        self.segment_bytes - HEADER as u64
    }

    /// How many sequences can be given out at most while a segment of `bytes` is the last one: those
    /// in it, and those in the buffer.
    pub(crate) fn sequences_max(&self, bytes: u64) -> u64 {
        bytes.saturating_add(self.buffer_bytes_max as u64) / frame_len(0) as u64 + 2
    }

    /// Whether the log is to do that wrong. Never, but in tests.
    pub(crate) fn sabotaged(&self, by: Sabotage) -> bool {
        #[cfg(feature = "testing")]
        let wrong = self.sabotage == by;
        #[cfg(not(feature = "testing"))]
        let wrong = by == Sabotage::Nothing;
        wrong
    }
}
