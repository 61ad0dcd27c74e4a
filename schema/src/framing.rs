//! Cuts a stream of bytes into JSON objects (RFC 7047 4: JSON-RPC 1.0 has no delimiter).
//!
//! Takes bytes as they arrive, cut anywhere, several messages at once or a part of one; gives each message's text as soon as its last brace
//! is there. Each byte is looked at once, however the stream is cut. It also refuses at once what no JSON text may contain, so that a
//! forgotten quote is answered at the end of its line rather than never.
//!
//! It must never read or write anything itself, and it does not check that a message is valid JSON: a parser does that afterwards.

use thiserror::Error;

/// The longest message accepted, in bytes: enough for a bulk load of 100,000 rows, and what one session may make us hold.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The deepest nesting of arrays and objects accepted; the message's own object counts (as ovsdb-server has it).
pub const DEPTH_MAX: usize = 1000;

/// A buffer that grew beyond this is given back once it is empty, so that an idle session holds little.
const BUFFER_BYTES_KEPT: usize = 1024;

/// Bytes that a message may take in memory once parsed, as [`Frame::parsed_bytes`] estimates it.
pub const PARSED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What an object takes however few members it has, in bytes: room for eleven of them.
const OBJECT_BYTES: usize = 704;

/// What an array takes however few items it has, in bytes.
const ARRAY_BYTES: usize = 128;

/// What an item takes, in bytes, in an array that has grown.
const ITEM_BYTES: usize = 64;

/// One message, as cut from the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The text, from its opening to its closing brace.
    pub text: &'a [u8],
    /// Where its first byte stood in the stream, counted from 0.
    pub offset: u64,
    /// Whether an end of line followed it in what had arrived by then; spaces and carriage returns may stand between.
    pub newline: bool,
    /// How many arrays and objects are nested in each other at its deepest place; what a recursive parser's stack must bear.
    pub depth: usize,
    /// Bytes that it takes in memory once parsed, roughly and rather too many.
    pub parsed_bytes: usize,
}

/// Why a stream cannot go on; offsets count the bytes of the stream from 0.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FramingError {
    /// A message begins with something else than an opening brace.
    #[error("byte {offset}: a message must be a JSON object and begin with '{{', but here is {}", Shown(*.found))]
    NotAnObject {
        /// Of the byte found.
        offset: u64,
        /// What stands there.
        found: u8,
    },
    /// A byte that no JSON text can have outside of strings.
    #[error("byte {offset}: {} cannot stand outside of a string in JSON", Shown(*.found))]
    UnexpectedByte {
        /// Of the byte found.
        offset: u64,
        /// What stands there.
        found: u8,
    },
    /// A control character inside a string: most often a string whose closing quote is missing.
    #[error("byte {offset}: {} inside a string that began at byte {began}; is its closing quote missing?", Shown(*.found))]
    ControlInString {
        /// Of the byte found.
        offset: u64,
        /// Of the string's opening quote.
        began: u64,
        /// What stands there.
        found: u8,
    },
    /// So many objects, arrays and items that the message would take more than [`PARSED_BYTES_MAX`] bytes in memory.
    #[error(
        "byte {offset}: the message has more objects, arrays and items up to here than {PARSED_BYTES_MAX} bytes of memory hold"
    )]
    TooMany {
        /// Where there were too many.
        offset: u64,
    },
    /// A closing bracket that does not fit the one that is open.
    #[error("byte {offset}: '{}' stands where '{}' is expected", char::from(*.found), char::from(*.expected))]
    Unbalanced {
        /// Of the closing bracket found.
        offset: u64,
        /// The bracket found.
        found: u8,
        /// The bracket that would close the innermost open array or object.
        expected: u8,
    },
    /// More than [`DEPTH_MAX`] arrays and objects within each other.
    #[error("byte {offset}: more than {DEPTH_MAX} arrays and objects nested in each other")]
    TooDeep {
        /// Of the opening bracket that is one too many.
        offset: u64,
    },
    /// A message of more bytes than the stream may have in one.
    #[error("byte {offset}: the message that begins here is longer than {bytes_max} bytes")]
    TooLong {
        /// Of the message's first byte.
        offset: u64,
        /// The most this stream may have.
        bytes_max: usize,
    },
    /// The stream ended inside a message.
    #[error("byte {end}: the stream ended inside the message that began at byte {offset}")]
    Unfinished {
        /// Of the message's first byte.
        offset: u64,
        /// The length of the stream.
        end: u64,
    },
}

