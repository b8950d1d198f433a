//! Servers for the tests: found, started privately, killed, and reached through a faulty proxy.
