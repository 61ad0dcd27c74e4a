//! The commit record and the hash chain.
