//! `on_loss = "reinitialize"`: a session whose server is gone goes on at another one, under the same id.

mod shared;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Client, Pinring, Received, administrated, anywhere, ask, eventually, listing,
    ok, request,
};

/// Loss comes soon, and so does the end of a connect to who is gone.
pub(crate) const SOON: &str = "[timeouts]\nconnect = \"200ms\"\n[affinity]\non_loss = \"reinitialize\"\nloss_after = \"500ms\"\n";

const VERSION: &str = "2025-06-18";

pub(crate) const CALL: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"count"}}"#;

static ISSUED: AtomicU32 = AtomicU32::new(0);

fn initialize() -> String {
    let params =
        json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": { "name": "test" } });
    json!({ "jsonrpc": "2.0", "id": "first", "method": "initialize", "params": params }).to_string()
}

/// A server in the manner of the SDKs: it knows the sessions that it opened, and counts their calls.
pub(crate) fn server(name: &'static str, address: SocketAddr) -> Backend {
    server_that(name, address, |_| None)
}

/// The same, but for the requests that `otherwise` answers.
fn server_that(
    name: &'static str,
    address: SocketAddr,
    otherwise: impl Fn(&Received) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Backend {
    let sessions: Mutex<HashMap<String, u32>> = Mutex::default();
    Backend::on(address, move |request, stream| {
        let answer = otherwise(request).unwrap_or_else(|| answer(name, request, &sessions));
        stream.write_all(&answer).is_ok()
    })
}

fn answer(name: &str, request: &Received, sessions: &Mutex<HashMap<String, u32>>) -> Vec<u8> {
    let mut sessions = sessions.lock().unwrap();
    let Some(id) = request.header("mcp-session-id") else {
        // As unique as a UUID: a restarted server gives no id again.
        let id = format!("{name}-{}", ISSUED.fetch_add(1, Ordering::SeqCst));
        sessions.insert(id.clone(), 0);
        let result = json!({ "jsonrpc": "2.0", "id": body_of(request)["id"], "result": { "protocolVersion": VERSION } });
        let events = format!(": hello\r\n\r\nevent: message\r\ndata: {result}\r\n\r\n");
        let headers = format!("mcp-session-id: {id}\r\ncontent-type: text/event-stream\r\n");
        return ok(&headers, &events);
    };
    let Some(count) = sessions.get_mut(id) else {
        return status(404);
    };
    if body_of(request)["method"] == "notifications/initialized" {
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    if request.line().starts_with("DELETE") {
        sessions.remove(id);
        return ok("", "");
    }
    *count += 1;
    ok(
        &format!("mcp-session-id: {id}\r\n"),
        &format!("{name}:{count}"),
    )
}

fn status(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} So\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn body_of(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

fn method_of(request: &Received) -> String {
    body_of(request)["method"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// How many handshakes a server has seen.
fn handshakes(backend: &Backend) -> usize {
    let received = backend.received();
    let opening = received
        .iter()
        .filter(|request| method_of(request) == "initialize");
    opening.count()
}

/// Opens a session at the backend of this name, as an SDK client does.
pub(crate) fn open_at(name: &str, address: SocketAddr) -> String {
    loop {
        let answer = Client::once(address, "POST", "", &initialize());
        assert_eq!(answer.status, 200);
        let id = answer.header("mcp-session-id").unwrap().to_owned();
        if id.starts_with(&format!("{name}-")) {
            return id;
        }
    }
}

pub(crate) fn header(id: &str) -> String {
    format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: {VERSION}\r\n")
}

fn call(address: SocketAddr, id: &str) -> Answer {
    Client::once(address, "POST", &header(id), CALL)
}

/// Calls until the session's backend counts as lost, and gives the first other answer.
fn call_until_lost(address: SocketAddr, id: &str) -> Answer {
    let mut last = None;
    eventually("the loss is known", || {
        let answer = call(address, id);
        let waits = answer.status == 503 && answer.reason() == "connect_refused";
        last = Some(answer);
        !waits
    });
    last.unwrap()
}

/// What the process counts, as its admin socket tells it.
fn counts(pinring: &Pinring) -> Value {
    ask(&pinring.admin(), "GET", "/backends", "").1["counts"].clone()
}

fn mark(answer: &Answer) -> Option<&str> {
    answer.header("pinring-session")
}

#[test]
fn a_session_of_a_killed_backend_goes_on_at_another_under_its_id() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let pinring = administrated(&format!("{}\n{SOON}", Pinring::backends(&[&a, &b])));
    let id = open_at("a", pinring.address());
    for number in 1..=3 {
        assert_eq!(call(pinring.address(), &id).text(), format!("a:{number}"));
    }
    drop(a);
    let before = handshakes(&b);
    let first = call_until_lost(pinring.address(), &id);
    assert_eq!((first.status, &*first.text()), (200, "b:1"));
    assert_eq!(mark(&first), Some("reinitialized"));
    let second = call(pinring.address(), &id);
    assert_eq!((&*second.text(), mark(&second)), ("b:2", None));
    for answer in [first, second] {
        assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    }
    assert_eq!(handshakes(&b), before + 1);
    assert_eq!(counts(&pinring)["sessions_reinitialized"], 1);

    let received = b.received();
    let at = received
        .iter()
        .rposition(|request| method_of(request) == "initialize")
        .unwrap();
    let [opening, opened, ..] = &received[at..] else {
        panic!("a handshake has two parts");
    };
    let recorded: Value = serde_json::from_str(&initialize()).unwrap();
    assert_eq!(body_of(opening)["params"], recorded["params"]);
    assert_eq!(opening.header("mcp-protocol-version"), None);
    assert_eq!(method_of(opened), "notifications/initialized");
    assert_eq!(opened.header("mcp-protocol-version"), Some(VERSION));
    assert!(opened.header("mcp-session-id").unwrap().starts_with("b-"));

    pinring.wait_for_log("session reinitialized");
    let said = pinring.find_logs("from");
    assert_eq!(said.len(), 1);
    assert_eq!(
        (&said[0]["from"], &said[0]["to"]),
        (&json!("a"), &json!("b"))
    );
    eventually("both calls are logged", || {
        let lines = pinring.find_logs("route").into_iter();
        let lines = lines.filter(|line| {
            line["route"] == "reinitialized" && line["session"] == said[0]["session"]
        });
        lines.count() == 2
    });
}

#[test]
fn a_request_waits_for_a_backend_that_refuses_until_it_is_back_or_lost() {
    let (there, gone) = (anywhere(), anywhere());
    let (b, a) = (server("b", there), server("a", gone));
    let pinring = Pinring::start(&format!(
        "{}{SOON}",
        listing(&[("a", &a, ""), ("b", &b, "")])
    ));
    let id = open_at("a", pinring.address());
    let before = handshakes(&b);
    drop(a);
    // Each of them longer than `connect`, and none is told 503: it ends the client of the Python SDK, version 1.
    for _ in 0..3 {
        let answer = call(pinring.address(), &id);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let received = b.received();
    let calls = received
        .iter()
        .filter(|request| method_of(request) == "tools/call");
    assert_eq!((handshakes(&b), calls.count()), (before + 1, 3));
}

/// A 5xx ends the client of the Python SDK, version 1, and with it the session that could go on.
#[test]
fn a_call_that_its_backend_dies_with_fails_alone_and_its_session_goes_on() {
    let sessions: Mutex<HashMap<String, u32>> = Mutex::default();
    let a = Backend::start(move |request, stream| {
        let is_deadly = String::from_utf8_lossy(&request.body).contains("deadly");
        !is_deadly && stream.write_all(&answer("a", request, &sessions)).is_ok()
    });
    let b = server("b", anywhere());
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    let ask = |body: &str| Client::once(pinring.address(), "POST", &header(&id), body);
    let failed =
        ask(r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"deadly"}}"#);
    assert_eq!((failed.status, &*failed.reason()), (200, "backend_closed"));
    let error: Value = serde_json::from_slice(&failed.body).unwrap();
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("x"), &json!(502))
    );
    // Whoever waits for no answer gets none, and least of all one to a request of another.
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/deadly"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"deadly":true}}"#,
    ] {
        assert_eq!(
            (ask(body).status, &*ask(body).reason()),
            (502, "backend_closed")
        );
    }
    // Nor is there a session that goes on where one was to begin.
    eventually("a has the request", || {
        let opening = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"deadly":true}}"#;
        let answer = Client::once(pinring.address(), "POST", "", opening);
        assert!(answer.status == 200 || answer.reason() == "backend_closed");
        answer.status == 502
    });
    drop(a);
    let answer = call_until_lost(pinring.address(), &id);
    assert_eq!((answer.status, &*answer.text()), (200, "b:1"));
}

