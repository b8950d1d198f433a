//! The log on real files, and on a file system that fails.

mod basics;
