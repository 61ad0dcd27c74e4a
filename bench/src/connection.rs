//! A blocking OVSDB connection that costs the client as little as possible: one buffer, one pass over what comes in.
//!
//! A message ends where its braces are balanced; nothing is parsed. A reply is good if it holds no error object and the fragment its
//! request expects. It understands no notification: a bench connection asks for none but the monitors it reads.

use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::{memchr2, memmem};

/// How long a reply may take before the run fails: longer than the slowest known one.
const REPLY_TIMEOUT: Duration = Duration::from_mins(5);

/// Bytes of buffer at first; it doubles as long as a message does not fit.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a bad reply that the failure shows.
const SHOWN_BYTES_MAX: usize = 1000;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// What came in and is not consumed is `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    scan: Scan,
}

/// How far the search for the end of the first message has come.
#[derive(Debug, Default)]
struct Scan {
    position: usize,
    depth: usize,
    in_string: bool,
}

impl Connection {
    /// Connects to a Unix socket.
    pub fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            scan: Scan::default(),
        })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let message = loop {
            if let Some(message) = self.take() {
                break message;
            }
            self.fill()?;
        };
        Ok(self.message(message))
    }

    /// The next message if it has come already: its place, for [`Connection::message`].
    pub fn take(&mut self) -> Option<Range<usize>> {
        let end = self.scan.find_end(&self.buffer[..self.end], self.start)?;
        let message = self.start..end;
        self.start = end;
        self.scan = Scan {
            position: end,
            ..Scan::default()
        };
        Some(message)
    }

    /// The bytes of a message just taken; they stay until the next [`Connection::fill`].
    pub fn message(&self, place: Range<usize>) -> &[u8] {
        self.buffer.get(place).unwrap_or_default()
    }

    /// Reads once, waiting if nothing is there.
    pub fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end, self.scan.position) = (0, 0, 0);
        } else if self.end == self.buffer.len() {
            self.make_room();
        }
        let count = self
            .stream
            .read(&mut self.buffer[self.end..])
            .context("wait for a reply")?;
        ensure!(count > 0, "the server closed the connection");
        self.end += count;
        Ok(())
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scan.position -= self.start;
            self.start = 0;
        } else {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

impl Scan {
    /// Where the message that begins at `start` (white space before it allowed) ends, if it ends in `bytes`.
    fn find_end(&mut self, bytes: &[u8], start: usize) -> Option<usize> {
        self.position = self.position.max(start);
        while let Some(rest) = bytes.get(self.position..).filter(|rest| !rest.is_empty()) {
            if self.in_string {
                self.skip_string(rest);
                continue;
            }
            self.position += 1;
            match rest[0] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.position);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Goes to the end of the string, or of the bytes; past them by one where they end in a backslash, whose character is yet to come.
    fn skip_string(&mut self, rest: &[u8]) {
        match memchr2(b'"', b'\\', rest) {
            Some(at) if rest[at] == b'"' => {
                self.position += at + 1;
                self.in_string = false;
            }
            Some(at) => self.position += at + 2,
            None => self.position += rest.len(),
        }
    }
}

/// Fails unless the reply holds no error and the expected fragment.
pub fn check(reply: &[u8], expected: &[u8]) -> Result<()> {
    const MEMBER: &[u8] = b"\"error\":";
    let failed =
        memmem::find_iter(reply, MEMBER).any(|at| !reply[at + MEMBER.len()..].trim_ascii_start().starts_with(b"null"));
    if failed || memmem::find(reply, expected).is_none() {
        let shown = String::from_utf8_lossy(&reply[..reply.len().min(SHOWN_BYTES_MAX)]);
        bail!(
            "a reply should contain {:?} and no error, but is: {shown}",
            String::from_utf8_lossy(expected)
        );
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_braces_do_however_the_stream_is_cut() {
        let stream = br#"{"a":"}\"]\\"}  {"b":[{},"\u007b"]}{"c":1}"#;
        for cut in 0..stream.len() {
            let (mut scan, mut start, mut messages) = (Scan::default(), 0, Vec::new());
            for available in [cut, stream.len()] {
                while let Some(end) = scan.find_end(&stream[..available], start) {
                    messages.push(String::from_utf8_lossy(&stream[start..end]).trim().to_owned());
                    start = end;
                    scan = Scan {
                        position: end,
                        ..Scan::default()
                    };
                }
            }
            assert_eq!(
                messages,
                [r#"{"a":"}\"]\\"}"#, r#"{"b":[{},"\u007b"]}"#, r#"{"c":1}"#],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn an_error_in_a_reply_is_found() {
        check(br#"{"id":1,"result":[{"count":1}],"error":null}"#, b"\"count\":1").unwrap();
        check(br#"{"id":1,"result":[{"error":"timed out"}],"error":null}"#, b"").unwrap_err();
        check(br#"{"id":1,"result":null,"error":{"error":"unknown database"}}"#, b"").unwrap_err();
        check(br#"{"id":1,"result":[{"count":0}],"error":null}"#, b"\"count\":1").unwrap_err();
    }
}
