//! A client of raw bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, uninterrupted};

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Status line and headers, as text.
    pub(crate) head: String,
    /// The body, without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says, and not by the connection's end.
    pub(crate) complete: bool,
}

impl Answer {
    /// The value of a header, which may be there once only.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers(name);
        assert!(
            values.len() <= 1,
            "{name} came more than once: {}",
            self.head
        );
        values.first().copied()
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason in an error of pinring's own.
    pub(crate) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["data"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A request as a client of an MCP SDK would send it, with further header lines (each ended by `\r\n`).
pub(crate) fn request(method: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} /mcp HTTP/1.1\r\nhost: pinring.test\r\naccept: application/json, text/event-stream\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A piece of a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Bytes.
    Data(Vec<u8>),
    /// The end.
    Last,
    /// The connection ended before the body did.
    Truncated,
}

/// A connection to pinring.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    was_reset: bool,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).unwrap())
    }

    /// Connects from another address of this machine.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::on(socket.into())
    }

    /// A connection that is there.
    pub(crate) fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            was_reset: false,
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends bytes, of which pinring may refuse to read the last.
    pub(crate) fn send_what_is_taken(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _closed = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Takes what was read of a body together with its head.
    pub(crate) fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Sends a request and reads its whole answer.
    pub(crate) fn call(&mut self, method: &str, headers: &str, body: &str) -> Answer {
        self.send(request(method, headers, body)).answer()
    }

    /// One request on a connection of its own.
    pub(crate) fn once(address: SocketAddr, method: &str, headers: &str, body: &str) -> Answer {
        Self::connect(address).call(method, headers, body)
    }

    /// Opens a session without a body worth mentioning, and gives the id that the client is to use.
    pub(crate) fn initialize(address: SocketAddr) -> String {
        let answer = Self::once(address, "POST", "", "{}");
        answer
            .header("mcp-session-id")
            .expect("an id is issued")
            .to_owned()
    }

    /// One request of a session on a connection of its own.
    pub(crate) fn in_session(address: SocketAddr, id: &str) -> Answer {
        Self::once(address, "POST", &format!("Mcp-Session-Id: {id}\r\n"), "{}")
    }

    /// Reads one whole answer: its head, and its body by Content-Length, chunks or the connection's end.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: Vec::new(),
            complete: true,
        };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.fill() {}
            answer.complete = self.buffer.len() >= length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else if answer.header("transfer-encoding").is_some() {
            answer.complete = self.chunks(&mut answer.body);
        } else if answer.status != 204 && answer.status != 304 {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer
    }

    /// Reads an answer's head.
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 4);
                return head;
            }
            assert!(
                self.fill(),
                "the connection ended within a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads one chunk of an answer's body.
    pub(crate) fn chunk(&mut self) -> Chunk {
        let end = loop {
            match self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                Some(end) => break end,
                None if self.fill() => {}
                None => return Chunk::Truncated,
            }
        };
        let size =
            usize::from_str_radix(std::str::from_utf8(&self.buffer[..end]).unwrap(), 16).unwrap();
        while self.buffer.len() < end + 2 + size + 2 {
            if !self.fill() {
                return Chunk::Truncated;
            }
        }
        let chunk = self.buffer[end + 2..end + 2 + size].to_vec();
        self.buffer.drain(..end + 2 + size + 2);
        if size == 0 {
            Chunk::Last
        } else {
            Chunk::Data(chunk)
        }
    }

    /// Whether the connection's end comes, and nothing before it.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    /// Whether the connection's end was a reset, and no orderly one.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Whether nothing comes within `time`, not even the end.
    pub(crate) fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = uninterrupted(|| self.stream.peek(&mut [0]));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.buffer.is_empty()
            && read.is_err_and(|error| {
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            })
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            match self.chunk() {
                Chunk::Data(chunk) => body.extend_from_slice(&chunk),
                Chunk::Last => return true,
                Chunk::Truncated => return false,
            }
        }
    }

    /// Reads what is there; `false` at the end.
    pub(crate) fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match uninterrupted(|| self.stream.read(&mut bytes)) {
            Ok(0) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.was_reset = true;
                false
            }
            Err(error) => panic!("reading an answer: {error}"),
        }
    }
}
