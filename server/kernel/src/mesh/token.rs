//! The file with the tokens: lines `NAME=VALUE`, as `systemd.exec(5)` has them in an `EnvironmentFile`.
//!
//! It is read anew for every use, so that a new token counts at once, and refused where others than its owner can read it. Nothing here prints a value.

use std::path::PathBuf;

use ecow::{EcoString, eco_format};

use crate::limits::TOKEN_FILE_BYTES_MAX;
use crate::secret_file;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct TokenFile(PathBuf);

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The token of that name: of several, the last.
    pub(super) fn token(&self, name: &str) -> Result<String, EcoString> {
        let path = self.0.display();
        let text = secret_file::read(&self.0, TOKEN_FILE_BYTES_MAX);
        let text = text.map_err(|unreadable| eco_format!("{name}: the token file {}", unreadable.words))?;
        match value(&text, name) {
            Some("") => Err(eco_format!("variable {name} is empty in {path}")),
            Some(token) if token.contains('\0') => Err(eco_format!("variable {name} has a NUL in {path}")),
            Some(token) => Ok(token.to_owned()),
            None => Err(eco_format!("variable {name} is not in {path}")),
        }
    }
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim);
    let mut last = None;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let line = match line.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
            _ => line,
        };
        if let Some((found, value)) = line.split_once('=')
            && found.trim_end() == name
        {
            last = Some(unquoted(value.trim()));
        }
    }
    last
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_last_of_several_counts_in_any_spelling() {
        let text = "\u{feff}# NETMAKER_TOKEN=comment\r\nNETMAKER_TOKEN=first\r\n\r\nexport NETMAKER_TOKEN = 'second=='\r\n\
                    NETMAKER_TOKEN_PROD=\"prod # not a comment\"\nexporter=1\nEMPTY=\n  INDENTED=yes  \n";
        assert_eq!(value(text, "NETMAKER_TOKEN"), Some("second=="));
        assert_eq!(value(text, "NETMAKER_TOKEN_PROD"), Some("prod # not a comment"));
        assert_eq!(value(text, "INDENTED"), Some("yes"));
        assert_eq!(value(text, "EMPTY"), Some(""));
        assert_eq!(value(text, "er"), None);
        assert_eq!(value(text, "NETMAKER"), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_each_use_reads_it_anew() {
        let path = std::env::temp_dir().join(format!("nonnet-token-{}", std::process::id()));
        let file = TokenFile::new(path.clone());
        assert!(file.token("A").unwrap_err().contains("cannot be read"));
        fs::write(&path, "A=secret\nB=\n").unwrap();
        for mode in [0o644, 0o640, 0o606] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = file.token("A").unwrap_err();
            assert!(error.contains("open to others") && !error.contains("secret"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(file.token("A").unwrap(), "secret");
        assert!(file.token("B").unwrap_err().contains("is empty"));
        assert!(file.token("C").unwrap_err().contains("is not in"));
        fs::write(&path, "A=other\n").unwrap();
        assert_eq!(file.token("A").unwrap(), "other");
        fs::remove_file(path).unwrap();
    }
}
