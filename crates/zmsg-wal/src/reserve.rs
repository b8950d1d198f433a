//! A little space that is kept for the day the disk is full: without it a full log could neither be
//! opened nor record what was delivered, and so could never become smaller.

use std::path::Path;

use crate::Fs;

/// The name of the file that holds the space.
pub(crate) const NAME: &str = "RESERVE";

/// Room for the header of a segment, and for a checkpoint, in blocks of any usual size.
const BYTES: u64 = 64 * 1024;

/// Takes the space, if there is any and it is not taken.
pub(crate) fn take(fs: &dyn Fs, dir: &Path, segment_bytes: u64) {
    let path = dir.join(NAME);
    let Ok(file) = fs.create(&path) else { return };
    if file.allocate(BYTES.min(segment_bytes)).is_err() {
        drop(file);
        release(fs, dir);
    }
}

/// Gives the space back. That there was none is no error.
pub(crate) fn release(fs: &dyn Fs, dir: &Path) {
    let _ = fs.remove(&dir.join(NAME));
}
