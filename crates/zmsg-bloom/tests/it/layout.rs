//! The layout of format 1 is fixed: bits that left the process are read by other versions.
//!
//! The numbers here were computed from the definition with the reference implementation of XXH3,
//! not with this crate.

use zmsg_bloom::{Bits, Header, KeyHash, Params};

#[test]
fn format_1_places_keys_where_it_always_did() {
    let params = Params::new(1_000_000, 0.01).unwrap();
    let header = Header::new(&params, 42, 1);
    assert_eq!((header.format, header.bits, header.hashes), (1, 9_585_059, 7));
    let positions = |key| {
        let hash = KeyHash::new(key, header.seed);
        hash.positions(header.bits, header.hashes).collect::<Vec<_>>()
    };
    assert_eq!(
        positions("feed_1"),
        [8901594, 6385065, 3868535, 1352005, 8420535, 5904005, 3387476]
    );
    assert_eq!(positions("键:1"), [2287257, 1113593, 9524988, 8351324, 7177660, 6003997, 4830333]);
}

#[test]
fn format_1_writes_the_bits_of_a_key_in_redis_order() {
    let bits = Bits::new(64);
    bits.set(KeyHash::new("feed_1", 42).positions(64, 4));
    assert_eq!(bits.to_bytes(), [0, 64, 0, 64, 0, 32, 0, 16]);
}

#[test]
fn a_bitmap_that_went_through_bytes_answers_the_same() {
    let (size, hashes) = (9_601, 7);
    let bits = Bits::new(size);
    for number in 0..1_000 {
        bits.set(KeyHash::new(&format!("feed_{number}"), 1).positions(size, hashes));
    }
    let copy = Bits::from_bytes(&bits.to_bytes(), size).unwrap();
    assert_eq!((copy.size(), copy.ones()), (bits.size(), bits.ones()));
    for number in 0..1_000 {
        let mut positions = KeyHash::new(&format!("feed_{number}"), 1).positions(size, hashes);
        assert!(positions.all(|position| copy.get(position)), "feed_{number}");
    }
}

#[test]
fn a_filter_with_another_format_size_or_seed_is_not_the_same_layout() {
    let header = Header::new(&Params::new(1_000, 0.01).unwrap(), 42, 1);
    assert!(header.same_layout(&Header { generation: 9, ..header }));
    for other in [
        Header { format: 2, ..header },
        Header { bits: header.bits + 1, ..header },
        Header { hashes: header.hashes + 1, ..header },
        Header { seed: 43, ..header },
    ] {
        assert!(!header.same_layout(&other), "{other:?}");
    }
}
