//! For tests: a disk in memory that fails on demand and loses its power, and a log that breaks its
//! rules.

mod crash;
mod disk;
mod fault;

pub use crate::sabotage::Sabotage;
pub use crash::{CrashPoint, Survival};
pub use disk::{Disk, Note};
pub use fault::{Fault, FaultKind};
