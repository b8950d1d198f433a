//! Connections that nobody reads on the way.

use std::path::Path;

use zmsg_core::ErrorKind;
use zmsg_redis::{Certificates, RedisOptions};
use zmsg_testbed::private::{
    PrivateAuthority, PrivateRedis, RedisOptions as PrivateOptions, free_port,
};

use crate::support::{open, patient, read, write};

/// A server that speaks TLS on the port given back. `None` where it was built without.
fn server(authority: &PrivateAuthority) -> Option<(PrivateRedis, u16)> {
    let (port, open) = (free_port(), PrivateOptions::new().without_password());
    let directives = authority.redis_directives(port);
    let options = directives.into_iter().fold(open, PrivateOptions::directive);
    Some((PrivateRedis::start(options)?, port))
}

fn trusting(url: &str, certificates: Certificates) -> RedisOptions {
    let mut options = patient(url);
    options.certificates = certificates;
    options
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_authority_and_the_name() {
    let Some(authority) = PrivateAuthority::new() else { return };
    let Some((_server, port)) = server(&authority) else { return };
    let file = || Certificates::File(authority.certificate().into());
    let named = format!("rediss://localhost:{port}");
    write(&open(trusting(&named, file())), "a", "one").await.unwrap();

    let numbered = format!("rediss://127.0.0.1:{port}");
    for (options, why) in [
        (trusting(&named, Certificates::System), "an authority that the system does not know"),
        (trusting(&numbered, file()), "another name"),
    ] {
        let redis = open(options);
        let error = read(&redis, "a").await.expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{why}: {error}");
        assert!(error.to_string().contains("ertificate"), "{why}: {error}");
    }
    let unchecked = open(trusting(&numbered, Certificates::Unchecked));
    assert_eq!(read(&unchecked, "a").await.unwrap().as_deref(), Some("one"));
}

#[tokio::test]
async fn a_file_with_authorities_is_read_when_opening() {
    let tracker = tokio_util::task::TaskTracker::new();
    let missing = Certificates::File(Path::new("/nowhere/ca.pem").to_owned());
    let error =
        zmsg_redis::Redis::open(trusting("rediss://localhost", missing), &tracker).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}
