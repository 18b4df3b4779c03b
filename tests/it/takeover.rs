//! `--take-over`: one process takes the place of another, and no client notices more than a closed stream.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::support::{
    Backend, Chunk, Client, PATIENCE, Pinring, anywhere, ask, eventually, http2::Http2, listing,
    ok, request, server_with_admin, socket_in,
};

/// Answers with the session's id; a GET opens a stream that stays.
fn server() -> Backend {
    Backend::start(|request, stream| {
        let id = request.header("mcp-session-id").unwrap_or("id");
        let answer = if request.line().starts_with("GET") {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n".to_vec()
        } else {
            ok(&format!("mcp-session-id: {id}\r\n"), "a")
        };
        stream.write_all(&answer).is_ok()
    })
}

/// A folder with a configuration that several processes are started with, one after the other.
struct Place {
    folder: tempfile::TempDir,
    backend: Backend,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            backend: server(),
        };
        place.write(&server_with_admin(place.folder.path()));
        place
    }

    fn write(&self, server: &str) {
        let backends = listing(&[("a", &self.backend, "")]);
        let toml =
            format!("{backends}\n{server}\n[timeouts]\ndrain = \"3s\"\n[log]\naccess = false\n");
        fs::write(self.file(), toml).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pinring.toml")
    }

    fn admin(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    fn start(&self, more: &[&str]) -> Pinring {
        let file = self.file();
        let args = [&["--config", file.to_str().unwrap()], more].concat();
        // Lines of each request would be more than the log's reader here can take: some would be dropped.
        let quiet = [("RUST_LOG", "info")];
        Pinring::launch(tempfile::tempdir().unwrap(), &args, &quiet)
    }

    /// What a start that fails tells.
    fn failed_start(&self) -> (Option<i32>, String) {
        let output = Command::new("timeout")
            .args([
                "20",
                env!("CARGO_BIN_EXE_pinring"),
                "--take-over",
                "--config",
            ])
            .arg(self.file())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

fn in_session(id: &str, method: &str) -> String {
    request(method, &format!("mcp-session-id: {id}\r\n"), "")
}

/// Clients that go on until told to stop. Each of them panics at anything that is no good answer.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<AtomicUsize>, thread::JoinHandle<()>)>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            clients: Vec::new(),
        }
    }

    /// Begins `turn` again and again, and counts.
    fn begin(&mut self, mut turn: impl FnMut() + Send + 'static) {
        let (stop, count) = (Arc::clone(&self.stop), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&count);
        let client = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                turn();
                counted.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1)); // the pace of the load
            }
        });
        self.clients.push((count, client));
    }

    /// Waits until each client has come round again.
    fn goes_on(&self) {
        let counts = || {
            self.clients
                .iter()
                .map(|(count, _)| count.load(Ordering::SeqCst))
        };
        let before: Vec<usize> = counts().collect();
        eventually("every client has had another answer", || {
            let failed = self.clients.iter().any(|(_, client)| client.is_finished());
            assert!(!failed, "a client has failed");
            counts().zip(&before).all(|(now, before)| now > *before + 5)
        });
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.clients.into_iter().map(|(count, client)| {
            client.join().unwrap();
            count.load(Ordering::SeqCst)
        });
        ended.sum()
    }
}

