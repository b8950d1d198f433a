//! Benchmarks of zmsg beside its peers; see `cargo xtask bench`.
