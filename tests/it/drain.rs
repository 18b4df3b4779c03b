//! Draining a backend: no new work, what it holds is served, and the rest is lost at one known moment.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::support::{
    Backend, Chunk, Client, Pinring, Unreachable, administrated, ask, eventually, listing, ok,
    request,
};

/// A server of sessions whose answers depend on the request: `DELETE` ends the session, `GET` opens a stream, a
/// body of `slow` gets the beginning of an answer, and one of `silent` nothing.
fn server(name: &'static str) -> Backend {
    const BEGIN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\nc\r\ndata: hello\n";
    Backend::start(move |request, stream| {
        let id = request.header("mcp-session-id").unwrap_or(name);
        let answer = match (request.line().split(' ').next(), &*request.body) {
            (_, b"slow") => format!("{BEGIN}\r\n").into_bytes(),
            (_, b"silent") => Vec::new(),
            (Some("GET"), _) => format!("{BEGIN}\r\n1\r\n\n\r\n").into_bytes(),
            _ => ok(&format!("mcp-session-id: {id}\r\n"), name),
        };
        stream.write_all(&answer).is_ok()
    })
}

/// A new session of this backend.
fn session_of(pinring: &Pinring, name: &str) -> String {
    loop {
        let id = Client::initialize(pinring.address());
        if id.starts_with(name) {
            return id;
        }
    }
}

fn told(pinring: &Pinring, id: &str) -> (u16, String) {
    let answer = Client::in_session(pinring.address(), id);
    (answer.status, answer.reason())
}

fn lost() -> (u16, String) {
    (404, "backend_lost".to_owned())
}

/// Sends a request of a session and leaves its answer.
fn begin(pinring: &Pinring, id: &str, method: &str, body: &str) -> Client {
    let mut client = Client::connect(pinring.address());
    client.send(request(method, &format!("mcp-session-id: {id}\r\n"), body));
    client
}

fn drain(pinring: &Pinring, what: serde_json::Value) -> serde_json::Value {
    let (status, answer) = ask(&pinring.admin(), "POST", "/drain", &what.to_string());
    assert_eq!(status, 200, "{answer}");
    answer
}

/// What a command prints and its exit code.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    error: String,
}

