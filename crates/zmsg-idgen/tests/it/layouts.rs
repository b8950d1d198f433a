//! Layouts: what is refused, and what the default gives.

use std::sync::Arc;

use zmsg_core::{ErrorKind, ManualClock};
use zmsg_idgen::{FixedLease, IdGenerator, IdOptions, IdParts, Layout, RawId};

#[test]
fn the_default_is_that_of_the_documentation() {
    let layout = Layout::default();
    assert_eq!(layout.to_string(), "1609459200000/41/10/12");
    assert_eq!((layout.nodes(), layout.sequences()), (1024, 4096));
    // 2090-09-06T15:47:35.551Z.
    assert_eq!(layout.last_ms(), 3_808_482_455_551);
    assert_eq!(Layout::new(Layout::EPOCH_2021_MS, 41, 10, 12).unwrap(), layout);
}

#[test]
fn bits_that_do_not_add_up_are_refused_even_where_a_byte_would_wrap() {
    for (time, node, sequence) in [
        (41, 10, 11),
        (41, 10, 13),
        (200, 60, 59),
        (255, 255, 65),
        (63, 0, 0),
        (62, 1, 0),
        (62, 0, 1),
        (37, 13, 13),
        (0, 31, 32),
    ] {
        let error = Layout::new(0, time, node, sequence).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{time}/{node}/{sequence}");
    }
    assert!(Layout::new(u64::MAX, 41, 10, 12).is_err());
}

#[test]
fn every_layout_that_is_accepted_fills_its_bits() {
    for time in Layout::TIME_BITS_MIN..=61 {
        for node in 1..=62 - time {
            let layout = Layout::new(5, time, node, 63 - time - node).unwrap();
            let (nodes, sequences) = (layout.nodes(), layout.sequences());
            let parts =
                IdParts { time: layout.last_ms(), node: nodes - 1, sequence: sequences - 1 };
            let last = layout.encode(parts).unwrap();
            assert_eq!(last, RawId::new(i64::MAX as u64).unwrap(), "{layout}");
            assert_eq!(layout.decode(last), parts);
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let layout = Layout::default();
    let good = IdParts { time: layout.epoch_ms() + 1, node: 1023, sequence: 4095 };
    assert!(layout.encode(good).is_ok());
    for bad in [
        IdParts { node: 1024, ..good },
        IdParts { sequence: 4096, ..good },
        IdParts { time: layout.epoch_ms() - 1, ..good },
        IdParts { time: layout.last_ms() + 1, ..good },
    ] {
        assert_eq!(layout.encode(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
}

#[tokio::test]
async fn an_epoch_in_the_future_is_refused() {
    let clock = Arc::new(ManualClock::new(Layout::EPOCH_2021_MS - 1));
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let started = IdGenerator::start(Layout::default(), lease, clock, IdOptions::default()).await;
    assert_eq!(started.unwrap_err().kind(), ErrorKind::InvalidConfig);
}
