//! What TLS of this process is made of. No secret is in here: only the names of files.

use std::path::{Path, PathBuf};

use crate::tls::{error::TlsError, load::load};

/// Keys, certificates and what of TLS may be used, for all `pssl:` and `ssl:` remotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `--private-key`: PEM, with one private key.
    pub private_key: Option<PathBuf>,
    /// `--certificate`: PEM, with the certificate of that key.
    pub certificate: Option<PathBuf>,
    /// Who may vouch for peers; None where nothing was said, with which no connection can be made.
    pub ca_cert: Option<CaCert>,
    /// `--peer-ca-cert`: PEM, with certificates that are sent after our own, for peers that bootstrap.
    pub peer_ca_cert: Option<PathBuf>,
    /// `--ssl-protocols`: names as `TLSv1.2,TLSv1.3`, or `TLSv1.2+`; None for 1.2 and 1.3.
    pub protocols: Option<String>,
    /// `--ssl-ciphers`: cipher suites of TLS 1.2 by OpenSSL's names; None for all.
    pub ciphers: Option<String>,
    /// `--ssl-ciphersuites`: cipher suites of TLS 1.3 by OpenSSL's names; None for all.
    pub ciphersuites: Option<String>,
    /// `--ssl-server-name`: the name that `ssl:` remotes ask for (RFC 6066 3); None for the one in the remote's text.
    pub server_name: Option<String>,
}

/// Who may vouch for peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaCert {
    /// `--ca-cert=FILE`: the certificates in this PEM file.
    File(PathBuf),
    /// `--bootstrap-ca-cert=FILE`: as `File`; where the file does not exist, the first peer's own authority is believed and written there.
    Bootstrap(PathBuf),
    /// `--ca-cert=none`: nobody has to; peers need not even have a certificate.
    None,
}

impl Tls {
    /// Reads all files, and tells what is missing or wrong. A file of `--bootstrap-ca-cert` that does not exist is neither.
    ///
    /// # Errors
    /// [`TlsError`], which names the option and the file.
    pub fn check(&self) -> Result<(), TlsError> {
        load(self).map(|_| ())
    }

    /// All files named.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let ca_cert = match &self.ca_cert {
            Some(CaCert::File(path) | CaCert::Bootstrap(path)) => Some(path),
            Some(CaCert::None) | None => None,
        };
        let others = [&self.private_key, &self.certificate, &self.peer_ca_cert];
        others.into_iter().flatten().chain(ca_cert).map(PathBuf::as_path)
    }
}
