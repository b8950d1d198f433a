//! The algebra of foldable operations: pure functions, no I/O.
//!
//! The law that everything else rests on, for every value `v` of a column and all folds `a`, `b`:
//!
//! ```text
//! apply(apply(v, a), b) == apply(v, then(a, b))        wherever the left side is legal
//! ```
//!
//! Arithmetic is unbounded between the two: only what is written to the column must fit it.

mod codec;
mod counter;
mod float;
mod fold; // start here
mod functions;
mod json;
mod patch;
mod slice;

pub use counter::Affine;
pub use float::{FloatFold, FloatStep};
pub use fold::Fold;
pub use functions::sqlite_functions;
pub use json::DEPTH_MAX;
pub use patch::Patch;
pub use slice::SliceFold;

pub(crate) use functions::{ADD_FUNCTION, COUNTER_FUNCTION, FOLD_FUNCTION};
