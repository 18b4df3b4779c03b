//! Ends whose packets are dropped without a word: nobody holds a stream for them, and a short loss is no end.
//!
//! With the default times. It needs root, to make a network namespace; elsewhere it is skipped.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::{
    Arrivals, Asked, Authority, Backend, Chunk, Client, Link, Namespace, Pinring, Relay, ok,
    request, uninterrupted,
};

const LONGEST: Duration = Duration::from_secs(60);

/// A loss that passes.
const SHORT_LOSS: Duration = Duration::from_secs(20);

const EVENT: &str = "data: 1\n\n";

/// One server of each kind, at a link of its own.
struct Server {
    path: &'static str,
    backend: Backend,
    arrivals: Arrivals,
}

impl Server {
    fn at(path: &'static str, link: Link) -> Self {
        let (backend, arrivals) = Backend::manual_at((link.here, 0).into());
        Self {
            path,
            backend,
            arrivals,
        }
    }

    fn pool(&self) -> String {
        pool(self.path, &self.backend)
    }

    /// Opens a stream to it, over `link`.
    fn open(&self, pinring: &Pinring, link: Link) -> (Client, Asked) {
        self.open_at(link.at(pinring.address().port()))
    }

    fn open_at(&self, address: SocketAddr) -> (Client, Asked) {
        let mut client = Client::connect(address);
        let accept = "host: a\r\naccept: text/event-stream\r\n";
        client.send(format!("GET /{} HTTP/1.1\r\n{accept}\r\n", self.path));
        let mut asked = self.arrivals.next();
        asked.begin_stream().chunk(EVENT);
        client.head();
        assert_eq!(client.chunk(), Chunk::Data(EVENT.into()));
        (client, asked)
    }
}

fn pool(path: &str, backend: &Backend) -> String {
    let address = backend.address();
    format!(
        "[[pools]]\nname = \"{path}\"\nmatch = {{ path = \"/{path}\" }}\n\
         backends = [{{ name = \"{path}\", url = \"http://{address}\" }}]\n"
    )
}

/// As the SDKs' servers do it: one GET stream of a session, and 409 to the next while that is open.
fn strict(link: Link) -> Backend {
    let is_held = AtomicBool::new(false);
    Backend::on((link.here, 0).into(), move |request, stream| {
        if !request.line().starts_with("GET") {
            return stream.write_all(&ok("mcp-session-id: id\r\n", "")).is_ok();
        }
        if is_held.swap(true, Ordering::SeqCst) {
            let answer = b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n";
            return stream.write_all(answer).is_ok();
        }
        Asked::of(stream).begin_stream();
        let _gone = uninterrupted(|| stream.read(&mut [0]));
        is_held.store(false, Ordering::SeqCst);
        false
    })
}

/// Asks for the stream of a session, and gives the status and the connection.
fn resume(address: SocketAddr, id: &str) -> (u16, Client) {
    let mut client = Client::connect(address);
    client.send(request("GET", &format!("mcp-session-id: {id}\r\n"), ""));
    let head = client.head();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, client)
}

/// How long it takes until a client that comes from elsewhere has its stream back. Until then it is told 409.
fn until_resumed(address: SocketAddr, id: &str) -> Duration {
    let begin = Instant::now();
    while begin.elapsed() < 2 * LONGEST {
        match resume(address, id).0 {
            200 => break,
            status => assert_eq!(status, 409),
        }
        sleep(Duration::from_millis(500));
    }
    begin.elapsed()
}

/// How long it takes until this end is told that the other is gone. Until then it says `words` every second.
fn until_closed(stream: &mut TcpStream, words: Option<&str>) -> Duration {
    let begin = Instant::now();
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut bytes = [0; 1024];
    while begin.elapsed() < 2 * LONGEST {
        match stream.read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if let Some(words) = words {
                    let _closed = write!(stream, "{:x}\r\n{words}\r\n", words.len());
                }
            }
            Ok(0) | Err(_) => break,
        }
    }
    begin.elapsed()
}