/// Cuts one stream into messages.
///
/// States: between messages (`open` is empty); in a message, outside of strings; in a string (`string` holds its begin); in a string
/// just after a backslash (`escaped`); failed (`failed` is set), which is final.
#[derive(Debug)]
pub struct Scanner {
    /// The longest message accepted, in bytes.
    message_bytes_max: usize,
    /// What has arrived and is not yet handed out, plus what was handed out since the last push.
    buffer: Vec<u8>,
    /// Stream offset of the buffer's first byte.
    base: u64,
    /// Begin of the current message, or of what follows the last one, in the buffer.
    begin: usize,
    /// How far the buffer has been looked at.
    scanned: usize,
    /// The closing bracket of each open array and object, outermost first.
    open: Vec<u8>,
    /// The most that were open at once in the current message.
    depth: usize,
    /// Begin of the current string in the buffer.
    string: Option<usize>,
    escaped: bool,
    /// What the current message takes in memory beside its text.
    parsed_bytes: usize,
    failed: Option<FramingError>,
}

impl Scanner {
    /// A scanner at the begin of a stream whose messages may have [`MESSAGE_BYTES_MAX`] bytes.
    pub fn new() -> Self {
        Self::with_message_bytes_max(MESSAGE_BYTES_MAX)
    }

    /// A scanner at the begin of a stream whose messages may have so many bytes: a server's replies are longer than requests to it.
    pub fn with_message_bytes_max(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            buffer: Vec::new(),
            base: 0,
            begin: 0,
            scanned: 0,
            open: Vec::new(),
            depth: 0,
            string: None,
            escaped: false,
            parsed_bytes: 0,
            failed: None,
        }
    }

    /// Takes the next bytes of the stream; what was handed out before is forgotten.
    pub fn push(&mut self, bytes: &[u8]) {
        self.forget();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// What makes the rest of the stream meaningless; it is returned again by each later call.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FramingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.scan() {
            Ok(Some((begin, end))) => Ok(Some(Frame {
                text: &self.buffer[begin..end],
                offset: self.offset(begin),
                newline: ends_line(&self.buffer[end..]),
                depth: self.depth,
                parsed_bytes: self.parsed_bytes + (end - begin),
            })),
            Ok(None) => {
                self.forget();
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes held that belong to no message handed out yet.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.begin
    }

    /// Bytes of memory held for what has arrived.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Says that the stream has ended; all messages must have been taken before.
    ///
    /// # Errors
    ///
    /// [`FramingError::Unfinished`] if it ended inside a message, or the error that stopped it earlier.
    pub fn finish(&self) -> Result<(), FramingError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.open.is_empty() => Ok(()),
            None => Err(FramingError::Unfinished {
                offset: self.offset(self.begin),
                end: self.offset(self.buffer.len()),
            }),
        }
    }

    fn forget(&mut self) {
        if self.begin == 0 {
            return;
        }
        self.buffer.drain(..self.begin);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT && self.buffer.len() < self.buffer.capacity() / 4 {
            self.buffer.shrink_to(2 * self.buffer.len());
        }
        self.base += self.begin as u64;
        self.scanned -= self.begin;
        self.string = self.string.map(|at| at - self.begin);
        self.begin = 0;
    }

    fn offset(&self, at: usize) -> u64 {
        self.base + at as u64
    }

    /// Moves on to the end of the current message; gives its range.
    fn scan(&mut self) -> Result<Option<(usize, usize)>, FramingError> {
        if self.open.is_empty() && !self.enter()? {
            return Ok(None);
        }
        let limit = self.begin.saturating_add(self.message_bytes_max);
        while self.scanned < self.buffer.len() && self.scanned < limit {
            if let Some(began) = self.string {
                self.scan_string(began)?;
            } else if self.step()? {
                let frame = (self.begin, self.scanned);
                self.begin = self.scanned;
                return Ok(Some(frame));
            }
        }
        if self.scanned >= limit {
            return Err(FramingError::TooLong {
                offset: self.offset(self.begin),
                bytes_max: self.message_bytes_max,
            });
        }
        Ok(None)
    }

    /// Skips to the opening brace of the next message; false when it has not arrived.
    fn enter(&mut self) -> Result<bool, FramingError> {
        let rest = &self.buffer[self.scanned..];
        let Some(skipped) = rest.iter().position(|byte| !is_space(*byte)) else {
            self.scanned = self.buffer.len();
            self.begin = self.scanned;
            return Ok(false);
        };
        let found = rest[skipped];
        self.scanned += skipped;
        self.begin = self.scanned;
        if found != b'{' {
            return Err(FramingError::NotAnObject {
                offset: self.offset(self.begin),
                found,
            });
        }
        self.scanned += 1;
        self.open.push(b'}');
        self.depth = 1;
        self.parsed_bytes = OBJECT_BYTES;
        Ok(true)
    }

    /// Looks at one byte outside of strings; true when it ends the message.
    fn step(&mut self) -> Result<bool, FramingError> {
        let at = self.scanned;
        let found = self.buffer[at];
        match found {
            b'"' => self.string = Some(at),
            b'{' | b'[' if self.open.len() == DEPTH_MAX => {
                return Err(FramingError::TooDeep {
                    offset: self.offset(at),
                });
            }
            b'{' => {
                self.open.push(b'}');
                self.count_parsed(at, OBJECT_BYTES)?;
            }
            b'[' => {
                self.open.push(b']');
                self.count_parsed(at, ARRAY_BYTES)?;
            }
            b',' => self.count_parsed(at, ITEM_BYTES)?,
            b'}' | b']' => self.close(at, found)?,
            _ if can_stand_outside(found) => {}
            _ => {
                return Err(FramingError::UnexpectedByte {
                    offset: self.offset(at),
                    found,
                });
            }
        }
        self.scanned += 1;
        self.depth = self.depth.max(self.open.len());
        Ok(self.open.is_empty())
    }

    fn count_parsed(&mut self, at: usize, bytes: usize) -> Result<(), FramingError> {
        self.parsed_bytes += bytes;
        if self.parsed_bytes > PARSED_BYTES_MAX {
            return Err(FramingError::TooMany {
                offset: self.offset(at),
            });
        }
        Ok(())
    }

    fn close(&mut self, at: usize, found: u8) -> Result<(), FramingError> {
        match self.open.last() {
            Some(expected) if *expected == found => {
                self.open.pop();
                Ok(())
            }
            expected => Err(FramingError::Unbalanced {
                offset: self.offset(at),
                found,
                expected: expected.copied().unwrap_or(b'{'),
            }),
        }
    }

    /// Moves on inside a string, past its closing quote if that has arrived.
    fn scan_string(&mut self, began: usize) -> Result<(), FramingError> {
        let end = self.buffer.len().min(self.begin.saturating_add(self.message_bytes_max));
        while self.scanned < end {
            let byte = self.buffer[self.scanned];
            if byte < b' ' {
                return Err(FramingError::ControlInString {
                    offset: self.offset(self.scanned),
                    began: self.offset(began),
                    found: byte,
                });
            }
            self.scanned += 1;
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.string = None;
                break;
            }
        }
        Ok(())
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether JSON has the byte outside of strings, brackets aside: separators, numbers and the letters of `true`, `false`, `null`.
fn can_stand_outside(byte: u8) -> bool {
    is_space(byte)
        || byte.is_ascii_digit()
        || matches!(byte, b',' | b':' | b'+' | b'-' | b'.' | b'E')
        || matches!(byte, b'a' | b'e' | b'f' | b'l' | b'n' | b'r' | b's' | b't' | b'u')
}

