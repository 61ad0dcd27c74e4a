//! Requests written before the clock starts, and what their replies must contain.
//!
//! They lie one after the other in one buffer, so that any run of them is one slice and one write: the client must not be the
//! bottleneck.

use std::ops::Range;

/// A list of requests, each with a fragment that its reply must contain.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    expected: Vec<u8>,
    expected_ends: Vec<usize>,
}

impl Requests {
    /// Adds `{"method":METHOD,"params":[PARAMS],"id":N}`; its reply must contain `expected`.
    pub fn push(&mut self, method: &str, params: &str, expected: &str) {
        let id = self.ends.len();
        self.bytes
            .extend_from_slice(format!(r#"{{"method":"{method}","params":[{params}],"id":{id}}}"#).as_bytes());
        self.ends.push(self.bytes.len());
        self.expected.extend_from_slice(expected.as_bytes());
        self.expected_ends.push(self.expected.len());
    }

    /// Adds a transaction of these operations (comma-separated) on the bench's database, durable if asked.
    pub fn transact(&mut self, operations: &str, durable: bool, expected: &str) {
        let commit = if durable {
            r#",{"op":"commit","durable":true}"#
        } else {
            ""
        };
        self.push(
            "transact",
            &format!(r#""{}",{operations}{commit}"#, crate::row::DATABASE),
            expected,
        );
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a run of requests.
    pub fn bytes(&self, requests: Range<usize>) -> &[u8] {
        slice(&self.bytes, &self.ends, requests)
    }

    /// What the reply to this request must contain.
    pub fn expected(&self, request: usize) -> &[u8] {
        slice(&self.expected, &self.expected_ends, request..request + 1)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], items: Range<usize>) -> &'a [u8] {
    let end_of = |item: usize| {
        item.checked_sub(1)
            .and_then(|last| ends.get(last))
            .copied()
            .unwrap_or(0)
    };
    bytes.get(end_of(items.start)..end_of(items.end)).unwrap_or_default()
}
