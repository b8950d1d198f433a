//! A certificate authority of one's own.

use std::process::Command;

use super::directory::Directory;

/// An authority, and a certificate of it for `localhost`.
#[derive(Debug)]
pub struct PrivateAuthority {
    directory: Directory,
}

impl PrivateAuthority {
    /// Makes the keys and certificates; `None` where there is no `openssl`.
    ///
    /// # Panics
    /// If `openssl` fails.
    #[must_use]
    pub fn new() -> Option<Self> {
        let directory = Directory::create(None).expect("a temporary directory");
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
        directory.write("names", b"subjectAltName=DNS:localhost").expect("a file");
        let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        run(&format!("x509 -req -in server.csr {signed} -out server.pem"))?;
        Some(Self { directory })
    }

    /// The certificate of the authority, a PEM file.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.path("ca.pem")
    }

    /// What a Redis server is told to speak TLS on this port, with the certificate for `localhost`.
    #[must_use]
    pub fn redis_directives(&self, port: u16) -> [String; 5] {
        [
            format!("tls-port {port}"),
            format!("tls-cert-file {}", self.path("server.pem")),
            format!("tls-key-file {}", self.path("server.key")),
            format!("tls-ca-cert-file {}", self.path("ca.pem")),
            "tls-auth-clients no".to_owned(),
        ]
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}
