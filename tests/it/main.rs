//! The real binary, driven over real sockets: every promise about bytes on the wire.
//!
//! One binary for all of them links faster than ten. Real SDK servers and clients are in `tests/sdk`.

mod sessions;
mod support;