fn started(args: &[&str]) -> Child {
    Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_pinring")])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(command: Child) -> Told {
    let output = command.wait_with_output().unwrap();
    Told {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> Told {
    ended(started(args))
}

fn at(pinring: &Pinring) -> String {
    format!("--admin=unix:{}", pinring.admin().display())
}

#[track_caller]
fn assert_says(told: &Told, code: i32, words: &[&str]) {
    assert_eq!(told.code, Some(code), "{told:?}");
    let text = format!("{}{}", told.out, told.error);
    for word in words {
        assert!(text.contains(word), "{word:?} in {told:?}");
    }
}

fn two() -> (Backend, Backend, Pinring) {
    let (a, b) = (server("a"), server("b"));
    let pinring = administrated(&Pinring::backends(&[&a, &b]));
    (a, b, pinring)
}

#[test]
fn a_draining_backend_gets_no_new_work_and_serves_what_it_holds() {
    let (_a, _b, pinring) = two();
    let id = session_of(&pinring, "a");
    let answer = drain(&pinring, json!({ "backend": "a", "timeout": "10m" }));
    assert_eq!(answer["open_left"], 1, "{answer}");
    for _ in 0..30 {
        assert!(Client::initialize(pinring.address()).starts_with('b'));
    }
    assert_eq!(told(&pinring, &id).0, 200);
    let shown = pinring.standing("a");
    assert_eq!(
        (&shown["state"], &shown["sessions"]),
        (&"draining".into(), &1.into())
    );
    let left = shown["lost_in_s"].as_u64().unwrap();
    assert!((590..=600).contains(&left), "{shown}");
    let audit = pinring.find_log("action").unwrap();
    assert_eq!(
        (&audit["target"], &audit["backend"]),
        (&"pinring::audit".into(), &"a".into())
    );
    assert!(audit["user"].is_u64(), "{audit}");

    ask(&pinring.admin(), "POST", "/undrain", r#"{"backend":"a"}"#);
    session_of(&pinring, "a");
}

#[test]
fn at_the_end_of_a_drain_all_that_is_open_ends_and_pins_are_lost() {
    let (_a, _b, pinring) = two();
    let (id, other) = (session_of(&pinring, "a"), session_of(&pinring, "b"));
    let mut stream = begin(&pinring, &id, "GET", "");
    let mut slow = begin(&pinring, &id, "POST", "slow");
    let mut silent = begin(&pinring, &id, "POST", "silent");
    let mut untouched = begin(&pinring, &other, "GET", "");
    slow.head();
    assert_eq!(slow.chunk(), Chunk::Data(b"data: hello\n".into()));
    for client in [&mut stream, &mut untouched] {
        client.head();
        assert_eq!(client.chunk(), Chunk::Data(b"data: hello\n\n".into()));
    }
    eventually("all are in flight", || {
        pinring.standing("a")["in_flight"] == 3
    });

    drain(&pinring, json!({ "backend": "a", "now": true }));
    assert_eq!(told(&pinring, &id), lost(), "from the answer on");
    assert_eq!(stream.chunk(), Chunk::Last, "between two events");
    assert_eq!(slow.chunk(), Chunk::Truncated, "never a clean end");
    let answer = silent.answer();
    assert_eq!((answer.status, answer.reason()), lost());
    assert!(untouched.is_quiet_for(Duration::from_millis(200)));
    assert_eq!(told(&pinring, &other).0, 200);
    let shown = pinring.standing("a");
    assert_eq!(
        (&shown["state"], &shown["sessions_lost"]),
        (&"drained".into(), &1.into())
    );
    assert_eq!(
        (&shown["sessions"], &shown["in_flight"]),
        (&0.into(), &0.into())
    );
    pinring.wait_for_log("drained, and its time is over");
    assert_eq!(pinring.find_logs("in_flight")[0]["sessions"], 1);
}

#[test]
fn a_stream_within_an_event_breaks_off_at_the_end_of_a_drain() {
    let (_a, _b, pinring) = two();
    let id = session_of(&pinring, "a");
    let mut client = begin(&pinring, &id, "GET", "slow");
    client.head();
    drain(&pinring, json!({ "backend": "a", "timeout": "300ms" }));
    assert_eq!(
        told(&pinring, &id).0,
        200,
        "until the deadline it is served"
    );
    assert_eq!(client.chunk(), Chunk::Data(b"data: hello\n".into()));
    assert_eq!(client.chunk(), Chunk::Truncated);
    assert_eq!(told(&pinring, &id), lost());
}

#[test]
fn with_successor_the_sessions_of_a_drained_backend_go_on_elsewhere() {
    let (a, b) = (server("a"), server("b"));
    let backends = Pinring::backends(&[&a, &b]);
    let pinring = administrated(&format!("{backends}\n[pool]\non_loss = \"successor\"\n"));
    let id = session_of(&pinring, "a");
    drain(&pinring, json!({ "backend": "a", "now": true }));
    assert_eq!(Client::in_session(pinring.address(), &id).text(), "b");
}

#[test]
fn an_id_without_pin_gets_one_where_it_goes_on() {
    let backends = ["a", "b"].map(|name| {
        Backend::start(move |request, stream| {
            let id = request.header("mcp-session-id").unwrap_or("new");
            let answer = ok(&format!("mcp-session-id: {id}\r\n"), name);
            stream.write_all(&answer).is_ok()
        })
    });
    let listed = Pinring::backends(&backends.each_ref());
    let pinring = administrated(&format!("{listed}\n[pool]\non_loss = \"successor\"\n"));
    drain(&pinring, json!({ "backend": "a", "now": true }));
    for number in 0..8 {
        let foreign = format!("foreign-{number}");
        let answer = Client::in_session(pinring.address(), &foreign);
        assert_eq!(answer.text(), "b");
        let pinned = answer.header("mcp-session-id").unwrap();
        assert!(pinned.starts_with(&format!("{foreign}-")), "{pinned}");
        assert_eq!(Client::in_session(pinring.address(), pinned).text(), "b");
    }
}

#[test]
fn an_id_without_pin_is_lost_with_the_backend_that_owns_its_hash() {
    let a = server("a");
    let pinring = administrated(&Pinring::backends(&[&a]));
    assert_eq!(told(&pinring, "foreign").0, 200);
    drain(&pinring, json!({ "backend": "a", "now": true }));
    assert_eq!(told(&pinring, "foreign"), lost());
}

#[test]
fn new_work_that_is_unanswered_at_the_end_of_a_drain_is_told_so() {
    let a = server("a");
    let pinring = administrated(&Pinring::backends(&[&a]));
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "silent"));
    // In flight it is before that: while its connection is being made.
    eventually("the backend has it", || !a.received().is_empty());
    drain(&pinring, json!({ "backend": "a", "now": true }));
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.reason()), (502, "backend_drained"));
}

