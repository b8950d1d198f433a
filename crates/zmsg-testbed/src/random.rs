//! Unguessable text, for passwords and names.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

/// As many random bytes in hexadecimal.
///
/// # Panics
/// If the system has no `/dev/urandom`.
pub(crate) fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.expect("/dev/urandom gives random bytes");
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A random number below `bound`.
pub(crate) fn below(bound: u32) -> u32 {
    u32::from_str_radix(&hex(4), 16).unwrap_or(0) % bound
}
