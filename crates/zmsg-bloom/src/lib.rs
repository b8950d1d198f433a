//! Membership filters that never give a false absent.
