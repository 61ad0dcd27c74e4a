//! Names that the kernel would take but that mean something else there.

use crate::name::{LinkName, NameError};

/// Names with a meaning of their own: the loopback link, and two directories beside the links' own below `/proc/sys/net`.
const RESERVED: [&str; 3] = ["lo", "all", "default"];

/// Why a text may not name a link of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No link can have the name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The kernel has another use for the name.
    #[error("link name \"{0}\" is the kernel's own")]
    Reserved(String),
    /// The kernel would put a number in place of a part of the name.
    #[error("link name \"{0}\" has a '%', which the kernel takes for a pattern")]
    Pattern(String),
}

/// The name of a link that is to be made.
///
/// # Errors
/// Why no link can be made under it.
pub fn check_name(text: &str) -> Result<LinkName, LinkError> {
    let name = LinkName::new(text)?;
    if RESERVED.contains(&text) {
        return Err(LinkError::Reserved(text.to_owned()));
    }
    if text.contains('%') {
        return Err(LinkError::Pattern(text.to_owned()));
    }
    Ok(name)
}
