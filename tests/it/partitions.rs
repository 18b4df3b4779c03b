//! Ends whose packets are dropped without a word: nobody holds a stream for them, and a short loss is no end.
//!
//! With the default times. It needs root, to make a network namespace; elsewhere it is skipped.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::{Arrivals, Asked, Backend, Chunk, Client, Link, Namespace, Pinring};

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
        let (path, address) = (self.path, self.backend.address());
        format!(
            "[[pools]]\nname = \"{path}\"\nmatch = {{ path = \"/{path}\" }}\n\
             backends = [{{ name = \"{path}\", url = \"http://{address}\" }}]\n"
        )
    }

    /// Opens a stream to it, over `link`.
    fn open(&self, pinring: &Pinring, link: Link) -> (Client, Asked) {
        let mut client = Client::connect(link.at(pinring.address().port()));
        let accept = "host: a\r\naccept: text/event-stream\r\n";
        client.send(format!("GET /{} HTTP/1.1\r\n{accept}\r\n", self.path));
        let mut asked = self.arrivals.next();
        asked.begin_stream().chunk(EVENT);
        client.head();
        assert_eq!(client.chunk(), Chunk::Data(EVENT.into()));
        (client, asked)
    }
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
    ] = links;
    let server = Server::at("a", servers);
    let server_of_silence = Server::at("b", silent_server);
    let server_of_words = Server::at("c", busy_server);
    let pools = [&server, &server_of_silence, &server_of_words].map(Server::pool);
    let toml = format!("[server]\nlisten = \"0.0.0.0:0\"\n{}", pools.concat());
    let pinring = Pinring::start_by(&namespace.prefix(), &toml);

    let mut to_silent = server.open(&pinring, silent);
    let mut to_busy = server.open(&pinring, busy);
    let mut to_lossy = server.open(&pinring, lossy);
    let mut from_silent = server_of_silence.open(&pinring, clients);
    let mut from_busy = server_of_words.open(&pinring, clients);
    for link in [silent, busy, lossy, silent_server, busy_server] {
        namespace.cut(link);
    }
    let mut into_the_void = from_busy.1.stream.try_clone().unwrap();
    std::thread::spawn(move || until_closed(&mut into_the_void, Some(EVENT))); // nobody will tell it

    std::thread::scope(|scope| {
        let gone = [
            // The client's end is dead: the backend is told.
            scope.spawn(|| until_closed(&mut to_silent.1.stream, None)),
            scope.spawn(|| until_closed(&mut to_busy.1.stream, Some(EVENT))),
            // The backend's end is dead: the client is told.
            scope.spawn(|| until_closed(&mut from_silent.0.stream, None)),
            scope.spawn(|| until_closed(&mut from_busy.0.stream, None)),
        ];
        sleep(SHORT_LOSS);
        namespace.mend(lossy);
        assert!(goes_on(&mut to_lossy), "a loss that passes ends no stream");
        let gone = gone.map(|end| end.join().unwrap());
        eprintln!(
            "to a silent client, to a busy one, from a silent backend, from a busy one: {gone:.1?}"
        );
        for after in gone {
            assert!(after > SHORT_LOSS && after <= LONGEST, "{gone:?}");
        }
    });
}
