//! TLS for remotes: keys and certificates by their files, which are read again when they change (`ovsdb-server(1)`, "Public Key
//! Infrastructure Options").
//!
//! No key and no part of one is ever logged or given away.

mod bootstrap;
mod certificate;
mod choice;
mod dialler;
mod error;
mod keeper;
mod load;
mod settings;
mod stream;
mod trust;

pub use dialler::{TlsConnection, TlsDialler};
pub use error::TlsError;
pub use settings::{CaCert, Tls};

pub(crate) use certificate::common_name;
pub(crate) use keeper::TlsKeeper;
pub(crate) use load::Loaded;
pub(crate) use stream::TlsStream;
