//! The data model and notation of OVSDB (RFC 7047).

mod framing;

pub use framing::{DEPTH_MAX, Frame, FramingError, MESSAGE_BYTES_MAX, Scanner};