fn ends_line(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) == Some(&b'\n')
}

/// Prints a byte for a reader: as a character where it is one, by its number otherwise.
struct Shown(u8);

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b'\n' => formatter.write_str("an end of line"),
            byte @ b' '..=b'~' => write!(formatter, "'{}'", char::from(byte)),
            byte => write!(formatter, "the byte 0x{byte:02x}"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The texts of all messages when the stream arrives in the given pieces, and how it ends.
    fn cut(pieces: &[&[u8]]) -> (Vec<(String, u64)>, Result<(), FramingError>) {
        let mut scanner = Scanner::new();
        let mut frames = Vec::new();
        for piece in pieces {
            scanner.push(piece);
            loop {
                match scanner.next_frame() {
                    Ok(Some(frame)) => frames.push((String::from_utf8_lossy(frame.text).into_owned(), frame.offset)),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
        let end = scanner.finish();
        (frames, end)
    }

    fn texts(stream: &str) -> Vec<String> {
        let (frames, end) = cut(&[stream.as_bytes()]);
        end.unwrap();
        frames.into_iter().map(|(text, _)| text).collect()
    }

    fn error(stream: &str) -> FramingError {
        cut(&[stream.as_bytes()]).1.unwrap_err()
    }

    #[test]
    fn several_messages_in_one_read_come_apart() {
        assert_eq!(
            texts(r#"{"a":1}{"b":[2,{"c":3}]} {}"#),
            [r#"{"a":1}"#, r#"{"b":[2,{"c":3}]}"#, "{}"]
        );
    }

    #[test]
    fn every_space_between_messages_is_skipped() {
        assert_eq!(texts(" \t\r\n{}\n\n{}\r\n"), ["{}", "{}"]);
    }

    #[test]
    fn brackets_and_escaped_quotes_in_strings_do_not_count() {
        let message = r#"{"a}":"]\"\\","{":"\\\""}"#;
        assert_eq!(texts(message), [message]);
    }

    #[test]
    fn newline_is_told_per_message() {
        let mut scanner = Scanner::new();
        scanner.push(b"{} \r\n{} {}\t \n");
        let mut newlines = Vec::new();
        while let Some(frame) = scanner.next_frame().unwrap() {
            newlines.push(frame.newline);
        }
        assert_eq!(newlines, [true, false, true]);
    }

    #[test]
    fn message_that_is_not_an_object_is_refused() {
        assert_eq!(
            error("{} [1]").to_string(),
            "byte 3: a message must be a JSON object and begin with '{', but here is '['"
        );
        assert_eq!(error("}"), FramingError::NotAnObject { offset: 0, found: b'}' });
    }

    #[test]
    fn closing_bracket_of_the_wrong_kind_is_refused() {
        assert_eq!(
            error(r#"{"a":[1}"#).to_string(),
            "byte 7: '}' stands where ']' is expected"
        );
    }

    #[test]
    fn missing_quote_is_found_at_the_end_of_the_line() {
        assert_eq!(
            error("{\"method:1}\n").to_string(),
            "byte 11: an end of line inside a string that began at byte 1; is its closing quote missing?"
        );
    }

    #[test]
    fn word_without_quotes_is_refused_at_once() {
        assert_eq!(
            error("{method").to_string(),
            "byte 1: 'm' cannot stand outside of a string in JSON"
        );
    }

    #[test]
    fn depth_is_limited_to_the_constant() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(texts(&nested(DEPTH_MAX)).len(), 1);
        assert_eq!(
            error(&nested(DEPTH_MAX + 1)),
            FramingError::TooDeep {
                offset: 5 + DEPTH_MAX as u64 - 1
            }
        );
    }

    #[test]
    fn depth_is_told_per_message() {
        let mut scanner = Scanner::new();
        scanner.push(b"{\"a\":[[],[{}]]}{}");
        assert_eq!(scanner.next_frame().unwrap().unwrap().depth, 4);
        assert_eq!(scanner.next_frame().unwrap().unwrap().depth, 1);
    }

    #[test]
    fn length_is_limited_to_the_constant() {
        let message = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert_eq!(texts(&message(MESSAGE_BYTES_MAX)).len(), 1);
        assert_eq!(
            error(&format!("  {}", message(MESSAGE_BYTES_MAX + 1))),
            FramingError::TooLong {
                offset: 2,
                bytes_max: MESSAGE_BYTES_MAX
            }
        );
    }

    #[test]
    fn end_inside_a_message_is_told() {
        assert_eq!(
            error("{} {\"a\":").to_string(),
            "byte 8: the stream ended inside the message that began at byte 3"
        );
    }

    #[test]
    fn error_is_final() {
        let mut scanner = Scanner::new();
        scanner.push(b"x");
        let first = scanner.next_frame().map(|_| ()).unwrap_err();
        scanner.push(b"{}");
        assert_eq!(scanner.next_frame().map(|_| ()).unwrap_err(), first);
    }

    #[test]
    fn one_byte_at_a_time_is_linear() {
        let message = format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000));
        let pieces: Vec<&[u8]> = message.as_bytes().chunks(1).collect();
        assert_eq!(cut(&pieces).0.len(), 1);
    }

    fn arbitrary_stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just(r#"{"method":"echo","params":[{"a":[]},"]}\"\\"],"id":1}"#.to_owned()),
            4 => "[ \t\r\n]{0,3}",
            2 => r#"\{("[a-z]{0,3}":\[[0-9]{1,3}\])?\}"#,
            1 => r#"[{}\[\]"\\,:a-z \n]{0,6}"#,
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(stream in arbitrary_stream(), sizes in prop::collection::vec(1usize..9, 1..60)) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = stream.as_slice();
            let mut sizes = sizes.iter().cycle();
            while !rest.is_empty() {
                let size = sizes.next().copied().unwrap_or(1).min(rest.len());
                let (piece, after) = rest.split_at(size);
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(cut(&pieces), cut(&[&stream]));
        }
    }
}
