//! Backends that answer as they are told, byte for byte, and remember what they were sent.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{PATIENCE, eventually, uninterrupted};

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

    /// Reads the next request of a connection whose bytes before it are in `buffer`; `None` at its end.
    pub(crate) fn read(
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
        connection: usize,
    ) -> Option<Self> {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            fill(stream, buffer)?;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut request = Self {
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

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// One request whose answer the test itself writes, as it goes.
pub(crate) struct Asked {
    /// The backend's side of its connection.
    pub(crate) stream: TcpStream,
}

impl Asked {
    /// What came on this connection.
    pub(crate) fn of(stream: &TcpStream) -> Self {
        let stream = stream.try_clone().unwrap();
        Self { stream }
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Begins an event stream without a length.
    pub(crate) fn begin_stream(&mut self) -> &mut Self {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    }

    /// Writes one chunk.
    pub(crate) fn chunk(&mut self, data: &str) -> &mut Self {
        self.send(format!("{:x}\r\n{data}\r\n", data.len()))
    }

    /// Whether pinring closes this connection within `time`, having sent nothing more.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        match uninterrupted(|| self.stream.read(&mut [0; 64])) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
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

/// An address of this machine that no other backend of these tests gets, also when this one is gone: tests run
/// side by side, and the kernel gives a port that was closed to the next who asks.
pub(crate) fn anywhere() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, a, b, c] = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    SocketAddr::from(([127, a + 1, b, c], 0))
}

/// A listener at this address, also where there was one a moment ago: a program that another test is starting may
/// hold a copy of the socket that was there before.
pub(crate) fn listening(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    eventually("the address is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// An address that refuses connections, and that nobody else gets meanwhile.
pub(crate) struct Closed(socket2::Socket);

impl Closed {
    /// Takes a free port, and does not listen on it.
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap(); // for whoever listens there afterwards
        socket.bind(&anywhere().into()).unwrap();
        Self(socket)
    }

    /// The address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// Lets connections in from here on.
    pub(crate) fn open(&self) {
        self.0.listen(8).unwrap();
    }
}

/// An address whose packets are lost, as in a partition: its queue of connections is full, and nobody accepts.
pub(crate) struct Unreachable {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Unreachable {
    /// Takes a free port.
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&anywhere().into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let soon = Duration::from_millis(100);
        let connect = || TcpStream::connect_timeout(&address, soon).ok();
        Self {
            _queue: std::iter::from_fn(connect).collect(),
            listener,
        }
    }

    /// The address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The partition has healed: who connects now is answered with the same bytes.
    pub(crate) fn heal(self, answer: Vec<u8>) -> Backend {
        Backend::accepting(self.listener, move |mut stream, number| {
            let mut buffer = Vec::new();
            while Received::read(&mut stream, &mut buffer, number).is_some() {
                let _gone = stream.write_all(&answer);
            }
        })
    }
}

/// A listening backend. When dropped it is gone, with all its connections, as if killed.
pub(crate) struct Backend {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    listener: TcpListener,
    streams: Arc<Mutex<HashMap<usize, TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Backend {
    /// Calls `answer` for each request, with the connection to write to. The connection is kept alive while
    /// `answer` returns true.
    pub(crate) fn start(
        answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on(anywhere(), answer)
    }

    /// The same at a given address.
    pub(crate) fn on(
        address: SocketAddr,
        answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let received = Arc::default();
        let sink = Arc::clone(&received);
        let streams: Arc<Mutex<HashMap<usize, TcpStream>>> = Arc::default();
        let served = Arc::clone(&streams);
        let mut backend = Self::raw(address, move |stream, number| {
            let copy = stream.try_clone().unwrap();
            served.lock().unwrap().insert(number, copy);
            serve(stream, number, &sink, &answer);
            served.lock().unwrap().remove(&number); // else it would not be closed
        });
        backend.received = received;
        backend.streams = streams;
        backend
    }

    /// Hands each connection, with its number, to `serve` as soon as it is accepted. It is `serve`'s alone: a
    /// drop of the backend does not end it.
    pub(crate) fn raw(
        address: SocketAddr,
        serve: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        Self::accepting(listening(address), serve)
    }

    fn accepting(
        listener: TcpListener,
        serve: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        let mut backend = Self {
            address: listener.local_addr().unwrap(),
            listener: listener.try_clone().unwrap(),
            received: Arc::default(),
            connections: Arc::default(),
            streams: Arc::default(),
            accepting: None,
        };
        let connections = Arc::clone(&backend.connections);
        let serve = Arc::new(serve);
        backend.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, number));
            }
        }));
        backend
    }

    /// Answers every request with the same bytes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, stream| stream.write_all(&answer).is_ok())
    }

    /// Leaves each request, one a connection, to the test.
    pub(crate) fn manual() -> (Self, Arrivals) {
        Self::manual_at(anywhere())
    }

    /// The same at a given address.
    pub(crate) fn manual_at(address: SocketAddr) -> (Self, Arrivals) {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let sink = Arc::clone(&received);
        let mut backend = Self::raw(address, move |mut stream, number| {
            if let Some(request) = Received::read(&mut stream, &mut Vec::new(), number) {
                sink.lock().unwrap().push(request);
                // The test's alone: its drop closes the connection at once.
                let _unwanted = sender.lock().unwrap().send(Asked { stream });
            }
        });
        backend.received = received;
        (backend, Arrivals(receiver))
    }

    /// A stateful server in the manner of the SDKs: `initialize` (any POST without an id) issues the id
    /// `<name>-1`, `<name>-2` …; a request with an id of its own is answered `<name>`, others 404.
    pub(crate) fn stateful(name: &'static str) -> Self {
        Self::stateful_at(anywhere(), name)
    }

    /// The same at a given address.
    pub(crate) fn stateful_at(address: SocketAddr, name: &'static str) -> Self {
        let issued = AtomicUsize::new(0);
        Self::on(address, move |request, stream| {
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

    /// Stops listening: connects are refused from here on. Connections that are open stay so.
    ///
    /// Closing would not do, for a program that another test is starting holds a copy of each socket for a moment: the
    /// port would accept, and could not be taken again.
    pub(crate) fn stop(&self) {
        let _was_stopped = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }

    /// How many connections were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The requests of a [`Backend::manual`], in the order of their arrival.
pub(crate) struct Arrivals(Receiver<Asked>);

impl Arrivals {
    /// The next request.
    pub(crate) fn next(&self) -> Asked {
        self.0
            .recv_timeout(PATIENCE)
            .expect("a request reaches the backend")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap(); // else it could accept one more
        }
        for (_, stream) in self.streams.lock().unwrap().drain() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    received: &Mutex<Vec<Received>>,
    answer: &dyn Fn(&Received, &mut TcpStream) -> bool,
) {
    let mut buffer = Vec::new();
    while let Some(request) = Received::read(&mut stream, &mut buffer, connection) {
        received.lock().unwrap().push(request.clone());
        if !answer(&request, &mut stream) {
            return;
        }
    }
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
    match uninterrupted(|| stream.read(&mut bytes)) {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            buffer.extend_from_slice(&bytes[..length]);
            Some(())
        }
    }
}
