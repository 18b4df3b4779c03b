//! A server of hand-made frames (RFC 9113, section 4.1), which keeps to no rule that a test does not want kept.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const ACK: u8 = 1;

/// `:status: 200` in HPACK's static table (RFC 7541, appendix A).
pub(super) const OK: &[u8] = &[0x88];

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field of a head, as a literal that is not indexed. Both parts are shorter than 127 bytes.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend_from_slice(name.as_bytes());
    field.push(value.len() as u8);
    field.extend_from_slice(value.as_bytes());
    field
}

/// The head of an answer with status 200.
pub(super) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = OK.to_vec();
    for (name, value) in fields {
        block.extend(field(name, value));
    }
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn go_away(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// One connection of pinring's, greeted already.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
}

impl Connection {
    /// Sends bytes as they are, if anybody is there.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _gone = self.stream.write_all(bytes.as_ref());
    }

    /// The next frame; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The number of the next request's stream, when all of the request is there.
    pub(super) fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }
}

/// A server that greets, and does with each connection as it is told.
pub(super) struct Raw {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Raw {
    /// Greets with these settings, and serves connections side by side.
    pub(super) fn start(
        settings: &'static [u8],
        serve: impl Fn(&mut Connection, &AtomicUsize) + Clone + Send + 'static,
    ) -> Self {
        Self::silent(move |connection, requests| {
            let mut preface = [0; 24];
            if connection.stream.read_exact(&mut preface).is_err() {
                return;
            }
            assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            connection.send(frame(SETTINGS, 0, 0, settings));
            connection.send(frame(SETTINGS, ACK, 0, &[]));
            serve(connection, requests);
        })
    }

    /// The same without a greeting.
    pub(super) fn silent(
        serve: impl Fn(&mut Connection, &AtomicUsize) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<AtomicUsize> = Arc::default();
        let requests: Arc<AtomicUsize> = Arc::default();
        let (count, counts) = (Arc::clone(&connections), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (serve, requests) = (serve.clone(), Arc::clone(&counts));
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    serve(&mut Connection { stream }, &requests);
                });
            }
        });
        Self {
            address,
            connections,
            requests,
        }
    }

    /// Answers each request by `answer`, which is told the number of the request from 1.
    pub(super) fn answering(
        answer: impl Fn(&mut Connection, u32, usize) + Clone + Send + 'static,
    ) -> Self {
        Self::start(&[], move |connection, requests| {
            while let Some(stream) = connection.request() {
                let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
                answer(connection, stream, number);
            }
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests have come, of servers that count.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
