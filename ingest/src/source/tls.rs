//! From a PostgreSQL URL to connection settings that cannot be weaker than they look: what libpq calls `require` verifies
//! certificate and host name here too, and there is no silent fall-back to a connection in the clear. No error repeats any part
//! of the URL, since a part that was cut wrongly may be the password.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::SourceError;

/// How long to wait for a connection when the URL doesn't say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to connect, and how.
pub(super) struct Target {
    pub(super) config: Config,
    /// TLS, where the URL asks for it.
    pub(super) tls: Option<MakeRustlsConnect>,
}

impl Target {
    /// Reads a URL as [`ConnectionSpec::Postgres`](super::ConnectionSpec::Postgres) describes it.
    pub(super) fn parse(url: &SecretString) -> Result<Self, SourceError> {
        let url = url.expose_secret();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(unavailable("the connection url must start with `postgres://`"));
        }
        let (rest, mode, roots) = take_tls_parameters(url)?;
        let mut config = Config::from_str(&rest).map_err(|_| {
            unavailable(
                "the connection url cannot be read: it must be `postgres://user:password@host:port/database?…`, special \
                 characters percent-encoded, with parameters known to tokio-postgres",
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(unavailable("the connection url names no host"));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("countersign");
        }
        let tls = match mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => {
                config.ssl_mode(SslMode::Require);
                Some(MakeRustlsConnect::new(verifying(roots.as_deref())?))
            }
            Some("disable") => None,
            None | Some("prefer") if is_local(&config) => None,
            None | Some("prefer") => {
                return Err(unavailable(
                    "the connection url leaves it open whether to use tls: add `sslmode=verify-full`, or `sslmode=disable` \
                     for a network that you trust",
                ));
            }
            Some(_) => {
                return Err(unavailable(
                    "the connection url has an unknown sslmode, known are disable, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        if tls.is_none() {
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self { config, tls })
    }
}

/// Takes `sslmode` and `sslrootcert`, which tokio-postgres doesn't know in full, out of the URL's parameters.
fn take_tls_parameters(url: &str) -> Result<(String, Option<String>, Option<String>), SourceError> {
    // A `?` before the `@` belongs to the password.
    let after_credentials = url.find('@').unwrap_or(0);
    let question = url.get(after_credentials..).and_then(|tail| tail.find('?')).map(|at| after_credentials + at);
    let Some((base, query)) = question.and_then(|at| url.split_at_checked(at)) else {
        return Ok((url.to_owned(), None, None));
    };
    let (mut mode, mut roots, mut kept) = (None, None, Vec::new());
    for parameter in query.trim_start_matches('?').split('&') {
        let slot = match parameter.split_once('=') {
            Some(("sslmode", value)) => Some((&mut mode, value)),
            Some(("sslrootcert", value)) => Some((&mut roots, value)),
            _ => None,
        };
        match slot {
            Some((slot, value)) if slot.is_none() => {
                *slot = Some(
                    percent_decoded(value)
                        .ok_or_else(|| unavailable("the connection url has a malformed percent-encoding"))?,
                );
            }
            Some(_) => return Err(unavailable("the connection url states a tls parameter twice")),
            None => kept.push(parameter),
        }
    }
    kept.retain(|parameter| !parameter.is_empty());
    let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    Ok((rest, mode, roots))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Whether no packet can leave this machine.
fn is_local(config: &Config) -> bool {
    let local_name = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    // An address given beside the name is where the connection really goes.
    config.get_hosts().iter().all(local_name) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// TLS settings that verify the certificate chain and the host name.
fn verifying(roots: Option<&str>) -> Result<ClientConfig, SourceError> {
    let mut store = RootCertStore::empty();
    match roots {
        None | Some("system") => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(unavailable(
                    "the operating system has no trusted certificates: name some with `sslrootcert=FILE`",
                ));
            }
        }
        Some(file) => {
            let unreadable = |_| unavailable("the file that `sslrootcert` names cannot be read as PEM certificates");
            for certificate in CertificateDer::pem_file_iter(Path::new(file)).map_err(unreadable)? {
                store.add(certificate.map_err(unreadable)?).map_err(|_| {
                    unavailable("the file that `sslrootcert` names holds a certificate that is not valid")
                })?;
            }
            if store.is_empty() {
                return Err(unavailable("the file that `sslrootcert` names holds no certificate"));
            }
        }
    }
    // The provider is named here so that a library user needs no process-wide default.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| unavailable("no tls version is available"))
        .map(|builder| builder.with_root_certificates(store).with_no_client_auth())
}

fn unavailable(what: &str) -> SourceError {
    SourceError::Unavailable(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the URL leads to a connection with TLS, or part of the error.
    fn check(url: &str, expected: Result<bool, &str>) {
        let target = Target::parse(&SecretString::from(url.to_owned()));
        match (target, expected) {
            (Ok(target), Ok(tls)) => {
                assert_eq!(target.tls.is_some(), tls, "{url}");
                let mode = if tls { SslMode::Require } else { SslMode::Disable };
                assert_eq!(target.config.get_ssl_mode(), mode, "{url}");
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{url}: {error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error:?}");
                assert_eq!(error.reason(), "source_unavailable");
            }
            (Ok(_), Err(part)) => panic!("{url}: accepted, expected an error with `{part}`"),
            (Err(error), Ok(_)) => panic!("{url}: {error}"),
        }
    }

    #[test]
    fn tls_is_what_the_url_says_or_an_error() {
        check("postgres://u:hunter2@localhost/d", Ok(false));
        check("postgres://u:hunter2@127.0.0.1:5432/d?sslmode=prefer", Ok(false));
        check("postgres://u:hunter2@[::1]/d", Ok(false));
        check("postgres://u:hunter2@%2Frun%2Fpostgresql/d", Ok(false));
        check("postgres://u:hunter2@db.example/d?sslmode=disable", Ok(false));
        check("postgres://u:hunter2@db.example/d?sslmode=require", Ok(true));
        check("postgres://u:hunter2@db.example/d?sslmode=verify-ca&application_name=x", Ok(true));
        check("postgresql://u:hunter2@db.example/d?application_name=x&sslmode=verify-full", Ok(true));
        check("postgres://u:hunter2@db.example/d", Err("leaves it open whether to use tls"));
        check("postgres://u:hunter2@db.example/d?sslmode=prefer", Err("leaves it open whether to use tls"));
        check("postgres://u:hunter2@localhost,db.example/d", Err("leaves it open whether to use tls"));
        check("postgres://u:hunter2@localhost/d?hostaddr=192.0.2.1", Err("leaves it open whether to use tls"));
        check("postgres://u:hunter2@localhost/d?sslmode=allow", Err("unknown sslmode"));
        check("postgres://u:hunter2@localhost/d?sslmode=require&sslmode=disable", Err("twice"));
        check("postgres://u:hunter2@localhost/d?ssl%6Dode=disable&sslmode=require", Ok(true));
        check("postgres://u:hunter2@h/d?sslmode=require&sslrootcert=/nonexistent/ca", Err("`sslrootcert`"));
        check("postgres://u:hunter2@h/d?sslmode=require&sslrootcert=%zz", Err("percent-encoding"));
        check("postgres://u:hun?ter2@h/d?hunter2=1", Err("cannot be read"));
        check("postgres://u:hunter2@h:port/d", Err("cannot be read"));
        check("host=localhost password=hunter2", Err("must start with"));
        check("hunter2", Err("must start with"));
    }
}