/// Many clients send the body a moment after the head, and until it has come nobody knows which call failed.
#[test]
fn a_call_whose_backend_goes_before_its_body_has_come_goes_on_elsewhere() {
    for drains in [false, true] {
        let (a, b) = (server("a", anywhere()), server("b", anywhere()));
        let backends = listing(&[("a", &a, ""), ("b", &b, "")]);
        let pinring = administrated(&format!("{backends}{SOON}"));
        let id = open_at("a", pinring.address());
        let whole = request("POST", &header(&id), CALL);
        let (head, body) = whole.split_at(whole.len() - CALL.len());
        let mut client = Client::connect(pinring.address());
        client.send(head);
        assert!(client.is_quiet_for(Duration::from_millis(100)));
        if drains {
            let now = json!({ "backend": "a", "now": true }).to_string();
            assert_eq!(ask(&pinring.admin(), "POST", "/drain", &now).0, 200);
        }
        drop(a);
        let answer = client.send(body).answer();
        assert_eq!(
            (answer.status, &*answer.text()),
            (200, "b:1"),
            "drains: {drains}"
        );
    }
}

#[test]
fn a_restarted_backend_that_knows_nothing_is_told_again() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let address = a.address();
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    assert_eq!(call(pinring.address(), &id).text(), "a:1");
    drop(a);
    let _back = server("a", address);
    let first = call(pinring.address(), &id);
    assert_eq!((first.status, mark(&first)), (200, Some("reinitialized")));
    assert!(first.text().ends_with(":1"), "{}", first.text());
    assert_eq!(first.header("mcp-session-id"), Some(&*id));
    let second = call(pinring.address(), &id);
    assert!(second.text().ends_with(":2"), "{}", second.text());
}

