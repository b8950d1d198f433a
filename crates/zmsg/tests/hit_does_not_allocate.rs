//! A `get` that L1 answers allocates nothing. A binary of its own: it counts every allocation.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use zmsg::{Config, Zmsg};

#[tokio::test]
async fn a_get_that_hits_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let zmsg = Zmsg::open(Config::embedded(dir.path())).await.unwrap();
    let _ = zmsg.put("greeting", "hello").await.unwrap();
    // The first hit of a thread sets it up, and after some more it makes its copy of the value.
    for _ in 0..20 {
        assert!(zmsg.get("greeting").await.unwrap().is_some());
    }

    let hits = allocation_counter::measure(|| {
        for _ in 0..1000 {
            // Polled by hand: a hit is ready at the first poll, and counts are per thread.
            let get = pin!(zmsg.get("greeting"));
            let Poll::Ready(value) = get.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("a hit does not wait");
            };
            assert_eq!(value.unwrap().as_deref(), Some(&b"hello"[..]));
        }
    });
    assert_eq!((hits.count_total, hits.bytes_total), (0, 0));
}
