//! The commands, one file each: what they are asked, what they print, how they end.

pub(crate) mod apply;
pub(crate) mod at;
mod between;
pub(crate) mod blame;
pub(crate) mod checkpoint;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod head;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod lxc;
pub(crate) mod monitor;
pub(crate) mod plan;
pub(crate) mod prove;
pub(crate) mod query;
pub(crate) mod restore;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod transact;
pub(crate) mod undo;
pub(crate) mod verify;

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::document::{parse_documents, read_text, source_name};

/// The JSON documents of a file.
fn documents(file: &Path) -> Result<Vec<Value>> {
    Ok(parse_documents(&read_text(file)?, &source_name(file))?)
}