#[test]
fn a_body_that_comes_behind_the_backend_s_404_is_sent_again_whole() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let address = a.address();
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    // It answers by the head alone, as the Python SDK does, and takes no new session.
    let _hasty = Backend::raw(address, |mut stream, _| {
        let mut bytes = [0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).to_lowercase();
            let answer = status(if text.contains("mcp-session-id") {
                404
            } else {
                503
            });
            if text.starts_with("post") && stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    // It is asked for before the server's answer is read.
    let expecting = format!("{}Expect: 100-continue\r\n", header(&id));
    let whole = request("POST", &expecting, CALL);
    let (head, rest) = whole.split_at(whole.len() - CALL.len());
    let mut client = Client::connect(pinring.address());
    assert!(client.send(head).head().starts_with("HTTP/1.1 100"));
    assert!(client.is_quiet_for(Duration::from_millis(200)));
    let answer = client.send(rest).answer();
    assert_eq!((answer.status, mark(&answer)), (200, Some("reinitialized")));
    assert_eq!(b.received().last().unwrap().body, CALL.as_bytes());
}

#[test]
fn streams_are_opened_where_the_session_goes_on_and_never_after_an_event_of_before() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    let get = |last: &str| {
        let resume = format!("{}Last-Event-ID: {last}\r\n", header(&id));
        Client::once(pinring.address(), "GET", &resume, "").status
    };
    eventually("the stream is there", || get("41") == 200);
    for last in ["41", "1", "41"] {
        assert_eq!(get(last), 200);
    }
    let streams: Vec<Received> = b
        .received()
        .into_iter()
        .filter(|request| request.line().starts_with("GET"))
        .collect();
    let resumed: Vec<_> = streams
        .iter()
        .map(|request| request.header("last-event-id"))
        .collect();
    assert_eq!(resumed, [None, None, Some("1"), None]);
}

