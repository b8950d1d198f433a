//! Named moments at which a test stops the process.

/// A moment with a name, at which a test may stop the process or turn a rule off.
///
/// It is that of the crate `fail` with the feature `failpoints`, and nothing at all without: no crate
/// is linked and no code is left. A name is `"crate::module::moment"`; `"sabotage::…"` breaks a rule
/// on purpose, and `"tune::…"` makes a constant smaller. `cargo xtask chaos` finds them by reading the
/// sources, so the name stands beside the macro as a literal.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! fail_point {
    ($($any:tt)*) => {};
}

#[cfg(feature = "failpoints")]
pub use fail::fail_point;
