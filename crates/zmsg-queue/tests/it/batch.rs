//! The promises of the batch queue.

mod rig;

mod delivery;
mod failures;
mod order;
mod bounds;
mod closing;
mod restart;
mod hybrid;
mod dead;
mod faults;
mod cancel;
mod vinequeue;
mod user_code;
mod killed;