#[test]
fn a_session_that_its_client_ended_is_never_brought_back() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let address = a.address();
    let pinring = Pinring::before(&[&a, &b], SOON);
    let (ended, lost) = (
        open_at("a", pinring.address()),
        open_at("a", pinring.address()),
    );
    let delete = |id: &str| Client::once(pinring.address(), "DELETE", &header(id), "").status;
    assert_eq!(delete(&ended), 200);
    assert_eq!(call(pinring.address(), &ended).status, 404);
    drop(a);
    eventually("the loss is known", || delete(&lost) == 404);
    let before = handshakes(&b);
    for id in [&ended, &lost] {
        assert_eq!(
            (call(pinring.address(), id).status, handshakes(&b)),
            (404, before)
        );
    }
    drop(server("a", address));
}

#[test]
fn a_session_that_is_ended_where_it_is_unknown_in_other_words_is_never_brought_back() {
    let a = server("a", anywhere());
    let address = a.address();
    let config = format!("[pool]\nnormalize_lost_session = true\n{SOON}");
    let pinring = Pinring::before(&[&a], &config);
    let id = open_at("a", pinring.address());
    drop(a);
    let back = server_that("a", address, |request| {
        let notice = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#;
        let notice = format!(
            "HTTP/1.1 400 So\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{notice}",
            notice.len()
        );
        request
            .header("mcp-session-id")
            .map(|_| notice.into_bytes())
    });
    let deleted = Client::once(pinring.address(), "DELETE", &header(&id), "");
    assert_eq!(
        (deleted.status, deleted.reason()),
        (404, "backend_forgot_session".into())
    );
    assert_eq!(call(pinring.address(), &id).status, 404);
    assert_eq!(handshakes(&back), 0);
}

#[test]
fn a_moved_session_ends_where_it_is() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    assert_eq!(call_until_lost(pinring.address(), &id).status, 200);
    let deleted = Client::once(pinring.address(), "DELETE", &header(&id), "");
    assert_eq!(deleted.status, 200);
    assert!(
        b.received()
            .last()
            .unwrap()
            .header("mcp-session-id")
            .unwrap()
            .starts_with("b-")
    );
    assert_eq!(call(pinring.address(), &id).status, 404);
}

#[test]
fn what_was_too_large_to_be_kept_is_not_sent_again() {
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], &format!("[limits]\nreplay_bytes = \"1KiB\"\n{SOON}"));
    let id = open_at("a", pinring.address());
    drop(a);
    let back = server("a", address);
    let large = format!("{CALL}{}", " ".repeat(1024));
    let answer = Client::once(pinring.address(), "POST", &header(&id), &large);
    assert_eq!((answer.status, handshakes(&back)), (404, 0));
    assert_eq!(call(pinring.address(), &id).text(), "a:1");
}

#[test]
fn a_404_of_another_path_is_passed_on() {
    let a = server_that("a", anywhere(), |request| {
        request.line().contains("/other").then(|| status(404))
    });
    let pinring = Pinring::before(&[&a], SOON);
    let id = open_at("a", pinring.address());
    let other = request("POST", &header(&id), CALL).replace("/mcp", "/other");
    assert_eq!(
        Client::connect(pinring.address())
            .send(other)
            .answer()
            .status,
        404
    );
    assert_eq!(
        (handshakes(&a), &*call(pinring.address(), &id).text()),
        (1, "a:1")
    );
}

