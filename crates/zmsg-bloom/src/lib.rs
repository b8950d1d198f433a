//! Membership filters that never give a false absent.
//!
//! A filter sits before the remote cache and the store and turns lookups of keys that cannot
//! exist away. It may be wrong in one direction only: "maybe" for a key that is not there costs a
//! lookup; "absent" for a key that is there would hide a row. Everything here follows from that.
//!
//! Start with the promises ([`MembershipFilter`]); [`LocalFilter`] keeps them in this process,
//! [`SharedFilter`] for several nodes, and [`OpenFilter`] by never ruling anything out. The rest is the layout of the bits, which is fixed
//! and versioned ([`Header`]), so that a filter shared by several nodes can mirror it.
//!
//! ```
//! use zmsg_bloom::{FilterOptions, LocalFilter, MembershipFilter, Verdict};
//! use zmsg_core::Key;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> zmsg_core::Result<()> {
//! let filter = LocalFilter::new(FilterOptions::default())?;
//! assert_eq!(filter.check("feed_1"), Verdict::Unknown);
//!
//! // A rebuild reads the source, as it is when `begin_rebuild` has returned.
//! let rebuild = filter.begin_rebuild(1).await?;
//! filter.seed(&rebuild, &[Key::new("feed_1")?]).await?;
//! filter.finish_rebuild(rebuild).await?;
//! assert_eq!(filter.check("feed_1"), Verdict::Maybe);
//! assert_eq!(filter.check("feed_2"), Verdict::Absent);
//!
//! // A write: first the key, then the commit; the insertion lives until that is known.
//! let insertion = filter.insert(&[Key::new("feed_2")?]).await?;
//! // .. commit ..
//! drop(insertion);
//! assert_eq!(filter.check("feed_2"), Verdict::Maybe);
//! # Ok(())
//! # }
//! ```

mod filter;
mod insertion;
mod rebuild;
mod stats;

mod local;
mod open;
mod options;

pub mod shared;

mod generation;
mod tally;

#[cfg(feature = "bloomfilter")]
mod classic;
mod keys;

mod bits;
mod header;
mod params;
mod positions;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use bits::Bits;
#[cfg(feature = "bloomfilter")]
pub use classic::{ClassicFilter, ClassicKeys};
pub use filter::{MembershipFilter, Verdict};
pub use header::Header;
pub use insertion::{InFlight, Insertion};
pub use keys::{AtomicKeys, KeySet};
pub use local::LocalFilter;
pub use open::OpenFilter;
pub use options::FilterOptions;
pub use params::Params;
pub use positions::KeyHash;
pub use rebuild::Rebuild;
pub use shared::SharedFilter;
pub use stats::{Checks, FilterState, FilterStats};