#[test]
fn three_take_overs_under_load_refuse_and_reset_nobody() {
    let place = Place::new();
    let mut serving = place.start(&[]);
    let address = serving.address();
    let id = Client::initialize(address);
    let (mut load, mut streams) = (Load::new(), Load::new());
    for _ in 0..3 {
        let asked = in_session(&id, "POST");
        load.begin(move || {
            let answer = Client::connect(address).send(&asked).answer();
            assert_eq!((answer.status, answer.text()), (200, "a".into()));
        });
        let asked = in_session(&id, "POST");
        let mut kept = Client::connect(address);
        load.begin(move || {
            let answer = kept.send(&asked).answer();
            assert_eq!((answer.status, answer.text()), (200, "a".into()));
            if answer.header("connection") == Some("close") {
                kept = Client::connect(address);
            }
        });
        let asked = in_session(&id, "GET");
        streams.begin(move || {
            let mut client = Client::connect(address);
            // A stream is silent from one take-over to the next, however long that takes here.
            client.stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
            client.send(&asked).head();
            assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".into()));
            assert_eq!(client.chunk(), Chunk::Last, "streams end between events");
        });
    }
    for _ in 0..3 {
        load.goes_on();
        let next = place.start(&["--take-over"]);
        assert_eq!(next.address(), address);
        next.wait_for_log("took over");
        assert_eq!(serving.wait().code(), Some(0));
        load.goes_on();
        serving = next;
    }
    let (status, _) = ask(&place.admin(), "GET", "/backends", "");
    assert_eq!(status, 200, "the path is the last one's");
    assert!(load.end() > 300);
    streams.stop.store(true, Ordering::SeqCst);
    serving.signal("TERM");
    assert_eq!(serving.wait().code(), Some(0));
    assert!(
        streams.end() >= 9,
        "each was opened again after each take-over"
    );
    assert!(!place.admin().exists());
}

#[test]
fn a_kept_connection_gets_one_more_answer_and_is_then_sent_to_the_new_process() {
    let place = Place::new();
    let mut before = place.start(&[]);
    let mut kept = Client::connect(before.address());
    assert_eq!(kept.call("POST", "", "{}").header("connection"), None);
    let mut fresh = Client::connect(before.address());
    let mut idle = Client::connect(before.address());
    eventually("all are accepted", || {
        Client::once(before.address(), "POST", "", "{}").status == 200
    });
    let next = place.start(&["--take-over"]);
    before.wait_for_log("stopping");
    before.signal("TERM"); // as whoever replaces a process does
    before.wait_for_log("already leaving");
    assert!(
        kept.is_quiet_for(Duration::from_millis(300)),
        "not closed at once"
    );
    for client in [&mut kept, &mut fresh] {
        assert_eq!(
            client.call("POST", "", "{}").header("connection"),
            Some("close")
        );
        assert!(client.is_closed());
    }
    assert!(idle.is_closed(), "in the end");
    assert_eq!(before.wait().code(), Some(0));
    let answer = Client::once(next.address(), "POST", "", "{}");
    assert_eq!(answer.header("connection"), None);
}

#[test]
fn a_take_over_under_load_breaks_no_call_over_http_2() {
    let place = Place::new();
    let mut before = place.start(&[]);
    let address = before.address();
    let mut load = Load::new();
    for _ in 0..3 {
        let mut kept = Http2::connect(address);
        load.begin(move || {
            if !kept.told_to_go.is_empty() {
                kept = Http2::connect(address);
            }
            let answer = kept.call("POST", &[], "{}");
            assert_eq!((answer.status(), answer.text()), (200, "a".into()));
        });
    }
    load.goes_on();
    let next = place.start(&["--take-over"]);
    assert_eq!(before.wait().code(), Some(0));
    load.goes_on();
    load.end();
    drop(next);
}

#[test]
fn who_takes_over_and_does_not_start_leaves_the_process_as_it_was() {
    let place = Place::new();
    let before = place.start(&[]);
    let occupied = Backend::answering(ok("", ""));
    let listen = format!("listen = [\"127.0.0.1:0\", \"{}\"]", occupied.address());
    let server = server_with_admin(place.folder.path());
    place.write(&server.replace("listen = \"127.0.0.1:0\"", &listen));
    let (code, told) = place.failed_start();
    assert!(
        code == Some(1) && told.contains("another process listens there"),
        "{told}"
    );
    before.wait_for_log("did not begin to serve: this one goes on");

    // One that goes away in the middle.
    let claim = claim(&place);
    eventually("it is claimed", || {
        let (code, told) = place.failed_start();
        code == Some(1) && told.contains("another process is taking over")
    });
    drop(claim);
    eventually("it is given up", || {
        let lines = before.log();
        let given_up = lines
            .iter()
            .filter(|line| line.contains("did not begin to serve"));
        given_up.count() == 2
    });
    let answer = Client::once(before.address(), "POST", "", "{}");
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert_eq!(ask(&place.admin(), "GET", "/backends", "").0, 200);
    place.write(&server);
    let next = place.start(&["--take-over"]);
    assert_eq!(next.address(), before.address());
}

