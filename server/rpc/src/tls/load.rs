//! Makes of the files that the settings name what connections are made with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::tls::{
    choice,
    error::TlsError,
    settings::{CaCert, Tls},
    trust::ServerTrust,
};

const PRIVATE_KEY: &str = "--private-key";
const CERTIFICATE: &str = "--certificate";
const CA_CERT: &str = "--ca-cert";
const BOOTSTRAP_CA_CERT: &str = "--bootstrap-ca-cert";
const PEER_CA_CERT: &str = "--peer-ca-cert";

/// What connections are made with.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// For those that come; None until there is an authority.
    pub(crate) server: Option<Arc<ServerConfig>>,
    /// For those we dial.
    pub(crate) client: Arc<ClientConfig>,
    /// Where the first server's authority is to be written; set while any server is believed for that.
    pub(crate) bootstrap: Option<PathBuf>,
    /// The name to ask servers for.
    pub(crate) server_name: Option<String>,
}

/// What our own end shows.
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Their files, for messages.
    certificate_path: PathBuf,
    key_path: PathBuf,
}

/// Reads everything.
pub(crate) fn load(tls: &Tls) -> Result<Loaded, TlsError> {
    let own = read_own(tls)?;
    let (authorities, bootstrap) = read_authorities(tls)?;
    let versions = choice::protocols(tls)?;
    let provider = Arc::new(choice::provider(tls, &versions)?);
    let server = match (&authorities, &bootstrap) {
        (None, Some(_)) => None,
        (authorities, _) => Some(Arc::new(server(&own, authorities.as_ref(), &provider, &versions)?)),
    };
    let client = Arc::new(client(&own, authorities, provider, &versions)?);
    Ok(Loaded {
        server,
        client,
        bootstrap,
        server_name: tls.server_name.clone(),
    })
}

fn server(
    own: &Own,
    authorities: Option<&Arc<RootCertStore>>,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let builder = match authorities {
        Some(authorities) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), Arc::clone(provider)).build();
            let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let made = builder.with_single_cert(own.chain.clone(), own.key.clone_key());
    let mut config = made.map_err(|error| own.explain(error))?;
    // Every connection shows its certificate, so that one that has expired meanwhile is not let in once more.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    own: &Own,
    authorities: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    let trust = ServerTrust {
        authorities,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust));
    let made = builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key());
    let mut config = made.map_err(|error| own.explain(error))?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl Own {
    /// The library's words where they are about what was given.
    fn explain(&self, error: rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                private_key: self.key_path.clone(),
                certificate: self.certificate_path.clone(),
            },
            rustls::Error::InvalidCertificate(problem) => TlsError::Content {
                option: CERTIFICATE,
                path: self.certificate_path.clone(),
                problem: problem.to_string(),
            },
            rustls::Error::General(problem) => TlsError::Content {
                option: PRIVATE_KEY,
                path: self.key_path.clone(),
                problem,
            },
            other => TlsError::Library(other),
        }
    }
}

fn read_own(tls: &Tls) -> Result<Own, TlsError> {
    let key_path = needed(
        tls.private_key.as_deref(),
        PRIVATE_KEY,
        "the key that this server proves itself with",
    )?;
    let certificate_path = needed(
        tls.certificate.as_deref(),
        CERTIFICATE,
        "the certificate that this server shows",
    )?;
    let mut chain = read_certificates(CERTIFICATE, certificate_path)?;
    if let Some(path) = &tls.peer_ca_cert {
        chain.extend(read_certificates(PEER_CA_CERT, path)?);
    }
    Ok(Own {
        chain,
        key: read_key(key_path)?,
        certificate_path: certificate_path.to_owned(),
        key_path: key_path.to_owned(),
    })
}

fn needed<'a>(path: Option<&'a Path>, option: &'static str, what: &'static str) -> Result<&'a Path, TlsError> {
    path.ok_or(TlsError::Missing { option, what })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(PRIVATE_KEY, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Content {
        option: PRIVATE_KEY,
        path: path.to_owned(),
        problem: match error {
            pem::Error::NoItemsFound if is_encrypted(&text) => "the key is encrypted; it must not be".to_owned(),
            pem::Error::NoItemsFound => "it has no private key in PEM".to_owned(),
            // Never the text itself.
            _ => "it is not PEM".to_owned(),
        },
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    let marker = b"BEGIN ENCRYPTED PRIVATE KEY";
    text.windows(marker.len()).any(|part| part == marker)
}

/// Who vouches for peers, None for nobody has to; and where that is still to be found out, the file to write it to.
fn read_authorities(tls: &Tls) -> Result<(Option<Arc<RootCertStore>>, Option<PathBuf>), TlsError> {
    let (option, path) = match &tls.ca_cert {
        None => {
            return Err(TlsError::Missing {
                option: CA_CERT,
                what: "the certificate of who vouches for peers (or the word none, and anybody is let in)",
            });
        }
        Some(CaCert::None) => return Ok((None, None)),
        Some(CaCert::Bootstrap(path)) if is_missing(path) => return Ok((None, Some(path.clone()))),
        Some(CaCert::Bootstrap(path)) => (BOOTSTRAP_CA_CERT, path),
        Some(CaCert::File(path)) => (CA_CERT, path),
    };
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(option, path)? {
        authorities.add(certificate).map_err(|error| TlsError::Content {
            option,
            path: path.clone(),
            problem: error.to_string(),
        })?;
    }
    Ok((Some(Arc::new(authorities)), None))
}

fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// All certificates of a file, at least one.
fn read_certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |problem: String| TlsError::Content {
        option,
        path: path.to_owned(),
        problem,
    };
    let text = read(option, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| content(format!("it is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(content("it has no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable {
        option,
        path: path.to_owned(),
        cause,
    })
}
