//! A pinring with backends that hold every byte they receive against the strict reader, and clients that do the same with
//! every answer.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::strict::{self, Message};
use crate::support::{Backend, anywhere, reset_on_close, uninterrupted};

/// For how long an answer is waited for.
const QUIET: Duration = Duration::from_secs(20);

/// What a backend does after it has dealt with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Serves the connection on.
    Serve,
    /// Reads on, and answers nothing.
    Listen,
    /// Is gone.
    Leave,
}

/// What one connection has brought to a backend.
#[derive(Debug, Default, Clone)]
pub(super) struct Arrived {
    /// Its requests.
    pub(super) messages: Vec<Message>,
    /// Bytes behind them: a request that broke off.
    pub(super) rest: Vec<u8>,
    /// What the strict reader has against them.
    pub(super) fault: Option<String>,
    /// Whether it has ended.
    pub(super) ended: bool,
}

/// What came to some backends, by connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Ledger(Arc<Mutex<HashMap<(&'static str, usize), Arrived>>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, HashMap<(&'static str, usize), Arrived>> {
        self.0.lock().unwrap()
    }

    /// All connections so far.
    pub(super) fn connections(&self) -> Vec<Arrived> {
        self.lock().values().cloned().collect()
    }

    /// The connection that brought the request with this target.
    pub(super) fn of(&self, target: &str) -> Arrived {
        let brought = |arrived: &&Arrived| {
            let mut messages = arrived.messages.iter();
            messages.any(|message| message.asked.ends_with(target))
        };
        self.lock().values().find(brought).cloned().unwrap()
    }

    /// A backend whose connections are noted here. It calls `answer` for each request.
    pub(super) fn backend(
        &self,
        name: &'static str,
        answer: impl Fn(&Message, &mut TcpStream) -> Next + Send + Sync + 'static,
    ) -> Backend {
        let ledger = self.clone();
        Backend::raw(anywhere(), move |mut stream, number| {
            let note = |change: &mut dyn FnMut(&mut Arrived)| {
                change(ledger.lock().entry((name, number)).or_default());
            };
            let mut bytes = vec![0; 64 * 1024];
            let mut unread = Vec::new();
            let mut next = Next::Serve;
            note(&mut |_| {});
            while let Ok(length @ 1..) = uninterrupted(|| stream.read(&mut bytes)) {
                unread.extend_from_slice(&bytes[..length]);
                while next == Next::Serve {
                    match strict::read(&unread) {
                        Ok(Some((message, length))) => {
                            unread.drain(..length);
                            note(&mut |arrived| arrived.messages.push(message.clone()));
                            next = answer(&message, &mut stream);
                        }
                        Ok(None) => break,
                        Err(fault) => {
                            let fault = format!("{fault} in {}", String::from_utf8_lossy(&unread));
                            note(&mut |arrived| arrived.fault = Some(fault.clone()));
                            next = Next::Leave;
                        }
                    }
                }
                note(&mut |arrived| arrived.rest.clone_from(&unread));
                if next == Next::Leave {
                    break;
                }
            }
            note(&mut |arrived| arrived.ended = true);
        })
    }
}

/// An answer of `name` that says what was asked.
pub(super) fn echo(name: &str, message: &Message) -> Vec<u8> {
    let said = format!("{name} {}", message.echo());
    let length = said.len();
    let said = if message.asked.starts_with("HEAD ") {
        String::new()
    } else {
        said
    };
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{said}").into_bytes()
}

/// A client that reads as strictly.
pub(super) struct Reader {
    stream: TcpStream,
    unread: Vec<u8>,
    was_reset: bool,
}

