//! Connections that nobody reads on the way.

use std::path::Path;
use std::process::Command;

use zmsg_core::ErrorKind;
use zmsg_redis::{Certificates, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions, free_port};

use crate::support::{open, patient, read, write};

/// An authority, and a certificate of it for `localhost`.
struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let run = |line: &str| {
            let ran = Command::new("openssl")
                .args(line.split(' '))
                .current_dir(directory.path())
                .output()
                .ok()?;
            assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
            Some(())
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=tests"))?;
        run(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"))?;
        std::fs::write(directory.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        run(&format!("x509 -req -in server.csr {signed} -out server.pem"))?;
        Some(Self { directory })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// A server that speaks TLS on the port given back. `None` where it was built without.
fn server(authority: &Authority) -> Option<(PrivateRedis, u16)> {
    let port = free_port();
    let options = PrivateOptions::new()
        .without_password()
        .directive(format!("tls-port {port}"))
        .directive(format!("tls-cert-file {}", authority.path("server.pem")))
        .directive(format!("tls-key-file {}", authority.path("server.key")))
        .directive(format!("tls-ca-cert-file {}", authority.path("ca.pem")))
        .directive("tls-auth-clients no");
    Some((PrivateRedis::start(options)?, port))
}

fn trusting(url: &str, certificates: Certificates) -> RedisOptions {
    let mut options = patient(url);
    options.certificates = certificates;
    options
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_authority_and_the_name() {
    let Some(authority) = Authority::new() else { return };
    let Some((_server, port)) = server(&authority) else { return };
    let file = || Certificates::File(authority.path("ca.pem").into());
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
