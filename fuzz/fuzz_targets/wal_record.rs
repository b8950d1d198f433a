//! Any bytes as a record of a segment.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = zmsg_wal::testing::check_record(bytes);
});
