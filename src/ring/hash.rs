//! The frozen hash of ring and pins: XXH3-64 with seed 0.
//!
//! A wire contract. What these functions return may never change, for clients hold coordinates that
//! other proxies, of other versions, must resolve. XXH3 is stable since xxHash 0.8.0; the vectors in
//! `tests/vectors` were computed by another implementation.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Coordinate;
use crate::backend::Name;

/// The position of virtual node `number` of the backend called `name`: the hash of the name's bytes,
/// a zero byte, and the number as big-endian u32.
#[must_use]
pub fn virtual_node(name: &Name, number: u32) -> Coordinate {
    let mut hasher = Xxh3::new();
    hasher.update(name.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(&number.to_be_bytes());
    Coordinate(hasher.digest())
}

/// The position of any other key: the hash of its bytes.
#[must_use]
pub fn position(key: &[u8]) -> Coordinate {
    Coordinate(xxh3_64(key))
}
