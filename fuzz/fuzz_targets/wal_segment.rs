//! Any bytes as the segment of a log.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = zmsg_wal::testing::check_segment(bytes);
});