#[test]
fn what_no_backend_has_seen_at_the_end_of_a_drain_goes_elsewhere_or_is_told_to_come_back() {
    let (away, b) = (Unreachable::new(), Backend::stateful("b"));
    let alone = format!("{{ name = \"a\", url = \"http://{}\" }}", away.address());
    let other = format!("{{ name = \"b\", url = \"http://{}\" }}", b.address());
    for (backends, told) in [
        (alone.clone(), (503, "no_backend")),
        (format!("{alone}, {other}"), (200, "")),
    ] {
        let pinring = administrated(&format!(
            "backends = [{backends}]\n[timeouts]\nconnect = \"20s\"\n"
        ));
        let address = pinring.address();
        let mut asking = Vec::new();
        eventually("one is on its way to a", || {
            asking.push(std::thread::spawn(move || {
                Client::once(address, "POST", "", "{}")
            }));
            pinring.standing("a")["in_flight"] != 0
        });
        drain(&pinring, json!({ "backend": "a", "now": true }));
        for one in asking {
            let answer = one.join().unwrap();
            let reason = if answer.status == 200 {
                String::new()
            } else {
                answer.reason()
            };
            assert_eq!((answer.status, &*reason), told);
        }
    }
}

#[test]
fn the_file_wins_at_a_reload_by_signal() {
    let (a, b) = (server("a"), server("b"));
    let backends = [("a", &a, ""), ("b", &b, "")];
    let pinring = administrated(&listing(&backends));
    drain(&pinring, json!({ "backend": "a" }));
    let toml = std::fs::read_to_string(pinring.file()).unwrap();
    pinring.reload(&toml);
    assert_eq!(pinring.standing("a")["state"], "open");
    pinring.wait_for_log("the file does not say draining = true");

    drain(&pinring, json!({ "backend": "a", "timeout": "10m" }));
    let entry = format!("http://{}\"", a.address());
    pinring.reload(&toml.replace(&entry, &format!("{entry}, draining = true")));
    let shown = pinring.standing("a");
    assert_eq!(
        (&shown["state"], &shown["draining_in_file"]),
        (&"draining".into(), &true.into())
    );
    assert!(shown["lost_in_s"].is_u64(), "its deadline stays: {shown}");
    let (status, answer) = ask(&pinring.admin(), "POST", "/undrain", r#"{"backend":"a"}"#);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        status == 409 && message.contains("draining = true"),
        "{answer}"
    );
}

#[test]
fn a_look_at_the_file_for_an_unknown_pin_takes_no_drain_back() {
    let (_a, _b, pinring) = two();
    let c = server("c");
    let elsewhere = Pinring::start(&listing(&[("c", &c, "")]));
    let unknown = Client::initialize(elsewhere.address());
    drain(&pinring, json!({ "backend": "a" }));
    assert_eq!(told(&pinring, &unknown), (503, "unknown_coordinate".into()));
    pinring.wait_for_log("a request names an unknown backend");
    assert_eq!(pinring.standing("a")["state"], "draining");
}