/// Whether the events of a stream still reach its client.
fn goes_on((client, asked): &mut (Client, Asked)) -> bool {
    const LATER: &str = "data: later\n\n";
    asked.chunk(LATER);
    client.stream.set_read_timeout(Some(LONGEST)).unwrap();
    loop {
        match client.chunk() {
            Chunk::Data(data) if data == LATER.as_bytes() => return true,
            Chunk::Data(_) => {} // a comment, or an event of before
            Chunk::Last | Chunk::Truncated => return false,
        }
    }
}

#[test]
fn an_end_whose_packets_are_dropped_is_gone_within_a_minute() {
    let Some(namespace) = Namespace::try_new() else {
        return;
    };
    let links = std::array::from_fn(|number| namespace.link(number));
    let [
        clients,
        silent,
        busy,
        lossy,
        servers,
        silent_server,
        busy_server,
        left,
    ] = links;
    let server = Server::at("a", servers);
    let server_of_silence = Server::at("b", silent_server);
    let server_of_words = Server::at("c", busy_server);
    let strict = strict(servers);
    let pools = [&server, &server_of_silence, &server_of_words].map(Server::pool);
    let pools = pools.concat() + &pool("mcp", &strict);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    let certificate = authority.issue(&["a.test"]).write(folder.path(), "a");
    let certificate = certificate.display();
    let toml = format!(
        "[server]\nlisten = [\"0.0.0.0:0\", \"https://0.0.0.0:0\"]\n\
         [[tls.certificates]]\ncertificate = \"{certificate}\"\nkey = \"{}\"\n{pools}",
        folder.path().join("a.key").display()
    );
    let pinring = Pinring::start_by(&namespace.prefix(), &toml);

    let mut to_silent = server.open(&pinring, silent);
    let secure_port = pinring.addresses()[1].port();
    let relay = Relay::to(silent.at(secure_port), "a.test", authority.client());
    let mut to_secure = server.open_at(relay.address());
    let mut to_busy = server.open(&pinring, busy);
    let mut to_lossy = server.open(&pinring, lossy);
    let mut from_silent = server_of_silence.open(&pinring, clients);
    let mut from_busy = server_of_words.open(&pinring, clients);
    let port = pinring.address().port();
    let id = Client::initialize(clients.at(port));
    let held = resume(left.at(port), &id);
    assert_eq!((held.0, resume(clients.at(port), &id).0), (200, 409));
    for link in [silent, busy, lossy, silent_server, busy_server, left] {
        namespace.cut(link);
    }
    let mut into_the_void = from_busy.1.stream.try_clone().unwrap();
    std::thread::spawn(move || until_closed(&mut into_the_void, Some(EVENT))); // nobody will tell it

    std::thread::scope(|scope| {
        let gone = [
            // The client's end is dead: the backend is told.
            scope.spawn(|| until_closed(&mut to_silent.1.stream, None)),
            scope.spawn(|| until_closed(&mut to_busy.1.stream, Some(EVENT))),
            scope.spawn(|| until_closed(&mut to_secure.1.stream, None)),
            // The backend's end is dead: the client is told.
            scope.spawn(|| until_closed(&mut from_silent.0.stream, None)),
            scope.spawn(|| until_closed(&mut from_busy.0.stream, None)),
            // And the session's next stream is no second one.
            scope.spawn(|| until_resumed(clients.at(port), &id)),
        ];
        sleep(SHORT_LOSS);
        namespace.mend(lossy);
        assert!(goes_on(&mut to_lossy), "a loss that passes ends no stream");
        let gone = gone.map(|end| end.join().unwrap());
        eprintln!(
            "to a silent client, to a busy one, to one with TLS, from a silent backend, from a busy one, until resumed: {gone:.1?}"
        );
        for after in gone {
            assert!(after > SHORT_LOSS && after <= LONGEST, "{gone:?}");
        }
    });
}
