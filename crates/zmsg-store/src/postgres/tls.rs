//! Encryption: whether, and whom to trust.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use zmsg_core::{Error, Result};

use super::TlsMode;

/// The connector for a server, and the mode that the driver is to insist on.
pub(super) fn connector(mode: &TlsMode, config: &mut Config) -> Result<Option<MakeRustlsConnect>> {
    let ca_file = match mode {
        TlsMode::Plaintext => {
            config.ssl_mode(SslMode::Disable);
            return Ok(None);
        }
        TlsMode::Auto if is_local(config) && config.get_ssl_mode() != SslMode::Require => {
            config.ssl_mode(SslMode::Disable);
            return Ok(None);
        }
        TlsMode::Auto if config.get_ssl_mode() == SslMode::Disable => {
            return Err(Error::invalid_config(
                "sslmode=disable to another machine: statements and their data would travel in \
                 the clear; allow it by the tls setting if that is meant",
            ));
        }
        TlsMode::Auto => None,
        TlsMode::Verified { ca_file } => ca_file.as_deref(),
    };
    config.ssl_mode(SslMode::Require);
    let roots = roots(ca_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| Error::invalid_config("TLS cannot be used").with_source(cause))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(client)))
}

/// True if every host is this machine.
fn is_local(config: &Config) -> bool {
    let by_name = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .trim_matches(['[', ']'])
                    .parse()
                    .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    // Where addresses are given they are what is connected to, whatever the names say.
    if config.get_hostaddrs().is_empty() {
        config.get_hosts().iter().all(by_name)
    } else {
        config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let failed = |cause: rustls_pki_types::pem::Error| {
                Error::invalid_config("could not read the certificates of the authorities")
                    .with_context("ca_file", path.display())
                    .with_source(cause)
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                roots.add(certificate.map_err(failed)?).map_err(|cause| {
                    Error::invalid_config("a certificate of an authority cannot be used")
                        .with_context("ca_file", path.display())
                        .with_source(cause)
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::invalid_config("there is no certificate of an authority to trust")
            .with_context(
                "ca_file",
                ca_file.map_or("the machine's".into(), Path::to_string_lossy),
            ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use zmsg_core::ErrorKind;

    use super::*;

    fn decide(mode: &TlsMode, url: &str) -> Result<SslMode> {
        let mut config: Config = url.parse().unwrap();
        connector(mode, &mut config).map(|_| config.get_ssl_mode())
    }

    #[test]
    fn the_clear_is_for_this_machine_unless_it_is_asked_for() {
        let auto = TlsMode::Auto;
        for url in [
            "postgres://localhost/x",
            "postgres://127.0.0.1/x?sslmode=disable",
            "postgres://[::1]/x",
            "host=/var/run/postgresql",
            "host=db hostaddr=127.0.0.1",
        ] {
            assert_eq!(decide(&auto, url).unwrap(), SslMode::Disable, "{url}");
        }
        let refused = decide(&auto, "postgres://db.example/x?sslmode=disable").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
        let mixed = decide(&auto, "postgres://localhost,db.example/x?sslmode=disable");
        assert!(mixed.is_err(), "one host elsewhere is enough");
        let spoofed = decide(&auto, "host=localhost hostaddr=10.0.0.1 sslmode=disable");
        assert!(spoofed.is_err(), "the address counts, not the name");
        let allowed = decide(&TlsMode::Plaintext, "postgres://db.example/x").unwrap();
        assert_eq!(allowed, SslMode::Disable);
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, "not a certificate").unwrap();
        let mode = TlsMode::Verified { ca_file: Some(ca_file) };
        let error = decide(&mode, "postgres://localhost/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}
