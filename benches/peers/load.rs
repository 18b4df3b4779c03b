//! The load: calls over kept connections or over new ones, streams that are listened to, and what came of it.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    poller::Poller,
    wire::{self, Head},
};

const SESSIONS: usize = 256;

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"New York","units":"metric","days":3},"_meta":{"progressToken":7}}}"#;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"load","version":"1.0.0"}}}"#;

const MODERN: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"New York"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"load","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Calls of sessions, over kept connections.
    Pinned,
    /// Handshakes.
    Initialize,
    /// Calls of revision 2026-07-28.
    Modern,
    /// Calls with an answer of 4 MiB.
    Long,
    /// A call on each connection, which the client closes after the event that it waited for.
    Closing,
}

/// A load.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// Calls a second; `None` is as many as there can be.
    pub(crate) rate: Option<f64>,
    /// So many calls, if there is time; `None` is as many as there can be.
    pub(crate) calls: Option<u64>,
}

/// What came of a load. Times are microseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) done: u64,
    pub(crate) wrong: u64,
    pub(crate) errors: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) seconds: f64,
}

impl Outcome {
    /// Holds a load to what it was for.
    ///
    /// # Panics
    ///
    /// If there was no answer, one from a wrong replica, or an error.
    pub(crate) fn expect_right(&self, what: &str) {
        let (done, wrong, errors) = (self.done, self.wrong, self.errors);
        assert!(
            done > 0 && wrong == 0 && errors == 0,
            "{what}: of {done} answers {wrong} came from a wrong replica, {errors} were errors"
        );
    }
}

/// Of a long answer.
pub(crate) const LONG: usize = 4 * 1024 * 1024;

/// Sends what `plan` says to `address`, after the line for which it waits.
pub(crate) fn calls(address: SocketAddr, plan: Plan) -> io::Result<()> {
    let sessions = if matches!(plan.kind, Kind::Pinned | Kind::Long | Kind::Closing) {
        sessions(address)?
    } else {
        vec![String::new()]
    };
    let requests: Vec<String> = sessions
        .iter()
        .map(|session| request(plan.kind, session))
        .collect();
    wait_for_line()?;
    let outcome = Load::new(address, plan, requests)?.run()?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Opens `count` streams with an event each `every` milliseconds, 0 for none. Listens for `seconds` after the line for
/// which it waits, and then tells how late the events were.
pub(crate) fn streams(
    address: SocketAddr,
    count: usize,
    every: u64,
    seconds: f64,
) -> io::Result<()> {
    let sessions = sessions(address)?;
    let mut poller = Poller::new();
    let mut streams = Vec::with_capacity(count);
    // All are asked for before the first head is read: HAProxy holds a head without a body back for a while.
    for index in 0..count {
        let session = &sessions[index % sessions.len()];
        let target = format!("/mcp?every={every}");
        let head = head("GET", &target, session, "text/event-stream");
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        streams.push((stream, Vec::new()));
    }
    for (index, (stream, _)) in streams.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        while Head::of(&bytes).is_none() {
            let read = stream.read(&mut piece)?;
            assert!(read > 0, "a stream ended before it began");
            bytes.extend(&piece[..read]);
        }
        assert_eq!(Head::of(&bytes).map(|head| head.status()), Some(200));
        stream.set_nonblocking(true)?;
        poller.watch(stream, index);
    }
    wait_for_line()?;
    let outcome = listen(&mut poller, &mut streams, seconds)?;
    println!("{}", serde_json::to_string(&outcome)?);
    wait_for_line()
}

