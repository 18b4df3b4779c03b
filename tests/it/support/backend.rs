//! Backends that answer as they are told, byte for byte, and remember what they were sent.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The request line and headers, as text, without the blank line.
    pub(crate) head: String,
    /// The body, by its Content-Length or chunks.
    pub(crate) body: Vec<u8>,
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
}

impl Received {
    /// The value of a header, if it is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} came twice: {}", self.head);
        value
    }
}

/// An answer with a length.
pub(crate) fn ok(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A listening backend. Stops listening when dropped.
pub(crate) struct Backend {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Backend {
    /// Calls `answer` for each request, with the connection to write to. The connection is kept alive while
    /// `answer` returns true.
    pub(crate) fn start(
        answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// The same at a given address.
    pub(crate) fn on(
        address: SocketAddr,
        answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            connections: Arc::default(),
            stopped: Arc::default(),
        };
        let (received, connections) = (
            Arc::clone(&backend.received),
            Arc::clone(&backend.connections),
        );
        let (stopped, answer) = (Arc::clone(&backend.stopped), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, number, &received, &*answer));
            }
        });
        backend
    }

    /// A stateful server in the manner of the SDKs: `initialize` (any POST without an id) issues the id
    /// `<name>-1`, `<name>-2` …; a request with an id of its own is answered `<name>`, others 404.
    pub(crate) fn stateful(name: &'static str) -> Self {
        let issued = AtomicUsize::new(0);
        Self::start(move |request, stream| {
            let answer = match request.header("mcp-session-id") {
                None => {
                    let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                    ok(&format!("mcp-session-id: {name}-{number}\r\n"), name)
                }
                Some(id) if id.starts_with(&format!("{name}-")) => {
                    ok(&format!("mcp-session-id: {id}\r\n"), name)
                }
                Some(_) => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            };
            stream.write_all(&answer).is_ok()
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How many connections were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address); // the accept loop sees that it is over
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    received: &Mutex<Vec<Received>>,
    answer: &dyn Fn(&Received, &mut TcpStream) -> bool,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, connection) {
        received.lock().unwrap().push(request.clone());
        if !answer(&request, &mut stream) {
            return;
        }
    }
}

fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        fill(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut request = Received {
        head,
        body: Vec::new(),
        connection,
    };
    if let Some(length) = request.header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            fill(stream, buffer)?;
        }
        request.body = buffer.drain(..length).collect();
    } else if request.header("transfer-encoding").is_some() {
        request.body = read_chunks(stream, buffer)?;
    }
    Some(request)
}

fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                Some(end) => break end,
                None => fill(stream, buffer)?,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buffer[..end]).unwrap(), 16).unwrap();
        while buffer.len() < end + 2 + size + 2 {
            fill(stream, buffer)?;
        }
        body.extend_from_slice(&buffer[end + 2..end + 2 + size]);
        buffer.drain(..end + 2 + size + 2);
        if size == 0 {
            return Some(body);
        }
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 16 * 1024];
    match stream.read(&mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            buffer.extend_from_slice(&bytes[..length]);
            Some(())
        }
    }
}