impl Reader {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(QUIET)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
            was_reset: false,
        }
    }

    /// Sends what is taken of `bytes`.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _closed = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Says that nothing more comes.
    pub(super) fn end(&mut self) {
        let _closed = self.stream.shutdown(Shutdown::Write);
    }

    /// Leaves as a client that was killed.
    pub(super) fn reset(self) {
        reset_on_close(&self.stream);
    }

    /// Asks for `target` and gives the answer.
    pub(super) fn get(&mut self, target: &str) -> String {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        self.next(false)
    }

    /// The next answer as one line: its status, and its body, or the reason of an error of pinring's own; with `cut`
    /// before it if it breaks off. Or `closed`, or `quiet`, or what is wrong with it.
    pub(super) fn next(&mut self, of_head: bool) -> String {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            match self.fill() {
                Some(true) => {}
                None => return "quiet".into(),
                Some(false) if self.unread.is_empty() => return "closed".into(),
                Some(false) => return "cut within a head".into(),
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let told = self.after(&head, of_head);
        told.unwrap_or_else(|fault| format!("{fault} in {head}"))
    }

    fn after(&mut self, head: &str, of_head: bool) -> Result<String, String> {
        let status = head.split(' ').nth(1).unwrap_or_default();
        let value = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = lines.filter(|(key, _)| *key == name);
            match (values.next(), values.next()) {
                (first, None) => Ok(first.map(|(_, value)| value)),
                _ => Err(format!("{name} twice")),
            }
        };
        let length = value("content-length")?.map(strict::decimal).transpose()?;
        let is_bare = of_head || status.starts_with('1') || status == "204" || status == "304";
        let body = match (length, value("transfer-encoding")?) {
            (None, None) if is_bare => Ok(Vec::new()),
            (Some(_), None) if of_head => Ok(Vec::new()),
            _ if is_bare => return Err("a body where none may be".into()),
            (Some(length), None) => self.take(length),
            (None, Some("chunked")) => self.chunks()?,
            (None, None) if head.starts_with("HTTP/1.0 ") => self.rest(),
            _ => return Err("no framing, or two".into()),
        };
        let (cut, body) = match body {
            Ok(body) => ("", body),
            Err(body) => ("cut ", body),
        };
        let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let reason = error["error"]["data"]["reason"].as_str();
        let said = reason.map_or(String::from_utf8_lossy(&body), Into::into);
        let id = value("mcp-session-id")?.map(|id| format!(" id:{}", id.len()));
        let id = id.unwrap_or_default();
        Ok(format!("{cut}{status}{id} {said}").trim_end().to_owned())
    }

    /// Whole, or what came of it.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Vec<u8>> {
        while self.unread.len() < length {
            if self.fill() != Some(true) {
                return Err(std::mem::take(&mut self.unread));
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Result<Vec<u8>, Vec<u8>>, String> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.unread, b"\r\n") {
                    Some(end) => break end,
                    None if self.fill() == Some(true) => {}
                    None => return Ok(Err(body)),
                }
            };
            let size = strict::hexadecimal(&self.unread[..end])?;
            self.unread.drain(..end + 2);
            match self.take(size + 2) {
                Ok(data) if data.ends_with(b"\r\n") => body.extend_from_slice(&data[..size]),
                Ok(_) => return Err("a chunk without its end".into()),
                Err(data) => return Ok(Err([body, data].concat())),
            }
            if size == 0 {
                return Ok(Ok(body));
            }
        }
    }

    /// What comes before the connection ends, if it ends in order.
    fn rest(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        loop {
            match self.fill() {
                Some(true) => {}
                Some(false) if !self.was_reset => return Ok(std::mem::take(&mut self.unread)),
                Some(false) | None => return Err(std::mem::take(&mut self.unread)),
            }
        }
    }

    /// Reads what is there; `Some(false)` at the end, `None` if nothing comes.
    fn fill(&mut self) -> Option<bool> {
        let mut bytes = [0; 16 * 1024];
        match uninterrupted(|| self.stream.read(&mut bytes)) {
            Ok(0) => Some(false),
            Ok(length) => {
                self.unread.extend_from_slice(&bytes[..length]);
                Some(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.was_reset = true;
                Some(false)
            }
            Err(_) => None,
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