fn listen(
    poller: &mut Poller,
    streams: &mut [(TcpStream, Vec<u8>)],
    seconds: f64,
) -> io::Result<Outcome> {
    let mut late = Vec::new();
    let mut errors = 0;
    let begin = wire::now();
    let end = begin + nanoseconds(seconds);
    let mut piece = vec![0; 64 * 1024];
    loop {
        let now = wire::now();
        if now >= end {
            break;
        }
        for key in poller.wait(Some(Duration::from_nanos(end - now))) {
            let (stream, rest) = &mut streams[key];
            match stream.read(&mut piece) {
                Ok(0) => errors += 1,
                Ok(read) => {
                    rest.extend(&piece[..read]);
                    let now = wire::now();
                    late.extend(events(rest).map(|sent| now.saturating_sub(sent)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Outcome {
        errors,
        ..outcome(late, begin)
    })
}

/// Takes whole events from `bytes`: when each was sent.
fn events(bytes: &mut Vec<u8>) -> impl Iterator<Item = u64> {
    let mut sent = Vec::new();
    while let Some(begin) = memchr::memmem::find(bytes, b"data: ") {
        let digits = &bytes[begin + 6..];
        let Some(end) = memchr::memchr(b'\r', digits) else {
            break;
        };
        let text = std::str::from_utf8(&digits[..end]).expect("digits");
        sent.push(text.parse().expect("a time"));
        bytes.drain(..begin + 6 + end);
    }
    sent.into_iter()
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    began: u64,
    /// Of a long answer, what is still to come.
    left: usize,
    is_busy: bool,
}

struct Load {
    address: SocketAddr,
    plan: Plan,
    requests: Vec<String>,
    next: usize,
    clients: Vec<Client>,
    poller: Poller,
    late: Vec<u64>,
    wrong: u64,
    errors: u64,
    piece: Vec<u8>,
}

impl Load {
    fn new(address: SocketAddr, plan: Plan, requests: Vec<String>) -> io::Result<Self> {
        let mut load = Self {
            address,
            plan,
            requests,
            next: 0,
            clients: Vec::new(),
            poller: Poller::new(),
            late: Vec::new(),
            wrong: 0,
            errors: 0,
            piece: vec![0; 64 * 1024],
        };
        for key in 0..plan.connections {
            let client = load.connect(key)?;
            load.clients.push(client);
        }
        Ok(load)
    }

    fn connect(&self, key: usize) -> io::Result<Client> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.poller.watch(&stream, key);
        Ok(Client {
            stream,
            input: Vec::new(),
            began: 0,
            left: 0,
            is_busy: false,
        })
    }

    fn run(mut self) -> io::Result<Outcome> {
        let begin = wire::now();
        let end = begin + nanoseconds(self.plan.seconds);
        let step = self.plan.rate.map(|rate| nanoseconds(1.0 / rate));
        let mut due = begin;
        let mut left = self.plan.calls.unwrap_or(u64::MAX);
        let mut idle: VecDeque<usize> = (0..self.clients.len()).collect();
        loop {
            let now = wire::now();
            let mut timeout = end.saturating_sub(now);
            while now < end && left > 0 && due <= now {
                let Some(key) = idle.pop_front() else { break };
                // With a rate, the time counts from when the call was due: a slow proxy cannot hide behind the client.
                self.send(key, step.map_or(now, |_| due))?;
                due += step.unwrap_or(0);
                left -= 1;
            }
            if step.is_some() && !idle.is_empty() {
                timeout = timeout.min(due.saturating_sub(now));
            }
            let is_over = now >= end || left == 0;
            if is_over && idle.len() == self.clients.len() {
                break;
            }
            let timeout = if is_over { 1_000_000_000 } else { timeout };
            let ready = self.poller.wait(Some(Duration::from_nanos(timeout)));
            assert!(
                now < end + 10_000_000_000,
                "answers are missing for ten seconds"
            );
            for key in ready {
                if self.receive(key)? {
                    idle.push_back(key);
                }
            }
        }
        Ok(Outcome {
            wrong: self.wrong,
            errors: self.errors,
            ..outcome(self.late, begin)
        })
    }

    fn send(&mut self, key: usize, began: u64) -> io::Result<()> {
        if self.plan.kind == Kind::Closing && !self.clients[key].input.is_empty() {
            self.clients[key] = self.connect(key)?;
        }
        let request = self.requests[self.next % self.requests.len()].as_bytes();
        self.next += 1;
        let client = &mut self.clients[key];
        client.input.clear();
        client.began = began;
        client.is_busy = true;
        client.stream.write_all(request)
    }

    /// Whether the client may send again.
    fn receive(&mut self, key: usize) -> io::Result<bool> {
        let client = &mut self.clients[key];
        let read = match client.stream.read(&mut self.piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if read == 0 {
            let was_busy = client.is_busy;
            self.errors += u64::from(was_busy);
            self.clients[key] = self.connect(key)?;
            return Ok(was_busy);
        }
        if !client.is_busy {
            return Ok(false); // the rest of an answer that nobody waits for
        }
        if client.left > 0 {
            client.left -= read;
            if client.left > 0 {
                return Ok(false);
            }
        } else {
            client.input.extend(&self.piece[..read]);
            if !self.is_answered(key) {
                return Ok(false);
            }
        }
        let client = &mut self.clients[key];
        self.late.push(wire::now() - client.began);
        client.is_busy = false;
        self.judge(key);
        Ok(true)
    }

    /// Whether the client has what it waited for.
    fn is_answered(&mut self, key: usize) -> bool {
        let client = &mut self.clients[key];
        match self.plan.kind {
            Kind::Pinned | Kind::Initialize | Kind::Modern => wire::end_of(&client.input).is_some(),
            Kind::Closing => {
                let head = Head::of(&client.input).map(|head| head.end);
                head.is_some_and(|end| {
                    memchr::memmem::find(&client.input[end..], b"\r\n\r\n").is_some()
                })
            }
            Kind::Long => {
                let Some(head) = Head::of(&client.input) else {
                    return false;
                };
                let whole = head.end + head.length().unwrap_or(0);
                client.left = whole - client.input.len();
                client.left == 0
            }
        }
    }

    fn judge(&mut self, key: usize) {
        let input = &self.clients[key].input;
        let status = Head::of(input).map_or(0, |head| head.status());
        if status != 200 {
            self.errors += 1;
        } else if self.plan.kind != Kind::Long
            && memchr::memmem::find(input, br#""right":true"#).is_none()
        {
            self.wrong += 1;
        }
    }
}

fn outcome(mut late: Vec<u64>, begin: u64) -> Outcome {
    late.sort_unstable();
    let at = |part: f64| {
        let index = (late.len() as f64 * part) as usize;
        late.get(index.min(late.len().saturating_sub(1)))
            .map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1000.0)
    };
    Outcome {
        done: late.len() as u64,
        wrong: 0,
        errors: 0,
        p50: at(0.5),
        p99: at(0.99),
        seconds: (wire::now() - begin) as f64 / 1e9,
    }
}

fn sessions(address: SocketAddr) -> io::Result<Vec<String>> {
    let opening = request(Kind::Initialize, "");
    let open = |_| {
        let answer = wire::exchange(address, &opening)?;
        let head = Head::of(&answer).expect("it came whole");
        let id = head.field("mcp-session-id");
        Ok(id.expect("initialize is answered with an id").to_owned())
    };
    (0..SESSIONS).map(open).collect()
}

fn request(kind: Kind, session: &str) -> String {
    let json = "application/json, text/event-stream";
    let (target, body) = match kind {
        Kind::Pinned => ("/mcp".to_owned(), CALL),
        Kind::Initialize => ("/mcp".to_owned(), INITIALIZE),
        Kind::Modern => ("/mcp".to_owned(), MODERN),
        Kind::Long => (format!("/mcp?bytes={LONG}"), CALL),
        Kind::Closing => ("/mcp?sse".to_owned(), CALL),
    };
    let mut head = head("POST", &target, session, json);
    if kind == Kind::Modern {
        head = head.replace(
            "mcp-protocol-version: 2025-11-25\r\n",
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: get_weather\r\n",
        );
    }
    let length = body.len();
    format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn head(method: &str, target: &str, session: &str, accept: &str) -> String {
    let session = if session.is_empty() {
        String::new()
    } else {
        format!("mcp-session-id: {session}\r\n")
    };
    format!(
        "{method} {target} HTTP/1.1\r\nhost: mcp.example.com\r\nuser-agent: python-httpx/0.28.1\r\naccept: {accept}\r\n\
         accept-encoding: gzip, deflate\r\nmcp-protocol-version: 2025-11-25\r\n{session}"
    )
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// The parent says when.
fn wait_for_line() -> io::Result<()> {
    println!("ready");
    io::stdin().read_line(&mut String::new()).map(|_| ())
}
