//! Drives the byte streams over real sockets in temporary directories, with the test as the state thread.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(missing_docs, reason = "a test crate has no documentation")]

mod backpressure;
mod bind;
mod ends;
mod fixture;
mod http;
mod limits;
mod messages;
mod options;
mod pki;
mod tcp;
mod tls;
