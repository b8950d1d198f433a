//! Ports that nobody listens on.

use std::net::TcpListener;

use crate::random;

/// Below the range from which systems take the ports of outgoing connections: a server that is
/// killed and started again must find its port free.
const FIRST: u16 = 16_000;
const COUNT: u32 = 6_000;

/// Redis Cluster listens on a second port, this far above the first.
const CLUSTER_BUS: u16 = 10_000;

/// A port of 127.0.0.1 on which nobody listens at the moment, nor 10,000 above it.
///
/// # Panics
/// If hardly any port is free.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let offset = u16::try_from(random::below(COUNT)).unwrap_or_default();
        let port = FIRST + offset;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + CLUSTER_BUS) {
            return port;
        }
    }
    panic!("no port is free between {FIRST} and {}", u32::from(FIRST) + COUNT)
}
