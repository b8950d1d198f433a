//! The write-ahead log of zmsg.

mod log; // start here
mod durable;
mod reader;
mod recovery;
mod options;
mod stats;
mod verify;
mod salvage;

mod open;
mod writer;
mod intake;
mod progress;
mod shared;
mod table;

mod frame;
mod header;
mod segment;
mod checkpoint;
mod codec;
mod format;
mod scan;
mod walk;
mod window;

mod error;
mod fs;
mod sabotage;
#[cfg(feature = "testing")]
pub mod testing;

pub use durable::{Appended, Durable};
pub use fs::{File, Fs, Lock, RealFs};
pub use log::Log;
pub use options::{Compression, Durability, LogOptions, SyncPolicy};
pub use reader::{Reader, Record};
pub use recovery::Recovered;
pub use salvage::salvage;
pub use stats::LogStats;
pub use verify::{Damage, SegmentReport, Verified, verify};