#[test]
fn one_that_departed_is_ended_at_once() {
    let (a, b) = (server("a"), server("b"));
    let pinring = administrated(&listing(&[("a", &a, ""), ("b", &b, "")]));
    let id = session_of(&pinring, "a");
    let toml = std::fs::read_to_string(pinring.file()).unwrap();
    let both = listing(&[("a", &a, ""), ("b", &b, "")]);
    pinring.reload(&toml.replace(&both, &listing(&[("b", &b, "")])));
    assert_eq!(told(&pinring, &id).0, 200);
    assert_eq!(pinring.standing("a")["state"], "departed");
    let told_it = run(&["drain", "a", "--now", &at(&pinring)]);
    assert_says(&told_it, 0, &["a is removed", "what it held is lost"]);
    assert_eq!(told(&pinring, &id), lost());
}

#[test]
fn the_command_says_what_holds_now() {
    let (_a, _b, pinring) = two();
    session_of(&pinring, "a");
    let file = pinring.file();
    let config = format!("--config={}", file.display());
    let told = run(&["drain", "a", &config]);
    assert_says(
        &told,
        0,
        &[
            "a gets no new work. 1 live session and 0 requests in flight go on.",
            "More may be live",
            "have seen all sessions",
            "still holds in 10m is lost",
            "changed one process alone",
            "`draining = true` for a in the file is for all proxies",
        ],
    );
    assert!(!told.out.contains("no_backend"), "{told:?}");
    let told = run(&["drain", "b", "--timeout", "0s", &at(&pinring)]);
    assert_says(
        &told,
        0,
        &[
            "no deadline was set",
            "Nobody else in pool default takes new work and is well",
            "503 (no_backend)",
        ],
    );
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, &*answer.reason()), (503, "no_backend"));
    let told = run(&["drain", "a", "--now", &at(&pinring)]);
    assert_says(
        &told,
        0,
        &["a is drained", "1 live session was lost, and perhaps more"],
    );
    let told = run(&["undrain", "b", &at(&pinring)]);
    assert_says(&told, 0, &["b takes new work again"]);
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        200
    );
}