#[test]
fn the_handshake_has_the_credentials_of_the_request_and_nothing_else_of_it() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    let mine = "Authorization: Bearer mine\r\nCookie: c=1\r\nX-Tenant: t\r\n";
    let of_the_call = "Content-Type: text/plain\r\nLast-Event-ID: 3\r\nMcp-Method: x\r\n\
                       Accept-Encoding: gzip\r\nConnection: X-Hop\r\nX-Hop: 1\r\n";
    let headers = format!("{}{mine}{of_the_call}", header(&id));
    eventually("it is brought back", || {
        Client::once(pinring.address(), "POST", &headers, CALL).status == 200
    });
    let received = b.received();
    let mut parts = received
        .iter()
        .filter(|request| request.header("x-tenant").is_some());
    for method in ["initialize", "notifications/initialized", "tools/call"] {
        let part = parts.next().unwrap();
        assert_eq!(method_of(part), method);
        assert_eq!(part.header("authorization"), Some("Bearer mine"));
        assert_eq!(part.header("cookie"), Some("c=1"));
        assert_eq!(part.header("host"), Some("pinring.test"));
        assert_eq!(part.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(part.header("x-hop"), None);
        if method != "tools/call" {
            assert_eq!(part.header("content-type"), Some("application/json"));
            for other in ["last-event-id", "mcp-method", "accept-encoding"] {
                assert_eq!(part.header(other), None, "{other}");
            }
        }
    }
}

#[test]
fn many_requests_of_one_lost_session_cause_one_handshake() {
    let slow = |request: &Received| {
        if method_of(request) == "initialize" {
            std::thread::sleep(Duration::from_millis(200));
        }
        None
    };
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    let back = server_that("a", address, slow);
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let (address, id) = (pinring.address(), id.clone());
            std::thread::spawn(move || call(address, &id))
        })
        .collect();
    let mut counts: Vec<String> = calls
        .into_iter()
        .map(|call| {
            let answer = call.join().unwrap();
            assert_eq!(mark(&answer), Some("reinitialized"), "{}", answer.head);
            answer.text()
        })
        .collect();
    counts.sort_by_key(|count| count.len());
    assert_eq!((counts.len(), handshakes(&back)), (12, 1), "{counts:?}");
    assert_eq!(call(pinring.address(), &id).text(), "a:13");
}

#[test]
fn a_server_that_begins_again_with_the_same_ids_sees_one_handshake_for_each_loss() {
    let start = |address| {
        let knows = AtomicBool::new(false);
        Backend::on(address, move |request, stream| {
            let opens = method_of(request) == "initialize";
            if opens {
                std::thread::sleep(Duration::from_millis(200));
                knows.store(true, Ordering::SeqCst);
            }
            let answer = if opens {
                let result = json!({ "protocolVersion": VERSION });
                let result =
                    json!({ "jsonrpc": "2.0", "id": body_of(request)["id"], "result": result });
                let headers = "mcp-session-id: 1\r\ncontent-type: application/json\r\n";
                ok(headers, &result.to_string())
            } else if knows.load(Ordering::SeqCst) {
                ok("", "")
            } else {
                status(404)
            };
            stream.write_all(&answer).is_ok()
        })
    };
    let mut a = start(anywhere());
    let pinring = Pinring::before(&[&a], SOON);
    let opened = Client::once(pinring.address(), "POST", "", &initialize());
    let id = opened.header("mcp-session-id").unwrap();
    for _loss in 1..=2 {
        let address = a.address();
        drop(a);
        a = start(address);
        let calls: Vec<_> = (0..6)
            .map(|_| {
                let (address, id) = (pinring.address(), id.to_owned());
                std::thread::spawn(move || call(address, &id).status)
            })
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), 200);
        }
        assert_eq!(handshakes(&a), 1);
    }
}

