//! A client of HTTP/2 that makes its frames by hand, and reads those that come.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use loona_hpack::Decoder;

use super::{PATIENCE, uninterrupted};

/// What every client begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A setting's identifier and value.
pub(crate) fn setting(number: u16, value: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Fields as literals that are neither compressed nor remembered.
pub(crate) fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for string in [name.as_ref(), value.as_ref()] {
            integer(&mut block, string.len(), 127);
            block.extend_from_slice(string);
        }
    }
    block
}

/// An integer that begins in the low bits of a byte, as many as `most` has (RFC 7541, section 5.1).
fn integer(block: &mut Vec<u8>, value: usize, most: usize) {
    if value < most {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// By RST_STREAM with this code.
    Reset(u32),
}

/// What has come on one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) head: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: Option<End>,
}

impl Stream {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.iter().filter(|(key, _)| key == name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {:?}", self.head);
        value.map(|(_, value)| value.as_str())
    }

    /// 0 if there is none.
    pub(crate) fn status(&self) -> u16 {
        let status = self.header(":status");
        status.map_or(0, |status| status.parse().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason in an error of pinring's own.
    pub(crate) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let reason = body["error"]["data"]["reason"].as_str();
        reason.unwrap_or_default().to_owned()
    }
}

/// A connection to pinring.
pub(crate) struct Http2 {
    pub(crate) stream: TcpStream,
    decoder: Decoder<'static>,
    unread: Vec<u8>,
    block: Vec<u8>,
    next: u32,
    /// Answers PING and SETTINGS, as clients do.
    pub(crate) is_polite: bool,
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// The last stream and the code of each GOAWAY.
    pub(crate) told_to_go: Vec<(u32, u32)>,
    pub(crate) settings: Vec<u8>,
    pub(crate) pings: usize,
    /// What WINDOW_UPDATE has allowed, by stream.
    pub(crate) allowed: BTreeMap<u32, usize>,
    pub(crate) is_closed: bool,
}

impl Http2 {
    /// Connects, and begins as clients do.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// The same with these settings.
    pub(crate) fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        let mut client = Self::silent(address);
        client.send([PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        client
    }

    /// Connects, and says nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            decoder: Decoder::new(),
            unread: Vec::new(),
            block: Vec::new(),
            next: 1,
            is_polite: true,
            streams: BTreeMap::new(),
            told_to_go: Vec::new(),
            settings: Vec::new(),
            pings: 0,
            allowed: BTreeMap::new(),
            is_closed: false,
        }
    }

    /// Sends what pinring takes of it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _closed = self.stream.write_all(bytes.as_ref());
        self
    }

    /// The number of the next stream.
    pub(crate) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        number
    }

    /// Begins a request with these fields behind its pseudo-header fields, and gives its stream; what follows is
    /// a body, unless it is empty.
    pub(crate) fn ask(&mut self, method: &str, headers: &[(&str, &str)], body: &str) -> u32 {
        let head = request(method, headers);
        let stream = self.number();
        let mut bytes = frame(
            HEADERS,
            END_HEADERS | if body.is_empty() { END_STREAM } else { 0 },
            stream,
            &fields(&head),
        );
        if !body.is_empty() {
            bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
        }
        self.send(bytes);
        stream
    }

    /// Asks, and waits for the whole answer.
    pub(crate) fn call(&mut self, method: &str, headers: &[(&str, &str)], body: &str) -> Stream {
        let stream = self.ask(method, headers, body);
        self.answer(stream)
    }

    /// Waits for the end of a stream, or of the connection.
    pub(crate) fn answer(&mut self, stream: u32) -> Stream {
        self.until("the stream ends", |client| {
            client.is_closed || client.of(stream).end.is_some()
        });
        self.of(stream)
    }

    /// What has come on a stream.
    pub(crate) fn of(&self, stream: u32) -> Stream {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Takes what a stream's body has.
    pub(crate) fn take_body(&mut self, stream: u32) -> Vec<u8> {
        let stream = self.streams.get_mut(&stream);
        stream.map_or(Vec::new(), |stream| std::mem::take(&mut stream.body))
    }

    /// Takes a stream back.
    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.send(frame(RST_STREAM, 0, stream, &code.to_be_bytes()))
    }

    /// Reads until this holds.
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline && !self.is_closed,
                "waited in vain until {what}: {:?}, told to go: {:?}, closed: {}",
                self.streams,
                self.told_to_go,
                self.is_closed
            );
            self.read_for(Duration::from_secs(1));
        }
    }

    /// Reads until the connection ends.
    pub(crate) fn until_closed(&mut self) {
        self.until("the connection ends", |client| client.is_closed);
    }

    /// Reads what comes next within `time`.
    pub(crate) fn read_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 16 * 1024];
        match uninterrupted(|| self.stream.read(&mut bytes)) {
            Ok(0) => self.is_closed = true,
            Ok(length) => self.unread.extend_from_slice(&bytes[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_reset) => self.is_closed = true,
        }
        while let Some(head) = self.unread.first_chunk::<9>().copied() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if self.unread.len() < 9 + length {
                break;
            }
            let payload = self.unread[9..9 + length].to_vec();
            self.unread.drain(..9 + length);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.take(head[3], head[4], stream, &payload);
        }
    }

    fn take(&mut self, kind: u8, flags: u8, number: u32, payload: &[u8]) {
        let word = |from: usize| {
            let bytes: [u8; 4] = payload[from..from + 4].try_into().unwrap();
            u32::from_be_bytes(bytes)
        };
        match kind {
            DATA => {
                let stream = self.streams.entry(number).or_default();
                assert_eq!(stream.end, None, "DATA behind the end");
                stream.body.extend_from_slice(payload);
            }
            HEADERS | CONTINUATION => {
                self.block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    let block = std::mem::take(&mut self.block);
                    let stream = self.streams.entry(number).or_default();
                    for (name, value) in self.decoder.decode(&block).unwrap() {
                        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                        stream.head.push((text(name), text(value)));
                    }
                }
            }
            RST_STREAM => {
                let stream = self.streams.entry(number).or_default();
                stream.end.get_or_insert(End::Reset(word(0)));
            }
            SETTINGS if flags & ACK == 0 => {
                self.settings = payload.to_vec();
                if self.is_polite {
                    self.send(frame(SETTINGS, ACK, 0, &[]));
                }
            }
            PING if flags & ACK == 0 => {
                self.pings += 1;
                if self.is_polite {
                    self.send(frame(PING, ACK, 0, payload));
                }
            }
            WINDOW_UPDATE => *self.allowed.entry(number).or_default() += word(0) as usize,
            GOAWAY => self.told_to_go.push((word(0), word(4))),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let stream = self.streams.entry(number).or_default();
            stream.end.get_or_insert(End::Whole);
        }
    }

    /// The code that the connection was ended with.
    pub(crate) fn code(&self) -> Option<u32> {
        self.told_to_go.last().map(|(_, code)| *code)
    }
}

/// The fields of a request as an MCP client sends it.
pub(crate) fn request<'a>(
    method: &'a str,
    headers: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "pinring.test"),
        (":path", "/mcp"),
    ];
    let accept = ("accept", "application/json, text/event-stream");
    [&pseudo[..], &[accept], headers].concat()
}
