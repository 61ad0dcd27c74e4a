//! Checkpoints: the head of the tree, signed.
//!
//! The form is that of C2SP tlog-checkpoint in a C2SP signed note with Ed25519, so that witnesses and other people's tools read it:
//!
//! ```text
//! nonnet.local/<machine>/<database>/<db_id>        the origin, which is the name of the key too
//! 1048576                                          records in the tree
//! <base64 of the root>
//!
//! — <origin> <base64 of 4 bytes of key id, 64 bytes of signature>
//! ```
//!
//! Signatures of others, such as witnesses, may follow ours.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use nonnet_schema::Uuid;
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};

use crate::limits::NOTE_BYTES_MAX;
use crate::tree::TreeHash;

/// A head of the tree, as a checkpoint tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of which log: see [`origin`].
    pub origin: String,
    /// Records in the tree.
    pub size: u64,
    /// Its root.
    pub root: TreeHash,
}

/// A key that checkpoints are checked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A key that signs checkpoints. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// Why a text is no checkpoint, or none of that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is too long.
    #[error("a checkpoint has at most {NOTE_BYTES_MAX} bytes, this one {0}")]
    TooLong(usize),
    /// It is no signed note.
    #[error("it is no signed note: text, an empty line, and lines of signatures are expected")]
    NoNote,
    /// The text of the note is no checkpoint.
    #[error("line {0} is not that of a checkpoint: origin, size and root are expected")]
    Line(usize),
    /// The key did not sign it.
    #[error("the key did not sign it")]
    Unsigned,
}

/// The name of a log: of the machine by what is derived from its id, of the database by name and id.
pub fn origin(machine: &str, database: &str, db_id: Uuid) -> String {
    format!("nonnet.local/{machine}/{database}/{}", db_id.hyphenated())
}

impl Checkpoint {
    /// The signed note.
    ///
    /// # Errors
    /// [`CheckpointError::NoNote`] where the origin cannot be the name of a key: it is empty, or has a space or a plus.
    pub fn sign(&self, key: &SecretKey) -> Result<String, CheckpointError> {
        let note = || -> Option<String> {
            let mut note = Note::new(self.text().as_bytes(), &[]).ok()?;
            note.add_sigs(&[&key.note_signer(&self.origin)?]).ok()?;
            String::from_utf8(note.to_bytes()).ok()
        };
        note().ok_or(CheckpointError::NoNote)
    }

    /// Reads a signed note, whoever signed it.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let note = parse_note(note)?;
        let text = std::str::from_utf8(note.text()).map_err(|_| CheckpointError::NoNote)?;
        let mut lines = text.lines();
        let mut line = |number| {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(CheckpointError::Line(number))
        };
        let origin = line(1)?.to_owned();
        let size = line(2)?;
        let is_canonical = size == "0" || (!size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit()));
        let size = size
            .parse()
            .ok()
            .filter(|_| is_canonical)
            .ok_or(CheckpointError::Line(2))?;
        let root = STANDARD.decode(line(3)?).ok().and_then(|root| root.try_into().ok());
        let root = TreeHash(root.ok_or(CheckpointError::Line(3))?);
        Ok(Self { origin, size, root })
    }

    /// Reads a signed note, and checks that `key` signed it.
    pub fn verify(note: &str, key: PublicKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note)?;
        let verifier = key.note_verifier(&checkpoint.origin).ok_or(CheckpointError::Unsigned)?;
        let known = VerifierList::new(vec![Box::new(verifier)]);
        match parse_note(note)?.verify(&known) {
            Ok(_) => Ok(checkpoint),
            Err(_) => Err(CheckpointError::Unsigned),
        }
    }

    /// The signed part.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }
}

impl SecretKey {
    /// The key made of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The bytes that it is made of.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// What its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// What signs notes under that name. The crate takes keys as text only.
    fn note_signer(&self, name: &str) -> Option<StandardSigner> {
        let public = self.public().note_key();
        let id = signed_note::key_id(name, &public);
        let secret = STANDARD.encode([&[ED25519], &self.seed()[..]].concat());
        StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id:08x}+{secret}")).ok()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

/// The number of the algorithm in keys of signed notes.
const ED25519: u8 = 1;

impl PublicKey {
    /// True where the key made `signature` of `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok())
    }

    /// As other tools take it: `name+id+base64` of C2SP signed-note.
    pub fn verifier_key(&self, name: &str) -> String {
        let key = self.note_key();
        format!(
            "{name}+{:08x}+{}",
            signed_note::key_id(name, &key),
            STANDARD.encode(key)
        )
    }

    /// The key of a text in that form; None for another form, another algorithm, or where the id is not that of name and key.
    pub fn from_verifier_key(text: &str) -> Option<Self> {
        let (name, key) = text.split_once('+')?;
        let key = STANDARD.decode(key.split_once('+')?.1).ok()?;
        let key = Self(key.strip_prefix(&[ED25519])?.try_into().ok()?);
        (key.verifier_key(name) == text).then_some(key)
    }

    fn note_key(&self) -> Vec<u8> {
        [&[ED25519], &self.0[..]].concat()
    }

    fn note_verifier(&self, name: &str) -> Option<StandardVerifier> {
        StandardVerifier::new(&self.verifier_key(name)).ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

fn parse_note(note: &str) -> Result<Note, CheckpointError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(CheckpointError::TooLong(note.len()));
    }
    Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::NoNote)
}
