//! As much of HTTP/1.1 as a benchmark needs: where a message ends, and what a head says.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

/// A head that has come whole.
pub(crate) struct Head<'a> {
    /// The first line and the fields.
    pub(crate) text: &'a str,
    /// Where it ends, the empty line with it.
    pub(crate) end: usize,
}

impl<'a> Head<'a> {
    /// The head at the beginning of `bytes`, if it has come whole.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..end]).expect("heads are ASCII here");
        Some(Self { text, end })
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        let lines = self.text.split("\r\n").skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(found.1.trim())
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self.text.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// How long the body says it is; `None` for one in chunks.
    pub(crate) fn length(&self) -> Option<usize> {
        if self.field("transfer-encoding").is_some() {
            return None;
        }
        let length = self.field("content-length");
        Some(length.map_or(0, |length| length.parse().expect("a length")))
    }
}

/// Where the message at the beginning of `bytes` ends, if it has come whole.
pub(crate) fn end_of(bytes: &[u8]) -> Option<usize> {
    let head = Head::of(bytes)?;
    let end = match head.length() {
        Some(length) => head.end + length,
        None => end_of_chunks(bytes, head.end)?,
    };
    (bytes.len() >= end).then_some(end)
}

fn end_of_chunks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = memchr::memmem::find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).expect("a chunk's size is ASCII");
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        at += line + 2 + size + 2;
        if size == 0 {
            return Some(at);
        }
        if at > bytes.len() {
            return None;
        }
    }
}

/// Sends `request` on a connection of its own and waits for the whole answer.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    while end_of(&answer).is_none() {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend(&piece[..read]);
    }
    Ok(answer)
}

/// The clock that all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
