//! TLS for remotes: keys and certificates by their files, which are read again when they change (`ovsdb-server(1)`, "Public Key
//! Infrastructure Options").

mod error;
mod settings;

pub use error::TlsError;
pub use settings::{CaCert, Tls};
