//! The filter that several nodes share.

mod world;
mod bits;
mod registry;

mod memory;
mod simulation;
mod redis;
