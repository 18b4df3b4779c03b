//! Replicas that answer as MCP servers do, in one thread, with next to no work: what is measured is the proxy.
//!
//! Each knows the sessions that it issued by their ids, and says of every call whether it was right here. What a request
//! wants stands in its query: `bytes=N` an answer so long, `every=MS` a stream with an event so often (0: never), `sse` an
//! answer as a stream whose end comes late.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use slab::Slab;

use crate::{
    poller::Poller,
    wire::{self, Head},
};

/// How many replicas there are.
pub(crate) const REPLICAS: usize = 4;

/// From an answer's only event to its end, as servers of the Python SDK have it.
const LATE: u64 = 2_000_000;

const TEXT: &str = "12 degrees, light rain, wind from the west at 20 km/h; tomorrow 14 degrees and dry; the day after tomorrow \
    sunny with some clouds in the evening";

static ZEROS: [u8; 64 * 1024] = [b'0'; 64 * 1024];

struct Connection {
    stream: TcpStream,
    replica: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Of a long answer, what is still to be made.
    zeros: usize,
    /// Between the events of a stream.
    every: Option<u64>,
    /// When the next event, or the end of an answer, is due.
    due: u64,
}

/// Serves all replicas until the process is killed. Prints their addresses.
pub(crate) fn serve() -> io::Result<()> {
    let listeners = [(); REPLICAS].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect::<io::Result<_>>()?;
    println!("{}", addresses.join(" "));
    let mut poller = Poller::new();
    for (key, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        poller.watch(listener, key);
    }
    let mut site = Site {
        connections: Slab::new(),
        timed: Vec::new(),
        issued: 0,
    };
    loop {
        for key in poller.wait(site.until_due()) {
            if let Some(listener) = listeners.get(key) {
                while let Ok((stream, _)) = listener.accept() {
                    site.accept(stream, key, &poller)?;
                }
            } else {
                site.ready(key - REPLICAS, &poller);
            }
        }
        site.tick(&poller);
    }
}

struct Site {
    connections: Slab<Connection>,
    /// Those with something due.
    timed: Vec<usize>,
    issued: u64,
}

impl Site {
    fn accept(&mut self, stream: TcpStream, replica: usize, poller: &Poller) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let entry = self.connections.vacant_entry();
        poller.watch(&stream, REPLICAS + entry.key());
        entry.insert(Connection {
            stream,
            replica,
            input: Vec::new(),
            output: Vec::new(),
            zeros: 0,
            every: None,
            due: 0,
        });
        Ok(())
    }

    fn ready(&mut self, key: usize, poller: &Poller) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.read() {
            self.close(key);
            return;
        }
        while let Some(end) = wire::end_of(&connection.input) {
            let request: Vec<u8> = connection.input.drain(..end).collect();
            self.issued += 1;
            connection.answer(&request, self.issued);
            if connection.due > 0 && !self.timed.contains(&key) {
                self.timed.push(key);
            }
        }
        connection.write(REPLICAS + key, poller);
    }

    fn close(&mut self, key: usize) {
        self.connections.remove(key);
        self.timed.retain(|timed| *timed != key);
    }

    fn until_due(&self) -> Option<Duration> {
        let due = self.timed.iter().map(|key| self.connections[*key].due);
        let next = due.min()?;
        Some(Duration::from_nanos(next.saturating_sub(wire::now())))
    }

    fn tick(&mut self, poller: &Poller) {
        if self.timed.is_empty() {
            return;
        }
        let now = wire::now();
        let (connections, timed) = (&mut self.connections, &mut self.timed);
        timed.retain(|key| {
            let connection = &mut connections[*key];
            if connection.due <= now {
                connection.happen();
                connection.write(REPLICAS + key, poller);
            }
            connection.due > 0
        });
    }
}

impl Connection {
    /// `false` when the other side has closed.
    fn read(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => self.input.extend(&piece[..read]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            if wire::end_of(&self.input).is_some() {
                return true; // nothing follows it: nobody pipelines here
            }
        }
    }

    fn answer(&mut self, request: &[u8], number: u64) {
        let head = Head::of(request).expect("a whole request");
        let target = head.text.split(' ').nth(1).expect("a target");
        let wanted = target.split_once('?').map_or("", |(_, query)| query);
        let session = head.field("mcp-session-id");
        let is_modern = head.field("mcp-protocol-version") == Some("2026-07-28");
        let issued = issued(self.replica, number);
        let id = session.unwrap_or(&issued);
        let is_right = is_modern || session.is_none_or(|id| replica_of(id) == Some(self.replica));
        let common = format!(
            "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\nmcp-session-id: {id}\r\n"
        );
        let common = if is_modern {
            common.replace(&format!("mcp-session-id: {id}\r\n"), "")
        } else {
            common
        };
        let body = format!(
            r#"{{"right":{is_right},"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{TEXT}"}}],"isError":false}}}}"#
        );
        let streams = "content-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
        if let Some(length) = wanted.strip_prefix("bytes=") {
            self.zeros = length.parse().expect("a length");
            let text = format!(
                "{common}content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            self.output.extend(text.as_bytes());
        } else if let Some(every) = wanted.strip_prefix("every=") {
            let every: u64 = every.parse().expect("milliseconds");
            self.every = Some(every * 1_000_000);
            self.due = if every > 0 {
                wire::now() + every * 1_000_000
            } else {
                0
            };
            self.output.extend(format!("{common}{streams}").as_bytes());
        } else if wanted == "sse" {
            let text = format!("{common}{streams}{}", event(&body));
            self.output.extend(text.as_bytes());
            self.due = wire::now() + LATE;
        } else {
            let length = body.len();
            let text = format!(
                "{common}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            self.output.extend(text.as_bytes());
        }
    }

    /// What was due: an event, or the end of an answer.
    fn happen(&mut self) {
        if let Some(every) = self.every {
            self.output
                .extend(event(&wire::now().to_string()).as_bytes());
            self.due += every;
        } else {
            self.output.extend(b"0\r\n\r\n");
            self.due = 0;
        }
    }

    fn write(&mut self, key: usize, poller: &Poller) {
        let was_full = self.zeros > 0;
        loop {
            if self.output.is_empty() {
                if self.zeros == 0 {
                    break;
                }
                let piece = self.zeros.min(ZEROS.len());
                match self.stream.write(&ZEROS[..piece]) {
                    Ok(written) => self.zeros -= written,
                    Err(_) => break,
                }
            } else {
                match self.stream.write(&self.output) {
                    Ok(written) => drop(self.output.drain(..written)),
                    Err(_) => break, // it is slow, or has gone, which is read next
                }
            }
        }
        if was_full {
            poller.watch_room(&self.stream, key, self.zeros > 0);
        }
    }
}

/// One event as one chunk.
fn event(data: &str) -> String {
    let event = format!("event: message\r\ndata: {data}\r\n\r\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

fn issued(replica: usize, number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{replica:04x}-4000-8000-{number:012x}", mixed >> 32)
}

fn replica_of(id: &str) -> Option<usize> {
    usize::from_str_radix(id.get(9..13)?, 16).ok()
}
