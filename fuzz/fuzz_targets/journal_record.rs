//! Any bytes as a record of the journal.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = zmsg_aggregate::testing::check_journal_record(bytes);
});
