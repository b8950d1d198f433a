//! Checksums of scripts.

use sha2::{Digest, Sha256};

/// SHA-256 of some texts, in hexadecimal; `\r\n` counts as `\n`, and where one text ends matters.
pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        let normal = text.replace("\r\n", "\n");
        hasher.update((normal.len() as u64).to_le_bytes());
        hasher.update(normal);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
