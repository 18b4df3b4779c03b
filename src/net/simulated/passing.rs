//! Nobody passes sockets on here.

use std::io;

use super::tcp::Bound;
use crate::net::unix::{Blocking, Stream};

/// Passes nothing on.
///
/// # Errors
///
/// Always.
pub async fn send(_stream: &Stream, _sockets: &[Bound]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Receives nothing.
///
/// # Errors
///
/// Always.
pub fn receive(_stream: &Blocking) -> io::Result<Vec<Bound>> {
    Err(io::ErrorKind::Unsupported.into())
}
