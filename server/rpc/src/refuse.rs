//! The one line that a connection beyond the limit of sessions gets.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{MsgFlags, send};
use serde_json::json;
use tracing::warn;

use crate::stream::Stream;

/// Tells a connection that there is no place for it; it is closed by being dropped.
pub(crate) fn refuse(stream: &Stream, sessions_max: u32) {
    refuse_unheard(sessions_max);
    let mut line = refusal(sessions_max).into_bytes();
    line.push(b'\n');
    // The buffer of a fresh socket takes it whole; a peer that is gone already needs no answer. Tokio would want to be asked first whether
    // the socket is writable, so the kernel is asked directly.
    let _ = send(
        stream.as_fd().as_raw_fd(),
        &line,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
    );
    let _ = stream.end_output();
}

/// As [`refuse`], where TLS would have to be spoken first: the connection is only closed, by being dropped.
pub(crate) fn refuse_unheard(sessions_max: u32) {
    warn!(sessions_max, "a connection was refused: all sessions are taken");
}

fn refusal(sessions_max: u32) -> String {
    let details = format!("this server already has its maximum of {sessions_max} sessions; try again later");
    let error = json!({"error": "resources exhausted", "details": details});
    json!({"id": null, "result": null, "error": error}).to_string()
}
