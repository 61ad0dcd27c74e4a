//! Which protocols and cipher suites may be used, from the words that OVS and OpenSSL have for them.
//!
//! A word that is not known chooses nothing; only a choice of nothing at all is an error.

use rustls::{
    CipherSuite, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use crate::tls::{error::TlsError, settings::Tls};

/// What OVS calls the protocols, in their order; those without a version of ours are too weak to be had.
const PROTOCOLS: [(&str, Option<&SupportedProtocolVersion>); 4] = [
    ("TLSv1", None),
    ("TLSv1.1", None),
    ("TLSv1.2", Some(&TLS12)),
    ("TLSv1.3", Some(&TLS13)),
];

/// OpenSSL's names of the suites of TLS 1.2 (`openssl-ciphers(1)`).
const SUITES_12: [(&str, CipherSuite); 6] = [
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// OpenSSL's names of the suites of TLS 1.3.
const SUITES_13: [(&str, CipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// The protocols in use.
pub(crate) fn protocols(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let Some(given) = &tls.protocols else {
        return Ok(vec![&TLS12, &TLS13]);
    };
    let mut chosen = [false; PROTOCOLS.len()];
    for word in given.split([',', ' ', ':']).filter(|word| !word.is_empty()) {
        let (first, last) = range_of(word);
        if let (Some(first), Some(last)) = (first, last) {
            chosen
                .iter_mut()
                .take(last + 1)
                .skip(first)
                .for_each(|chosen| *chosen = true);
        }
    }
    let versions: Vec<_> = PROTOCOLS
        .iter()
        .zip(chosen)
        .filter_map(|((_, version), chosen)| version.filter(|_| chosen))
        .collect();
    if versions.is_empty() {
        return Err(TlsError::NoneLeft {
            option: "--ssl-protocols",
            given: given.clone(),
            known: "TLSv1.2 and TLSv1.3".to_owned(),
        });
    }
    Ok(versions)
}

/// The places in [`PROTOCOLS`] of the first and the last protocol that a word stands for: `A`, `A+` or `A-B`.
fn range_of(word: &str) -> (Option<usize>, Option<usize>) {
    let place = |name: &str| PROTOCOLS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
    match (word.strip_suffix('+'), word.split_once('-')) {
        (Some(first), _) => (place(first), Some(PROTOCOLS.len() - 1)),
        (None, Some((first, last))) => (place(first), place(last)),
        (None, None) => (place(word), place(word)),
    }
}

/// The cryptography in use, with the cipher suites chosen. A choice for one version of TLS does not bear upon the other.
pub(crate) fn provider(tls: &Tls, versions: &[&SupportedProtocolVersion]) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if let Some(given) = &tls.ciphers {
        let chosen = chosen(given, &SUITES_12);
        if chosen.is_empty() && versions.contains(&&TLS12) {
            return Err(none_left("--ssl-ciphers", given, &SUITES_12));
        }
        keep(&mut provider, &chosen, |suite| suite.version() == &TLS12);
    }
    if let Some(given) = &tls.ciphersuites {
        let chosen = chosen(given, &SUITES_13);
        if chosen.is_empty() && versions.contains(&&TLS13) {
            return Err(none_left("--ssl-ciphersuites", given, &SUITES_13));
        }
        keep(&mut provider, &chosen, |suite| suite.version() == &TLS13);
    }
    Ok(provider)
}

fn none_left(option: &'static str, given: &str, suites: &[(&str, CipherSuite)]) -> TlsError {
    let names: Vec<&str> = suites.iter().map(|(name, _)| *name).collect();
    TlsError::NoneLeft {
        option,
        given: given.to_owned(),
        known: names.join(", "),
    }
}

/// Keeps of the suites in question those that were chosen.
fn keep(provider: &mut CryptoProvider, chosen: &[CipherSuite], is_meant: impl Fn(&SupportedCipherSuite) -> bool) {
    provider
        .cipher_suites
        .retain(|suite| !is_meant(suite) || chosen.contains(&suite.suite()));
}

/// The suites that an OpenSSL list chooses: names, parts of names joined with `+`, and words for all of them; `!` and `-` take away. What
/// orders a list has no effect, since both sides' preferences are alike in strength.
fn chosen(list: &str, suites: &[(&str, CipherSuite)]) -> Vec<CipherSuite> {
    let mut chosen = Vec::new();
    let mut banned = Vec::new();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        let (sign, name) = match word.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), name)) => (sign, name),
            _ => ("", word),
        };
        let meant = suites
            .iter()
            .filter(|(known, _)| is_meant(known, name))
            .map(|(_, suite)| *suite);
        match sign {
            "!" => banned.extend(meant),
            "-" => {
                let meant: Vec<_> = meant.collect();
                chosen.retain(|suite| !meant.contains(suite));
            }
            "" => chosen.extend(meant),
            _ => {}
        }
    }
    chosen.retain(|suite| !banned.contains(suite));
    chosen
}

