//! Takes the authority that is believed from now on from the first server that was reached.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use nix::unistd::getpid;
use rustls::pki_types::CertificateDer;
use tracing::info;

use crate::tls::certificate::{common_name, is_self_issued};

/// The mode of the file: it is no secret, and nobody has to change it.
const MODE: u32 = 0o644;

/// Characters in a line of PEM (RFC 7468 2).
const PEM_LINE: usize = 64;

/// Writes the last certificate of a server's chain to a file that does not exist yet.
///
/// # Errors
/// Why not, for the remote's status.
pub(crate) fn bootstrap(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), String> {
    let Some(authority) = chain.last() else {
        return Err("could not bootstrap CA cert: no certificate presented by peer".to_owned());
    };
    if !is_self_issued(authority) {
        return Err(
            "could not bootstrap CA cert: the last certificate of the peer is not self-signed, so probably the peer is \
             not configured to send its CA certificate"
                .to_owned(),
        );
    }
    match write(path, &to_pem(authority)) {
        Ok(()) => {
            info!(
                "successfully bootstrapped CA cert to {}: {}",
                path.display(),
                common_name(authority)
            );
            Ok(())
        }
        // Another connection or another program was faster: what it wrote is what counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(format!(
            "could not bootstrap CA cert: writing {} failed: {error}",
            path.display()
        )),
    }
}

/// Makes the file whole or not at all, and only where there is none.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", getpid()));
    let unfinished = Path::new(&unfinished);
    let mut file = File::create(unfinished)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(MODE))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(unfinished, path));
    fs::remove_file(unfinished)?;
    written
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = BASE64_STANDARD.encode(certificate);
    for line in encoded.as_bytes().chunks(PEM_LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