/// Asks for the place of the process that serves.
fn claim(place: &Place) -> UnixStream {
    let mut claim = UnixStream::connect(place.admin()).unwrap();
    claim.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /take-over HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: pinring-take-over\r\n\r\n";
    claim.write_all(head.as_bytes()).unwrap();
    claim
}

#[test]
fn who_has_heard_that_the_other_serves_leaves_though_that_one_hears_nothing_more() {
    let place = Place::new();
    let mut before = place.start(&[]);
    let mut claim = claim(&place);
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n\n") {
        claim.read_exact(&mut byte).unwrap(); // to the byte beside which the sockets come
        read.extend(byte);
    }
    claim.shutdown(Shutdown::Read).unwrap();
    claim.write_all(b"serving\n").unwrap();
    before.wait_for_log("does not hear that this one leaves");
    assert_eq!(before.wait().code(), Some(0));
}

#[test]
fn who_takes_over_says_so_when_the_other_may_go_on() {
    let place = Place::new();
    let listener = UnixListener::bind(place.admin()).unwrap();
    let before = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut head = [0; 1024];
        let _some = stream.read(&mut head).unwrap();
        let answer = "HTTP/1.1 101 Switching Protocols\r\n\r\n\n"; // and no socket
        stream.write_all(answer.as_bytes()).unwrap();
        let mut said = [0; 8];
        stream.read_exact(&mut said).unwrap();
        said
    });
    let next = place.start(&["--take-over"]);
    next.wait_for_log("may go on beside this one");
    assert_eq!(&before.join().unwrap(), b"serving\n");
    let answer = Client::once(next.address(), "POST", "", "{}");
    assert_eq!(answer.status, 200);
}

#[test]
fn what_is_no_longer_listed_is_closed_and_what_is_new_is_bound() {
    let place = Place::new();
    let [one, two, three] = [anywhere(), anywhere(), anywhere()];
    let listening = |addresses: [SocketAddr; 2]| {
        let listen = format!("listen = [\"{}\", \"{}\"]", addresses[0], addresses[1]);
        let server = server_with_admin(place.folder.path());
        place.write(&server.replace("listen = \"127.0.0.1:0\"", &listen));
    };
    let addresses = |pinring: &Pinring| -> Vec<SocketAddr> {
        let line = pinring.find_log("listen").unwrap();
        let listen = line["listen"].as_str().unwrap().split(", ");
        listen.map(|address| address.parse().unwrap()).collect()
    };
    listening([one, two]);
    let mut before = place.start(&[]);
    let old = addresses(&before);
    listening([three, two]);
    let next = place.start(&["--take-over"]);
    let new = addresses(&next);
    assert_eq!((new[0].ip(), new[1]), (three.ip(), old[1]));
    assert_eq!(before.wait().code(), Some(0));
    for address in new {
        assert_eq!(Client::once(address, "POST", "", "{}").status, 200);
    }
    assert!(
        TcpStream::connect(old[0]).is_err(),
        "nobody listens there any more"
    );
}

#[test]
fn where_nobody_is_it_begins_anew() {
    let place = Place::new();
    let pinring = place.start(&["--take-over"]);
    assert!(
        pinring
            .log()
            .iter()
            .any(|line| line.contains("nobody is there to take over from"))
    );
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        200
    );
    assert_eq!(ask(&place.admin(), "GET", "/backends", "").0, 200);
}

#[test]
fn without_an_admin_socket_there_is_nobody_to_ask() {
    let place = Place::new();
    place.write("[server]\nlisten = \"127.0.0.1:0\"");
    let (code, told) = place.failed_start();
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("admin = \"unix:/run/pinring/admin.sock\""),
        "{told}"
    );
    assert!(!Path::new(&place.admin()).exists());
}