#[test]
fn the_command_says_why_it_cannot_be_done() {
    let backend = server("a");
    let pinring = administrated(&listing(&[
        ("web-1", &backend, ""),
        ("web-2", &backend, ""),
    ]));
    let told = run(&["drain", "wep-1", &at(&pinring)]);
    assert_says(
        &told,
        1,
        &["did you mean \"web-1\"?", "there are: web-1, web-2"],
    );
    let told = run(&["drain", "web-1", "--now", "--timeout", "1s", &at(&pinring)]);
    assert_eq!(told.code, Some(64), "{told:?}");
    let told = run(&["drain", "web-1", "--timeout", "10", &at(&pinring)]);
    assert_says(&told, 64, &["no unit"]);
    let told = run(&["drain", "web-1", "--admin", "unix:/nowhere/admin.sock"]);
    assert_says(
        &told,
        1,
        &[
            "no pinring listens at unix:/nowhere/admin.sock",
            "is it running",
        ],
    );
    let told = run(&["drain", "a", "--config", "Cargo.lock.gone"]);
    assert_says(&told, 64, &["cannot be read", "--admin unix:PATH"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("off.toml");
    std::fs::write(&file, "[server]\nadmin = \"\"\n").unwrap();
    let told = run(&["drain", "a", "--config", file.to_str().unwrap()]);
    assert_says(&told, 1, &["off.toml has no admin listener", "unix:/"]);
}

#[test]
fn the_command_needs_neither_the_secrets_nor_a_faultless_file() {
    let (_a, _b, pinring) = two();
    let toml = std::fs::read_to_string(pinring.file()).unwrap();
    let faulty =
        format!("{toml}\n[affinity]\nsecrets = [\"env:PINRING_NOT_SET_HERE\"]\ncolour = 1\n");
    pinring.write(&faulty);
    let config = format!("--config={}", pinring.file().display());
    assert_says(&run(&["drain", "a", &config]), 0, &["a gets no new work"]);
    assert_eq!(pinring.standing("a")["state"], "draining");
}

#[test]
fn no_time_is_no_deadline() {
    let (_a, _b, pinring) = two();
    let answer = drain(&pinring, json!({ "backend": "a", "timeout": "0s" }));
    let shown = &answer["backends"][0];
    assert_eq!(
        (&shown["state"], &shown["lost_in_s"]),
        (&"draining".into(), &json!(null))
    );
}

#[test]
fn waiting_ends_early_when_the_last_session_does() {
    let (a, b) = (server("a"), server("b"));
    let backends = Pinring::backends(&[&a, &b]);
    let pinring = administrated(&format!("{backends}\n[affinity]\nsession_idle = \"1s\"\n"));
    let id = session_of(&pinring, "a");
    let mut stream = begin(&pinring, &id, "GET", ""); // it keeps the session alive
    stream.head();
    eventually("all sessions are known", || {
        pinring.standing("a")["sessions_complete"] == true
    });
    let mut waiting = started(&["drain", "a", "--wait", &at(&pinring)]);
    let out = BufReader::new(waiting.stdout.take().unwrap());
    let mut lines = out.lines().map(Result::unwrap);
    let first = lines.find(|line| line.starts_with("waiting")).unwrap();
    let words = "waiting: 1 live session and 1 request in flight left; the rest is lost in";
    assert!(first.starts_with(words), "{first}");
    let header = format!("mcp-session-id: {id}\r\n");
    assert_eq!(
        Client::once(pinring.address(), "DELETE", &header, "").status,
        200
    );
    eventually("no session is live", || {
        pinring.standing("a")["sessions"] == 0
    });
    assert!(
        waiting.try_wait().unwrap().is_none(),
        "the stream is still open"
    );
    drop(stream);
    assert!(lines.any(|line| line.contains("a holds nothing any more")));
    assert_eq!(ended(waiting).code, Some(0));
}

#[test]
fn waiting_ends_at_the_deadline_and_says_that_the_count_was_incomplete() {
    let (_a, _b, pinring) = two();
    session_of(&pinring, "a");
    let told = run(&["drain", "a", "--wait", "--timeout", "1s", &at(&pinring)]);
    let words = [
        "waiting: 1 live",
        "all sessions are known in",
        "The deadline has passed. 1 live session was lost, and perhaps more",
    ];
    assert_says(&told, 0, &words);
}

#[test]
fn an_empty_but_incomplete_count_is_waited_out() {
    let (a, b) = (server("a"), server("b"));
    let backends = Pinring::backends(&[&a, &b]);
    let pinring = administrated(&format!("{backends}\n[affinity]\nsession_idle = \"3s\"\n"));
    let told = run(&["drain", "a", "--wait", &at(&pinring)]);
    let words = [
        "waiting: 0 live sessions",
        "all sessions are known in",
        "a holds nothing any more",
    ];
    assert_says(&told, 0, &words);
    assert_eq!(pinring.standing("a")["sessions_complete"], true);
}

#[test]
fn waiting_fails_when_the_drain_is_taken_back_or_forgotten() {
    let (_a, _b, mut pinring) = two();
    for (end, words) in [
        ("undrain", "takes new work again"),
        ("TERM", "pinring has ended"),
    ] {
        let waiting = started(&["drain", "a", "--wait", &at(&pinring)]);
        eventually("it drains", || pinring.standing("a")["state"] == "draining");
        if end == "TERM" {
            pinring.signal(end);
        } else {
            ask(&pinring.admin(), "POST", "/undrain", r#"{"backend":"a"}"#);
        }
        assert_says(&ended(waiting), 1, &[words]);
    }
    assert_eq!(pinring.wait().code(), Some(0));
    assert!(!Path::new(&pinring.admin()).exists());
}
