//! What we need to know of a certificate that nothing else tells.

use ecow::EcoString;
use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// The first common name of a certificate's subject (RFC 5280 4.1.2.6); empty where there is none.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> EcoString {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return EcoString::new();
    };
    let name = parsed.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok())
        .map(EcoString::from)
        .unwrap_or_default()
}

/// Whether a certificate says that it was issued by its own subject, as that of an authority does.
pub(crate) fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}