/// Whether a word of a list means a suite.
fn is_meant(suite: &str, word: &str) -> bool {
    if suite == word {
        return true;
    }
    word.split('+').all(|part| match part {
        // All that there are are strong.
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" => true,
        "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => suite.starts_with("ECDHE-"),
        "ECDSA" | "aECDSA" => suite.contains("-ECDSA-"),
        "RSA" | "aRSA" => suite.contains("-RSA-"),
        "AES" | "AESGCM" => suite.contains("AES"),
        "AES128" | "AES256" | "CHACHA20" => suite.contains(part),
        "SHA256" | "SHA384" => suite.ends_with(part),
        _ => false,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn versions(words: &str) -> Vec<u16> {
        let tls = Tls {
            protocols: Some(words.to_owned()),
            ..Tls::default()
        };
        let versions = protocols(&tls).unwrap();
        versions.iter().map(|version| u16::from(version.version)).collect()
    }

    fn suites(ciphers: &str) -> usize {
        chosen(ciphers, &SUITES_12).len()
    }

    #[test]
    fn protocols_are_chosen_by_list_and_by_range() {
        let (tls12, tls13) = (0x0303, 0x0304);
        // What ovsdb-server 3.1 and 3.5 have as defaults.
        assert_eq!(versions("TLSv1,TLSv1.1,TLSv1.2"), [tls12]);
        assert_eq!(versions("TLSv1.2+"), [tls12, tls13]);
        assert_eq!(versions("TLSv1.1-TLSv1.2"), [tls12]);
        assert_eq!(versions("TLSv1.3"), [tls13]);
    }

    #[test]
    fn protocols_that_are_too_weak_are_not_enough() {
        let tls = Tls {
            protocols: Some("TLSv1,TLSv1.1".to_owned()),
            ..Tls::default()
        };
        assert_eq!(
            protocols(&tls).unwrap_err().to_string(),
            "--ssl-protocols=TLSv1,TLSv1.1: none of these is supported; there are TLSv1.2 and TLSv1.3"
        );
    }

    #[test]
    fn ciphers_are_chosen_as_openssl_does() {
        assert_eq!(suites("HIGH:!aNULL:!MD5"), 6);
        assert_eq!(suites("DEFAULT:@SECLEVEL=2"), 6);
        assert_eq!(suites("ECDHE+AESGCM"), 4);
        assert_eq!(suites("ECDHE-RSA-AES256-GCM-SHA384"), 1);
        assert_eq!(suites("HIGH:!ECDSA"), 3);
        assert_eq!(suites("HIGH:-AES128:-CHACHA20"), 2);
        assert_eq!(suites("RC4-MD5"), 0);
    }

    #[test]
    fn choice_for_one_version_leaves_the_other_alone() {
        let tls = Tls {
            ciphers: Some("ECDHE-RSA-AES256-GCM-SHA384".to_owned()),
            ciphersuites: Some("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384".to_owned()),
            ..Tls::default()
        };
        let provider = provider(&tls, &[&TLS12, &TLS13]).unwrap();
        assert_eq!(provider.cipher_suites.len(), 3);
    }
}
