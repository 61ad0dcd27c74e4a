//! The form of a proof in a file: one JSON object, bytes in hexadecimal.
//!
//! ```text
//! {"format": "nonnet proof 1", "header": 256 bytes, "body": bytes, "path": [32 bytes, ...], "checkpoint": note, "key": verifier key}
//! {"format": "nonnet proof 1", "header": 256 bytes, "leaf": bytes, "leaf_index": 3, "leaf_hashes": [32 bytes, ...], "path": ...}
//! ```

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use nonnet_chain::tree::TreeHash;
use nonnet_chain::{Checkpoint, Proof, PublicKey, Shown};
use serde_json::{Value, json};

const FORMAT: &str = "nonnet proof 1";

/// As a file holds it.
pub(crate) fn to_json(proof: &Proof) -> Result<Value> {
    let origin = Checkpoint::parse(&proof.note)?.origin;
    let path: Vec<String> = proof.path.iter().map(|hash| hex(&hash.0)).collect();
    let mut json = json!({
        "format": FORMAT, "header": hex(&proof.header), "path": path, "checkpoint": proof.note,
        "key": proof.key.verifier_key(&origin),
    });
    match &proof.shown {
        Shown::Body(body) => json["body"] = hex(body).into(),
        Shown::Leaf { leaf, index, hashes } => {
            json["leaf"] = hex(leaf).into();
            json["leaf_index"] = (*index).into();
            json["leaf_hashes"] = hashes.iter().map(|hash| hex(hash)).collect();
        }
    }
    Ok(json)
}

/// Reads the text of a file; what it says is not checked.
pub(crate) fn from_text(text: &str) -> Result<Proof> {
    let json: Value = serde_json::from_str(text).context("it is no JSON")?;
    if json["format"] != FORMAT {
        bail!("it is no proof: \"format\" is not {FORMAT:?}");
    }
    let shown = if json.get("body").is_some() {
        Shown::Body(bytes(&json, "body")?)
    } else {
        Shown::Leaf {
            leaf: bytes(&json, "leaf")?,
            index: json["leaf_index"].as_u64().context("\"leaf_index\" is no number")? as usize,
            hashes: hashes(&json, "leaf_hashes")?,
        }
    };
    let text = |name: &str| json[name].as_str().with_context(|| format!("{name:?} is no text"));
    let key = PublicKey::from_verifier_key(text("key")?).context("\"key\" is no Ed25519 key of C2SP signed-note")?;
    Ok(Proof {
        header: bytes(&json, "header")?,
        shown,
        path: hashes(&json, "path")?.into_iter().map(TreeHash).collect(),
        note: text("checkpoint")?.to_owned(),
        key,
    })
}

fn hashes(json: &Value, name: &str) -> Result<Vec<[u8; 32]>> {
    let hashes = json[name].as_array().with_context(|| format!("{name:?} is no array"))?;
    let hash = |value: &Value| unhex(value).and_then(|bytes| bytes.try_into().ok());
    let read: Option<_> = hashes.iter().map(hash).collect();
    read.with_context(|| format!("{name:?} has something that is not 32 bytes in hexadecimal"))
}

fn bytes(json: &Value, name: &str) -> Result<Vec<u8>> {
    unhex(&json[name]).with_context(|| format!("{name:?} is not bytes in hexadecimal"))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of a text in hexadecimal.
pub(crate) fn unhex(value: &Value) -> Option<Vec<u8>> {
    let text = value
        .as_str()
        .filter(|text| text.len().is_multiple_of(2) && text.is_ascii())?;
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}
