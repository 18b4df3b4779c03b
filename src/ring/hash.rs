//! The frozen hash of ring and pins: XXH3-64 with seed 0.
//!
//! A wire contract. What these functions return may never change, for clients hold coordinates that
//! other proxies, of other versions, must resolve. XXH3 is stable since xxHash 0.8.0; the vectors in
//! `tests/vectors` were computed by another implementation.

use xxhash_rust::xxh3::xxh3_64;

use super::Coordinate;
use crate::backend::Name;

/// The positions of the virtual nodes of the backend called `name`, from number 0 on: each is the hash of the name's
/// bytes, a zero byte, and the number as big-endian u32.
pub fn virtual_nodes(name: &Name) -> impl Iterator<Item = Coordinate> {
    let name = name.as_str().as_bytes();
    let mut key = [name, &[0; 5]].concat();
    let digits = name.len() + 1;
    (0_u32..).map(move |number| {
        key[digits..].copy_from_slice(&number.to_be_bytes());
        position(&key)
    })
}

/// The position of any other key: the hash of its bytes.
#[must_use]
pub fn position(key: &[u8]) -> Coordinate {
    Coordinate(xxh3_64(key))
}
