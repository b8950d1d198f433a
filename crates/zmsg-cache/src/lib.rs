//! The two cache tiers, single flight, and the fences that keep stale values out.
