//! Load for the engine, by a workload that a TOML file describes: `cargo xtask load`, or the program `load`.
//!
//! A closed loop has so many tasks that make one call after the other: what it measures is throughput. An
//! open loop makes calls at given moments, whether or not earlier ones have ended, and counts each call's
//! latency from the moment at which it was to begin: an engine that stands still for a second is seen to
//! do so by every call of that second, not by one.

mod workload; // start here: what a file may say
mod run;
mod open;
mod closed;
mod arrivals;
mod pace;
mod mix;
mod keys;
mod measure;
mod engine;
mod written;
mod memory;
mod report;

pub use engine::{Engine, Places};
pub use measure::{Failure, Measured, OfKind};
pub use memory::Memory;
pub use mix::{Call, Draw, Kind};
pub use report::Report;
pub use run::run;
pub use workload::{Arriving, Backend, Drive, Keys, Servers, Workload, WorkloadError};
