//! Answers that are broken, or that two readers could take for different ones.

mod bodies;
mod heads;

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use super::{
    site::{Ledger, Next, Reader, echo},
    strict,
};
use crate::support::{
    Backend, ONE_THREAD, Pinring, anywhere, eventually, reset_on_close, uninterrupted,
};

/// For how long a connection is waited for that is to be closed: less than idle ones are kept.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);

/// What a backend does to a request.
#[derive(Clone)]
enum Step {
    /// Sends bytes as they are.
    Send(Vec<u8>),
    /// Sends them again and again, until nobody takes them.
    Flood(Vec<u8>),
    /// Waits until the client has its answer.
    Heard,
    /// Ends its side.
    Close,
    /// Goes away as a process that was killed.
    Reset,
}

/// What becomes of the backend's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It may be used again.
    Kept,
    /// It is closed, and brings no other request.
    Closed,
}

use Then::{Closed, Kept};

/// A request, what the backend does, what the client is told, and what becomes of the backend's connection.
struct Case {
    method: &'static str,
    headers: &'static str,
    steps: Vec<Step>,
    told: String,
    then: Then,
}

impl Case {
    fn new(bytes: impl AsRef<[u8]>, told: impl Into<String>, then: Then) -> Self {
        Self {
            method: "POST",
            headers: "",
            steps: vec![Step::Send(bytes.as_ref().to_vec())],
            told: told.into(),
            then,
        }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn to(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Asked for by a client of the era without sessions, whose answers may hold carriers.
    fn modern(mut self) -> Self {
        self.headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n";
        self
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.steps.first();
        let said = match first {
            Some(Step::Send(bytes)) => String::from_utf8_lossy(&bytes[..bytes.len().min(200)]),
            _ => "nothing at once".into(),
        };
        write!(
            f,
            "{} answered {said:?}: {}, {:?}",
            self.method, self.told, self.then
        )
    }
}

const INVALID: &str = "502 backend_answer_invalid";
const BAD_ID: &str = "502 backend_session_id_invalid";
const GONE: &str = "502 backend_closed";

/// An answer that nobody asked for.
const UNASKED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nUNASKED";

/// An answer with these header lines, each ended, and this behind its head.
fn ok(headers: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{rest}")
}

fn chunked(rest: &str) -> String {
    ok("transfer-encoding: chunked\r\n", rest)
}

fn hello(headers: &str) -> String {
    ok(&format!("{headers}content-length: 5\r\n"), "hello")
}

fn all() -> Vec<Case> {
    [heads::all(), bodies::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// A backend that does to `/case/<number>` what the case says, and answers anything else.
fn scripted(ledger: &Ledger, heard: Receiver<()>) -> Backend {
    let cases: Vec<(Vec<Step>, Then)> = all()
        .into_iter()
        .map(|case| (case.steps, case.then))
        .collect();
    let heard = Mutex::new(heard);
    ledger.backend("other", move |message, stream| {
        let number = message.asked.split("/case/").nth(1);
        let Some(number) = number.map(|number| number.parse::<usize>().unwrap()) else {
            let _gone = stream.write_all(&echo("other", message));
            return Next::Serve;
        };
        let (steps, then) = &cases[number];
        for step in steps {
            take(step, stream, &heard);
        }
        match then {
            Kept => Next::Serve,
            Closed if matches!(steps.last(), Some(Step::Reset)) => Next::Leave,
            Closed => Next::Listen,
        }
    })
}

fn take(step: &Step, stream: &mut TcpStream, heard: &Mutex<Receiver<()>>) {
    match step {
        Step::Send(bytes) => {
            let _gone = stream.write_all(bytes);
        }
        Step::Flood(bytes) => while stream.write_all(bytes).is_ok() {},
        Step::Heard => heard.lock().unwrap().recv().unwrap(),
        Step::Close => {
            let _gone = stream.shutdown(Shutdown::Write);
        }
        Step::Reset => reset_on_close(stream),
    }
}

fn ask(client: &mut Reader, case: &Case, number: usize) -> String {
    let body = if case.method == "POST" { "{}" } else { "" };
    client.send(format!(
        "{} /case/{number} HTTP/1.1\r\nhost: a\r\n{}content-length: {}\r\n\r\n{body}",
        case.method,
        case.headers,
        body.len()
    ));
    client.next(case.method == "HEAD")
}

/// What is wrong with a case.
fn faults(
    pinring: &Pinring,
    ledger: &Ledger,
    heard: &Sender<()>,
    (number, case): (usize, &Case),
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    let [mut client, mut other] = [(); 2].map(|()| Reader::connect(pinring.address()));
    let target = format!("/other/{number}");
    let answered = format!("200 other GET {target}");

    let told = ask(&mut client, case, number);
    hold(told == case.told, format!("told {told:.200}"));
    if case.steps.iter().any(|step| matches!(step, Step::Heard)) {
        heard.send(()).unwrap();
    } else {
        let told = other.get(&target);
        hold(told == answered, format!("another client: {told:.200}"));
        let (told, wanted) = match case.told.starts_with("cut ") {
            true => (client.next(false), "closed"),
            false => (client.get(&target), &*answered),
        };
        hold(told == wanted, format!("and then {told:.200}"));
    }
    if case.then == Closed {
        let case = format!("/case/{number}");
        let deadline = Instant::now() + CLOSED_WITHIN;
        while !ledger.of(&case).ended && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let arrived = ledger.of(&case);
        hold(arrived.ended, "the connection stays open".into());
        let last = arrived.messages.last();
        let is_last = last.is_some_and(|last| last.asked.ends_with(&case));
        hold(
            is_last && arrived.rest.is_empty(),
            "the connection was used again".into(),
        );
        let told = other.get(&target);
        hold(
            told == answered,
            format!("another client, later: {told:.200}"),
        );
    }
    faults
}

#[test]
fn a_broken_answer_is_never_taken_for_a_whole_one_and_reaches_nobody_else() {
    let ledger = Ledger::default();
    let (sender, receiver) = mpsc::channel();
    let backend = scripted(&ledger, receiver);
    let toml = format!("{ONE_THREAD}[timeouts]\nupstream_keep_alive = \"1m\"\n");
    let pinring = Pinring::before(&[&backend], &toml);
    let mut failures = Vec::new();
    let cases = all();
    for (number, case) in cases.iter().enumerate() {
        let faults = faults(&pinring, &ledger, &sender, (number, case));
        if !faults.is_empty() {
            failures.push(format!("{case:?}\n    {}", faults.join("\n    ")));
        }
    }
    let faults = ledger
        .connections()
        .into_iter()
        .filter_map(|arrived| arrived.fault);
    failures.extend(faults);
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// A backend that answers `/early` as soon as it has its head, and gives the number of its connections that have ended.
fn hasty() -> (Backend, Arc<AtomicUsize>) {
    let ended: Arc<AtomicUsize> = Arc::default();
    let noted = Arc::clone(&ended);
    let backend = Backend::raw(anywhere(), move |mut stream, _| {
        let (mut unread, mut answered) = (Vec::new(), false);
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = uninterrupted(|| stream.read(&mut bytes)) {
            unread.extend_from_slice(&bytes[..length]);
            if unread.starts_with(b"POST /early ") && !answered {
                answered = stream.write_all(hello("").as_bytes()).is_ok();
            }
            while let Some((message, length)) = strict::read(&unread).unwrap() {
                unread.drain(..length);
                if !std::mem::take(&mut answered) {
                    let _gone = stream.write_all(&echo("other", &message));
                }
            }
        }
        noted.fetch_add(1, Ordering::SeqCst);
    });
    (backend, ended)
}

#[test]
fn an_answer_before_the_end_of_its_request_leaves_no_doubt() {
    // What follows the answer, and whether the backend's connection may be used again.
    let cases = [
        ("content-length: 4\r\n\r\nab", "cd", true),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "0\r\n\r\n",
            true,
        ),
        ("content-length: 4\r\n\r\nab", "", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "", false),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "x\r\n",
            false,
        ),
    ];
    for (begun, rest, is_whole) in cases {
        let (backend, ended) = hasty();
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        let mut client = Reader::connect(pinring.address());
        client.send(format!("POST /early HTTP/1.1\r\nhost: a\r\n{begun}"));
        assert_eq!(client.next(false), "200 hello", "{begun:?}");
        let mut other = Reader::connect(pinring.address());
        // The connection is still taken by the rest of the request.
        assert_eq!(other.get("/other"), "200 other GET /other", "{begun:?}");
        client.send(rest);
        if is_whole {
            // Or it has been let go: who answers early and well is rare.
            let next = client.get("/next");
            assert!(
                ["200 other GET /next", "closed"].contains(&&*next),
                "{begun:?}: {next}"
            );
            assert_eq!(ended.load(Ordering::SeqCst), 0, "{begun:?}");
        } else {
            drop(client);
            eventually("the backend's connection has ended", || {
                ended.load(Ordering::SeqCst) == 1
            });
        }
        assert_eq!(other.get("/later"), "200 other GET /later", "{begun:?}");
    }
}
