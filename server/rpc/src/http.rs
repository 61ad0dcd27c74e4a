//! Recognises an HTTP client that came to the wrong door, and tells it where it is.

use std::net::SocketAddr;

use bytes::Bytes;

/// What a session whose first bytes are one of these is taken for.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"OPTIONS ",
    b"DELETE ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
];

/// What the first bytes of a session say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// Too few to tell.
    Unsure,
    /// Not HTTP.
    Other,
    /// HTTP; a `HEAD` request must be answered without a body.
    Http { is_head: bool },
}

/// Looks at the first bytes of a session.
pub(crate) fn sniff(first: &[u8]) -> Sniffed {
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return Sniffed::Http {
            is_head: first.starts_with(b"HEAD "),
        };
    }
    if METHODS.iter().any(|method| method.starts_with(first)) {
        return Sniffed::Unsure;
    }
    Sniffed::Other
}

/// The answer: what this socket is, with a command that works.
pub(crate) fn refusal(remote: &str, local: Option<SocketAddr>, is_head: bool) -> Bytes {
    let body = format!(
        "This is the OVSDB socket of nonnetd ({remote}). It speaks JSON-RPC 1.0 (RFC 7047), not HTTP.\n\
         Try this:\n  {}\n",
        example(remote, local)
    );
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Bytes::from(if is_head { head } else { head + &body })
}

/// A command that lists the databases: through the socket of the given remote, or at the local address of a TCP session.
fn example(remote: &str, local: Option<SocketAddr>) -> String {
    let request = r#"{"method":"list_dbs","params":[],"id":1}"#;
    match local {
        Some(local) => format!("echo '{request}' | nc -N {} {}", local.ip(), local.port()),
        None => format!("echo '{request}' | nc -N -U {}", remote.trim_start_matches("punix:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_from_json_at_the_first_byte_that_differs() {
        assert_eq!(sniff(b""), Sniffed::Unsure);
        assert_eq!(sniff(b"PO"), Sniffed::Unsure);
        assert_eq!(sniff(b"PI"), Sniffed::Other);
        assert_eq!(sniff(b"{"), Sniffed::Other);
        assert_eq!(sniff(b"GET / HTTP/1.1"), Sniffed::Http { is_head: false });
        assert_eq!(sniff(b"HEAD "), Sniffed::Http { is_head: true });
    }

    #[test]
    fn example_names_the_socket_itself() {
        assert!(example("punix:nonnet.db.sock", None).ends_with("| nc -N -U nonnet.db.sock"));
        let local = SocketAddr::from(([127, 0, 0, 1], 40001));
        assert!(example("ptcp:0", Some(local)).ends_with("| nc -N 127.0.0.1 40001"));
    }
}
