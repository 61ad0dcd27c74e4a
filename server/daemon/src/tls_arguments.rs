//! The part of the command line that is about TLS, in the words of `ovsdb-server(1)`, "Public Key Infrastructure Options".
//!
//! Where a file or a list is wanted, `db:DATABASE,TABLE,COLUMN` names a column that says which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use nonnet_rpc::{CaCert, Tls};

use crate::remotes::{ColumnError, DbColumn};

/// The word for no certificate authority at all.
const NO_AUTHORITY: &str = "none";

/// What the command line says about TLS.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS, for pssl: and ssl: remotes and sources")]
pub(crate) struct TlsArguments {
    /// The private key that this server proves itself with, in PEM; read again when it changes, as are the others.
    #[arg(short = 'p', long, value_name = "FILE")]
    private_key: Option<String>,

    /// The certificate that this server shows.
    #[arg(short = 'c', long, value_name = "FILE")]
    certificate: Option<String>,

    /// The certificate of who vouches for peers; the word none lets anybody in.
    #[arg(short = 'C', long, value_name = "FILE")]
    ca_cert: Option<String>,

    /// As --ca-cert; where there is no such file, it is made of what the first server that an ssl: remote reaches shows.
    #[arg(long, value_name = "FILE", conflicts_with = "ca_cert")]
    bootstrap_ca_cert: Option<String>,

    /// Certificates that are sent after the server's own, for peers that bootstrap.
    #[arg(long, value_name = "FILE")]
    peer_ca_cert: Option<String>,

    /// Versions of TLS, of TLSv1.2 and TLSv1.3: a list, or a first one with a plus sign.
    #[arg(long, value_name = "LIST")]
    ssl_protocols: Option<String>,

    /// Cipher suites for TLS 1.2, by OpenSSL's names.
    #[arg(long, value_name = "LIST")]
    ssl_ciphers: Option<String>,

    /// Cipher suites for TLS 1.3, by OpenSSL's names.
    #[arg(long, value_name = "LIST")]
    ssl_ciphersuites: Option<String>,

    /// The name that ssl: remotes ask for; without it, that in the remote.
    #[arg(long, value_name = "NAME")]
    ssl_server_name: Option<String>,
}

impl TlsArguments {
    /// Makes file names independent of the working directory.
    pub(crate) fn settle(&mut self, here: &Path) {
        let files = [
            &mut self.private_key,
            &mut self.certificate,
            &mut self.ca_cert,
            &mut self.bootstrap_ca_cert,
            &mut self.peer_ca_cert,
        ];
        for file in files.into_iter().flatten() {
            if !DbColumn::is_named_by(file) && file != NO_AUTHORITY {
                *file = here.join(&*file).display().to_string();
            }
        }
    }

    /// The columns that some of it is read from.
    ///
    /// # Errors
    /// A text that names no column.
    pub(crate) fn columns(&self) -> Result<Vec<DbColumn>, ColumnError> {
        let columns = self.all().filter(|text| DbColumn::is_named_by(text));
        columns.map(str::parse).collect()
    }

    /// What to use, with what the columns say.
    pub(crate) fn settings(&self, from_rows: &BTreeMap<DbColumn, String>) -> Tls {
        let text = |given: &Option<String>| {
            let given = given.as_ref()?;
            if !DbColumn::is_named_by(given) {
                return Some(given.clone());
            }
            from_rows.get(&given.parse().ok()?).cloned()
        };
        let file = |given: &Option<String>| text(given).map(PathBuf::from);
        let authority = match text(&self.ca_cert) {
            Some(none) if none == NO_AUTHORITY => Some(CaCert::None),
            given => given.map(|path| CaCert::File(path.into())),
        };
        Tls {
            private_key: file(&self.private_key),
            certificate: file(&self.certificate),
            ca_cert: authority.or_else(|| file(&self.bootstrap_ca_cert).map(CaCert::Bootstrap)),
            peer_ca_cert: file(&self.peer_ca_cert),
            protocols: text(&self.ssl_protocols),
            ciphers: text(&self.ssl_ciphers),
            ciphersuites: text(&self.ssl_ciphersuites),
            server_name: self.ssl_server_name.clone(),
        }
    }

    /// All that may name a column.
    fn all(&self) -> impl Iterator<Item = &str> {
        let all = [
            &self.private_key,
            &self.certificate,
            &self.ca_cert,
            &self.bootstrap_ca_cert,
            &self.peer_ca_cert,
            &self.ssl_protocols,
            &self.ssl_ciphers,
            &self.ssl_ciphersuites,
        ];
        all.into_iter().flatten().map(String::as_str)
    }
}