#[test]
fn a_backend_that_returns_does_not_take_its_sessions_back() {
    // It keeps what it knows while nobody can reach it.
    let known = Arc::new(Mutex::new(HashMap::new()));
    let start = |address| {
        let known = Arc::clone(&known);
        Backend::on(address, move |request, stream| {
            stream.write_all(&answer("a", request, &known)).is_ok()
        })
    };
    let a = start(anywhere());
    let (address, b) = (a.address(), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], SOON);
    let (moved, waited) = (
        open_at("a", pinring.address()),
        open_at("a", pinring.address()),
    );
    drop(a);
    assert_eq!(call_until_lost(pinring.address(), &moved).text(), "b:1");
    let _back = start(address);
    pinring.wait_for_log("healthy again");
    assert_eq!(call(pinring.address(), &moved).text(), "b:2");
    // Nobody asked for this one meanwhile, and its server still has it.
    assert_eq!(call(pinring.address(), &waited).text(), "a:1");
}

#[test]
fn a_login_that_the_new_server_wants_reaches_the_client_and_costs_no_session() {
    let wants_token = |request: &Received| {
        let authorized = request.header("authorization") == Some("Bearer good");
        (!authorized && method_of(request) == "initialize").then(|| {
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"x\"\r\nmcp-session-id: no\r\ncontent-length: 5\r\n\r\nlogin".to_vec()
        })
    };
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    let _back = server_that("a", address, wants_token);
    let refused = call(pinring.address(), &id);
    assert_eq!((refused.status, &*refused.text()), (401, "login"));
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Bearer realm=\"x\"")
    );
    assert_eq!(
        refused.header("mcp-session-id"),
        None,
        "the client keeps its own"
    );
    let headers = format!("{}Authorization: Bearer good\r\n", header(&id));
    let answer = Client::once(pinring.address(), "POST", &headers, CALL);
    assert_eq!(
        (&*answer.text(), mark(&answer)),
        ("a:1", Some("reinitialized"))
    );
}

#[test]
fn a_handshake_that_is_refused_leaves_the_session_not_found() {
    let error = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#;
    let older = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-03-26"}}"#;
    let json = "mcp-session-id: x\r\ncontent-type: application/json\r\n";
    for refusal in [status(400), ok(json, error), ok(json, older), ok("", older)] {
        let (a, b) = (
            server("a", anywhere()),
            server_that("b", anywhere(), move |request| {
                (request.header("x-lost").is_some()).then(|| refusal.clone())
            }),
        );
        let pinring = Pinring::before(&[&a, &b], SOON);
        let id = open_at("a", pinring.address());
        drop(a);
        let headers = format!("{}X-Lost: 1\r\n", header(&id));
        let mut last = (0, String::new());
        eventually("it is refused", || {
            let answer = Client::once(pinring.address(), "POST", &headers, CALL);
            last = (answer.status, answer.reason());
            last.0 != 503
        });
        assert_eq!(last, (404, "backend_lost".into()));
    }
}

#[test]
fn where_the_handshake_is_refused_the_backend_s_own_404_is_passed_on() {
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    let own = b"HTTP/1.1 404 Gone\r\ncontent-length: 4\r\n\r\nmine".to_vec();
    let _back = server_that("a", address, move |request| {
        let opens = method_of(request) == "initialize";
        Some(if opens { status(400) } else { own.clone() })
    });
    let answer = call(pinring.address(), &id);
    assert_eq!(
        (answer.status, &*answer.text(), mark(&answer)),
        (404, "mine", None)
    );
}

#[test]
fn a_server_in_trouble_is_passed_over_and_when_all_are_the_client_may_try_again() {
    let ill = Arc::new(Mutex::new(vec!["b", "c"]));
    let may_be_ill = |name: &'static str| {
        let ill = Arc::clone(&ill);
        server_that(name, anywhere(), move |request| {
            let is_ill = ill.lock().unwrap().contains(&name);
            (is_ill && request.header("x-lost").is_some()).then(|| status(500))
        })
    };
    let (a, b, c) = (server("a", anywhere()), may_be_ill("b"), may_be_ill("c"));
    let pinring = Pinring::before(&[&a, &b, &c], SOON);
    let ids: Vec<String> = (0..8).map(|_| open_at("a", pinring.address())).collect();
    drop(a);
    let ask = |id: &str| {
        let headers = format!("{}X-Lost: 1\r\n", header(id));
        Client::once(pinring.address(), "POST", &headers, CALL)
    };
    eventually("all are tried", || {
        ask(&ids[0]).reason() == "not_reinitialized"
    });
    let refused = ask(&ids[0]);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    *ill.lock().unwrap() = vec!["b"];
    for id in &ids {
        assert_eq!(ask(id).text(), "c:1");
    }
}

