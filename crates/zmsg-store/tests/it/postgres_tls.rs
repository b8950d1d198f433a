//! Encrypted connections, with an authority made for the test.

use std::process::Command;

use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, Value};
use zmsg_store::{PostgresOptions, PostgresStore, TlsMode};
use zmsg_testbed::Requirement;
use zmsg_testbed::private::{self, PrivatePostgres};

use crate::postgres::one;

/// An authority, and a certificate of it for `localhost`.
struct Authority(TempDir);

impl Authority {
    /// None, said once, where there is no program to make one.
    fn make() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            Requirement::Binaries.leave_out("openssl is not on this machine");
            return None;
        }
        Some(Self::new())
    }

    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test",
        );
        authority.openssl(
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        );
        std::fs::write(authority.0.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        authority.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile names -out server.crt",
        );
        authority
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn trusted(&self) -> TlsMode {
        TlsMode::Verified { ca_file: Some(self.0.path().join("ca.pem")) }
    }
}

/// A server that talks to nobody in the clear.
fn server(authority: &Authority) -> Option<PrivatePostgres> {
    let options = private::PostgresOptions::new()
        .file("server.key", authority.file("server.key"))
        .file("server.crt", authority.file("server.crt"))
        .file("pg_hba.conf", "hostnossl all all all reject\nhostssl all all all scram-sha-256\nlocal all all trust\n")
        .setting("ssl", "on");
    PrivatePostgres::start(options)
}

async fn connect(url: &str, tls: TlsMode) -> zmsg_core::Result<PostgresStore> {
    let options = PostgresOptions { tls, ..PostgresOptions::new(url) };
    PostgresStore::open(options, TaskTracker::new()).await
}

#[tokio::test]
async fn a_certificate_is_verified_against_the_authority_and_the_name() {
    let Some(authority) = Authority::make() else { return };
    let Some(server) = server(&authority) else { return };
    let by_name = server.url().replace("127.0.0.1", "localhost");

    let store = connect(&by_name, authority.trusted()).await.unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(one(&store, encrypted).await, Value::Bool(true));

    let by_address = connect(&server.url(), authority.trusted()).await.unwrap_err();
    assert_eq!(by_address.kind(), ErrorKind::Unavailable, "not a name of the certificate");
    let stranger = connect(&by_name, Authority::new().trusted()).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Unavailable, "not an authority of ours");
    let required = connect(&format!("{by_name}?sslmode=require"), TlsMode::Auto).await.unwrap_err();
    assert_eq!(required.kind(), ErrorKind::Unavailable, "the machine does not know the authority");
    let clear = connect(&by_name, TlsMode::Plaintext).await.unwrap_err();
    assert_eq!(clear.kind(), ErrorKind::InvalidConfig, "the server takes no clear connections");
}

#[tokio::test]
async fn the_password_comes_from_beside_the_url_and_a_wrong_one_is_told() {
    let Some(server) = PrivatePostgres::start(private::PostgresOptions::new()) else { return };
    let url = server.url().replace(server.password(), "");
    let url = url.replace(":@", "@");
    let with = |password: &str| PostgresOptions {
        password: Some(password.to_owned()),
        ..PostgresOptions::new(url.as_str())
    };
    let store = PostgresStore::open(with(server.password()), TaskTracker::new()).await.unwrap();
    assert_eq!(one(&store, "SELECT 1").await, Value::Int(1));
    let wrong = PostgresStore::open(with("hunter2"), TaskTracker::new()).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidConfig, "{wrong}");
    assert!(!format!("{wrong:?}").contains("hunter2"));
}
