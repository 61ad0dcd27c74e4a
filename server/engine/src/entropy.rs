//! Randomness as a value: the UUIDs that rows and versions get.

use nonnet_schema::Uuid;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// A source of UUIDs that is a pure function of its seed.
#[derive(Clone, Debug)]
pub struct Entropy(SmallRng);

impl Entropy {
    /// The source of that seed; a server draws its seed from the operating system, a test chooses one.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(SmallRng::from_seed(seed))
    }

    /// A random UUID (RFC 9562, version 4).
    pub fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        // Version 4 in byte 6, variant 1 in byte 8.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid::from_bytes(bytes)
    }
}