#[test]
fn a_session_survives_one_loss_after_another() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let c_address = anywhere();
    let pinring = Pinring::before(&[&a, &b], &format!("{SOON}join_delay = \"0s\"\n"));
    let id = open_at("a", pinring.address());
    drop(a);
    assert_eq!(call_until_lost(pinring.address(), &id).text(), "b:1");
    let c = server("c", c_address);
    let listing = crate::support::listing(&[("b", &b, ""), ("c", &c, "")]);
    pinring.reload(&format!("{listing}{SOON}join_delay = \"0s\"\n"));
    drop(b);
    let answer = call_until_lost(pinring.address(), &id);
    assert_eq!(
        (&*answer.text(), mark(&answer)),
        ("c:1", Some("reinitialized"))
    );
    assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    assert_eq!(call(pinring.address(), &id).text(), "c:2");
}

#[test]
fn the_only_backend_takes_its_sessions_up_again_when_it_is_back() {
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], SOON);
    let id = open_at("a", pinring.address());
    drop(a);
    eventually("it is lost", || {
        call(pinring.address(), &id).reason() == "not_reinitialized"
    });
    let _back = server("a", address);
    eventually("it goes on", || call(pinring.address(), &id).status == 200);
}

#[test]
fn the_store_forgets_who_was_not_used_for_longest() {
    let a = server("a", anywhere());
    let address = a.address();
    let store = format!("[store]\nsessions = 2\n{SOON}");
    let pinring = administrated(&format!("{}\n{store}", Pinring::backends(&[&a])));
    let ids: Vec<String> = (0..3).map(|_| open_at("a", pinring.address())).collect();
    drop(a);
    let _back = server("a", address);
    let statuses: Vec<u16> = ids
        .iter()
        .map(|id| call(pinring.address(), id).status)
        .collect();
    assert_eq!(statuses, [404, 200, 200]);
    assert_eq!(counts(&pinring)["handshakes_forgotten"], 1);
}

#[test]
fn a_session_that_goes_on_elsewhere_counts_as_load_there() {
    let (a, b, c) = (
        server("a", anywhere()),
        server("b", anywhere()),
        server("c", anywhere()),
    );
    let pinring = Pinring::before(&[&a, &b, &c], SOON);
    let ids: Vec<String> = (0..20).map(|_| open_at("a", pinring.address())).collect();
    let before = [handshakes(&b), handshakes(&c)];
    drop(a);
    call_until_lost(pinring.address(), &ids[0]);
    for id in &ids {
        assert_eq!(call(pinring.address(), id).status, 200);
    }
    let moved = [handshakes(&b) - before[0], handshakes(&c) - before[1]];
    assert_eq!(moved[0] + moved[1], 20);
    let total = [handshakes(&b), handshakes(&c)];
    assert!(
        total[0].abs_diff(total[1]) <= 4,
        "{before:?}, then {total:?}"
    );
}

#[test]
fn a_prefix_that_backends_do_not_see_is_taken_off_the_handshake_too() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let config = "[pool]\nstrip_prefix = \"/mcp\"\nhost = \"rewrite\"\n";
    let pinring = Pinring::before(&[&a, &b], &format!("{config}{SOON}"));
    let id = open_at("a", pinring.address());
    drop(a);
    assert_eq!(call_until_lost(pinring.address(), &id).status, 200);
    let received = b.received();
    let opening = received
        .iter()
        .rfind(|request| method_of(request) == "initialize")
        .unwrap();
    assert_eq!(opening.line(), "POST / HTTP/1.1");
    assert_eq!(opening.header("host"), Some(&*b.address().to_string()));
}
