//! Sessions that are bound to their users: an id is of no use to anybody else.

use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Chunk, Client, Pinring, Received, administrated, anywhere, ask, eventually,
    listing, ok,
};

const BOUND: &str = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\nbind = \"jwt:sub\"\n";

/// The header line of a token of `sub`; `serial` is what a refreshed one differs in.
fn of(issuer: &str, sub: &str, serial: u32) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims =
        json!({ "iss": issuer, "sub": sub, "exp": 1_800_000_000 + serial, "scope": "mcp" });
    let (header, claims) = (part(json!({ "alg": "RS256" })), part(claims));
    format!("authorization: Bearer {header}.{claims}.signature{serial}\r\n")
}

fn ann() -> String {
    of("https://id.example", "ann", 1)
}

fn bob() -> String {
    of("https://id.example", "bob", 1)
}

/// A request of the session `id` with these header lines.
fn in_session(pinring: &Pinring, method: &str, id: &str, headers: &str) -> Answer {
    let headers = format!("mcp-session-id: {id}\r\n{headers}");
    Client::once(pinring.address(), method, &headers, "{}")
}

fn open(pinring: &Pinring, headers: &str) -> Answer {
    Client::once(pinring.address(), "POST", headers, "{}")
}

/// Opens a session and gives its id.
fn opened(pinring: &Pinring, headers: &str) -> String {
    let answer = open(pinring, headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
        .header("mcp-session-id")
        .expect("an id is issued")
        .to_owned()
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason())
}

/// The ids of the sessions that a backend was told to end.
fn ended_at(backend: &Backend) -> Vec<String> {
    let received = backend.received().into_iter();
    let ended = received.filter(|request| request.line().starts_with("DELETE /mcp "));
    ended
        .map(|request| request.header("mcp-session-id").unwrap().to_owned())
        .collect()
}

#[test]
fn a_stolen_id_is_of_no_use_and_a_refreshed_token_is_as_good() {
    let backend = Backend::stateful("a");
    let pinring = administrated(&format!("{}\n{BOUND}", Pinring::backends(&[&backend])));
    let id = opened(&pinring, &ann());
    let used = backend.received().len();
    let raw = id.rsplit_once('-').unwrap().0;
    let elsewhere = of("https://other.example", "ann", 1);
    let opaque = "authorization: Bearer opaque\r\n";
    let two_tokens = format!("{}{}", ann(), bob());
    for method in ["POST", "GET", "DELETE"] {
        for (headers, reason) in [
            (&*bob(), "principal_other"),
            (&*elsewhere, "principal_other"),
            ("", "principal_missing"),
            (opaque, "principal_missing"),
        ] {
            let answer = in_session(&pinring, method, &id, headers);
            assert_eq!(told(&answer), (404, reason.into()), "{method} {headers}");
        }
        let torn = in_session(&pinring, method, &id, &two_tokens);
        assert_eq!(told(&torn), (400, "header_ambiguous".into()));
        let unpinned = in_session(&pinring, method, raw, &bob());
        assert_eq!(told(&unpinned), (404, "unpinned".into()));
    }
    assert_eq!(
        backend.received().len(),
        used,
        "the backend has seen a thief"
    );
    let (_, status) = ask(&pinring.admin(), "GET", "/backends", "");
    assert_eq!(status["counts"]["principals_refused"], 12, "{status}");
    eventually("the log says why", || {
        let reasons = pinring.find_logs("reason");
        reasons
            .iter()
            .any(|line| line["reason"] == "principal_other" && line["status"] == 404)
    });

    for serial in [1, 2, 3] {
        let refreshed = of("https://id.example", "ann", serial);
        let answer = in_session(&pinring, "POST", &id, &refreshed);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    }
}

#[test]
fn every_proxy_with_the_secret_knows_whose_a_session_is_also_after_a_restart() {
    let backends = [Backend::stateful("a"), Backend::stateful("b")];
    let start = || Pinring::before(&backends.each_ref(), BOUND);
    let (first, second) = (start(), start());
    let ids: Vec<String> = (0..6).map(|_| opened(&first, &ann())).collect();
    drop(first);
    let restarted = start();
    for (id, proxy) in ids.iter().flat_map(|id| [(id, &second), (id, &restarted)]) {
        let owner = id.get(..1).unwrap();
        assert_eq!(in_session(proxy, "POST", id, &ann()).text(), owner);
        assert_eq!(
            told(&in_session(proxy, "POST", id, &bob())),
            (404, "principal_other".into())
        );
    }
}

/// A server that wants no token for a session, and one for the rest.
fn careless() -> Backend {
    let issued = AtomicUsize::new(0);
    Backend::start(move |request, stream| {
        let new_id = || {
            format!(
                "mcp-session-id: s-{}\r\n",
                issued.fetch_add(1, Ordering::SeqCst)
            )
        };
        let answer = match request.header("x-wish") {
            Some("login") => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer resource_metadata=\"https://m/\"\r\n\
                              content-length: 5\r\n\r\nlogin"
                .into(),
            Some("login with id") => format!(
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"x\"\r\n{}content-length: 0\r\n\r\n",
                new_id()
            )
            .into(),
            Some("preflight") => format!(
                "HTTP/1.1 405 Method Not Allowed\r\n{}content-length: 0\r\n\r\n",
                new_id()
            )
            .into(),
            Some("modern") => ok(&new_id(), "modern"),
            Some("stream") => b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 41\r\n\r\n\
                                event: endpoint\ndata: /messages?session=1\n\n"
                .to_vec(),
            Some(_) => ok("", "for everybody"),
            None if request.header("mcp-session-id").is_some() => ok("", ""),
            None => ok(&new_id(), "welcome"),
        };
        stream.write_all(&answer).is_ok()
    })
}

#[test]
fn a_session_that_nobody_in_particular_opens_is_ended_and_he_is_told_to_log_in() {
    let backend = careless();
    let rewriting = "[pool]\nhost = \"rewrite\"\n"; // guards want it for the DELETE, too
    let backends = Pinring::backends(&[&backend]);
    let pinring = administrated(&format!("{backends}\n{BOUND}{rewriting}"));
    let answer = open(&pinring, "x-tenant: t\r\n");
    assert_eq!(told(&answer), (401, "principal_required".into()));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answer.header("mcp-session-id"), None);
    eventually("its session is ended", || ended_at(&backend) == ["s-0"]);
    let delete = backend.received().pop().unwrap();
    assert_eq!(delete.header("x-tenant"), Some("t"));
    let host = backend.address().to_string();
    assert_eq!(delete.header("host"), Some(&*host));

    // Scripts and browsers say less of themselves.
    let other = "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let answer = Client::connect(pinring.address()).send(other).answer();
    assert_eq!(told(&answer), (401, "principal_required".into()));
    eventually("it is ended, too", || ended_at(&backend) == ["s-0", "s-1"]);
    let (_, status) = ask(&pinring.admin(), "GET", "/backends", "");
    assert_eq!(status["counts"]["sessions_withheld"], 2, "{status}");
    opened(&pinring, &ann());
    assert_eq!(ended_at(&backend).len(), 2);
}

#[test]
fn what_opens_no_session_is_for_everybody() {
    let backend = careless();
    let pinring = Pinring::before(&[&backend], BOUND);
    let wish = |wish: &str, method: &str, more: &str| {
        let headers = format!("x-wish: {wish}\r\n{more}");
        Client::once(pinring.address(), method, &headers, "")
    };
    let login = wish("login", "POST", "");
    assert_eq!((login.status, &*login.text()), (401, "login"));
    assert_eq!(
        login.header("www-authenticate"),
        Some("Bearer resource_metadata=\"https://m/\"")
    );
    for (method, path) in [
        ("GET", "/.well-known/oauth-protected-resource"),
        ("POST", "/token"),
    ] {
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nx-wish: metadata\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = Client::connect(pinring.address()).send(text).answer();
        assert_eq!((answer.status, &*answer.text()), (200, "for everybody"));
    }
    assert!(ended_at(&backend).is_empty());

    // An error passes, and what a server opens all the same is ended.
    let login = wish("login with id", "POST", "");
    assert_eq!(
        (login.status, login.header("www-authenticate")),
        (401, Some("Bearer realm=\"x\""))
    );
    let preflight = wish("preflight", "OPTIONS", "");
    assert_eq!(preflight.status, 405);
    let modern = wish("modern", "POST", "mcp-protocol-version: 2026-07-28\r\n");
    assert_eq!((modern.status, &*modern.text()), (200, "modern"));
    for answer in [login, preflight, modern] {
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    eventually("all are ended", || ended_at(&backend).len() == 3);
}

#[test]
fn binding_is_switched_on_without_losing_a_session() {
    let backend = Backend::stateful("a");
    let backends = Pinring::backends(&[&backend]);
    let secret = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\n";
    let pinring = Pinring::start(&format!("{backends}\n{secret}"));
    let (before, of_nobody) = (opened(&pinring, &ann()), opened(&pinring, ""));
    let status = |id: &str, headers: &str| told(&in_session(&pinring, "POST", id, headers));

    pinring.reload(&format!("{backends}\n{BOUND}accept_unbound = true\n"));
    let after = opened(&pinring, &ann());
    for id in [&before, &of_nobody] {
        for headers in [&*ann(), &*bob(), ""] {
            let answer = in_session(&pinring, "POST", id, headers);
            assert_eq!(
                (answer.status, answer.header("mcp-session-id")),
                (200, Some(&**id))
            );
        }
    }
    assert_eq!(status(&after, &ann()).0, 200);
    assert_eq!(status(&after, &bob()), (404, "principal_other".into()));
    assert_eq!(status(&after, ""), (404, "principal_missing".into()));
    assert_eq!(
        told(&open(&pinring, "")),
        (401, "principal_required".into())
    );

    pinring.reload(&format!("{backends}\n{BOUND}"));
    assert_eq!(status(&after, &ann()).0, 200);
    for id in [&before, &of_nobody] {
        assert_eq!(status(id, &ann()), (404, "pin_unbound".into()));
        assert_eq!(status(id, ""), (404, "pin_unbound".into()));
    }
}

#[test]
fn a_header_says_whose_a_session_is_where_a_trusted_proxy_sets_it() {
    let backend = Backend::stateful("a");
    let by_header = BOUND.replace("jwt:sub", "header:X-User");
    let trusting = "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let pinring = Pinring::before(&[&backend], &format!("{by_header}{trusting}"));
    let (ann, bob) = ("x-user: ann\r\n", "X-User: bob\r\n");
    let id = opened(&pinring, ann);
    let own = |headers: &str| in_session(&pinring, "POST", &id, headers);
    assert_eq!(own(ann).status, 200);
    assert_eq!(told(&own(bob)), (404, "principal_other".into()));
    assert_eq!(told(&own("")), (404, "principal_missing".into()));
    let both = format!("{ann}{bob}");
    assert_eq!(told(&own(&both)), (404, "principal_missing".into()));

    // From any other address the header is worth nothing.
    let headers = format!("mcp-session-id: {id}\r\n{ann}");
    let mut directly = Client::connect_from([127, 0, 0, 9].into(), pinring.address());
    assert_eq!(
        told(&directly.call("POST", &headers, "{}")),
        (404, "principal_missing".into())
    );
    assert_eq!(
        told(&directly.call("POST", ann, "{}")),
        (401, "principal_required".into())
    );
    // Nor does the backend see it of a stranger, or its twin of anybody.
    let modern = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\n";
    for (address, twin) in [
        ([127, 0, 0, 9], "x_user: ann\r\n"),
        ([127, 0, 0, 1], "x_user: bob\r\n"),
    ] {
        let mut client = Client::connect_from(address.into(), pinring.address());
        let headers = format!("{modern}{ann}{twin}");
        assert_eq!(client.call("POST", &headers, "{}").status, 200);
    }
    let received = backend.received();
    // The session that nobody was to open is ended meanwhile.
    let calls: Vec<_> = received
        .iter()
        .filter(|request| request.line().starts_with("POST "))
        .collect();
    let [.., stranger, trusted] = calls[..] else {
        panic!("two calls have arrived");
    };
    assert_eq!(
        (stranger.header("x-user"), trusted.header("x-user")),
        (None, Some("ann"))
    );
    assert_eq!(
        (stranger.header("x_user"), trusted.header("x_user")),
        (None, None)
    );
}

#[test]
fn a_stolen_url_of_http_sse_is_of_no_use() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], BOUND);
    let get = |headers: &str| {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "GET /sse HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n{headers}\r\n"
        ));
        client
    };
    let mut anonymous = get("");
    let mut asked = arrivals.next();
    asked.begin_stream();
    assert_eq!(
        told(&anonymous.answer()),
        (401, "principal_required".into())
    );
    assert!(asked.is_closed_within(Duration::from_secs(30)));

    let mut stream = get(&ann());
    let mut asked = arrivals.next();
    asked
        .begin_stream()
        .chunk("event: endpoint\ndata: /messages?session=1\n\n");
    assert!(stream.head().starts_with("HTTP/1.1 200"));
    let mut event = String::new();
    eventually("the stream names its URL", || {
        if let Chunk::Data(data) = stream.chunk() {
            event.push_str(&String::from_utf8_lossy(&data));
        }
        event.contains("pinring=")
    });
    let url = event
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let post = |headers: &str| {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "POST {url} HTTP/1.1\r\nhost: a\r\n{headers}content-length: 2\r\n\r\n{{}}"
        ));
        client
    };
    assert_eq!(
        told(&post(&bob()).answer()),
        (404, "principal_other".into())
    );
    assert_eq!(told(&post("").answer()), (404, "principal_missing".into()));
    let mut own = post(&ann());
    arrivals
        .next()
        .send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(own.answer().status, 202);
    let last = backend.received().pop().unwrap();
    assert_eq!(last.line(), "POST /messages?session=1 HTTP/1.1");
}

#[test]
fn a_stolen_url_that_has_lost_its_pin_reaches_nobody() {
    let backend = Backend::answering("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let backends = Pinring::backends(&[&backend]);
    let pinring = administrated(&format!("{backends}\n{BOUND}"));
    let send_to = |pinring: &Pinring, (method, target): (&str, &str), headers: &str, body: &str| {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.answer()
    };
    let send = |method: &str, target: &str, headers: &str, body: &str| {
        send_to(&pinring, (method, target), headers, body)
    };
    let modern = format!("{}mcp-protocol-version: 2026-07-28\r\n", bob());
    let mut refused = 0;
    for query in [
        "sessionId=1",
        "session_id=1",
        "sessionid=1",
        "x=y&session%5fid=1",
        "x;SESSIONID=1",
        "sessionId[]=1",
        "%5BsessionId%5D=1",
        "session_id=1&pinring=cjaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&x",
    ] {
        let target = format!("/messages/?{query}");
        for (method, headers) in [
            ("POST", &*bob()),
            ("POST", ""),
            ("PUT", ""),
            ("POST", &modern),
        ] {
            let answer = send(method, &target, headers, "{}");
            assert_eq!(told(&answer), (404, "unpinned".into()), "{method} {target}");
            refused += 1;
        }
    }
    assert!(
        backend.received().is_empty(),
        "the backend has seen a thief"
    );
    let (_, status) = ask(&pinring.admin(), "GET", "/backends", "");
    assert_eq!(status["counts"]["principals_refused"], refused, "{status}");

    // What is no message, or names no session, is asked for as before.
    assert_eq!(send("GET", "/login?session_id=1", "", "").status, 202);
    assert_eq!(send("POST", "/token?code=session_id", "", "{}").status, 202);
    let lenient = Pinring::before(&[&backend], &format!("{BOUND}accept_unbound = true\n"));
    let message = ("POST", "/messages/?session_id=1");
    assert_eq!(send_to(&lenient, message, &bob(), "{}").status, 202);
}

/// A server that says what it was sent, and seals a state.
fn sealing(name: &'static str) -> Backend {
    Backend::start(move |request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let got = &body["params"]["requestState"];
        let answer = json!({ "result": { "name": name, "got": got, "requestState": format!("sealed by {name}") } });
        stream
            .write_all(&ok(
                "content-type: application/json\r\n",
                &answer.to_string(),
            ))
            .is_ok()
    })
}

fn call(pinring: &Pinring, headers: &str, state: Option<&str>) -> Value {
    let mut params = json!({ "name": "ask" });
    if let Some(state) = state {
        params["requestState"] = state.into();
    }
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let modern = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: ask\r\n";
    let answer = Client::once(
        pinring.address(),
        "POST",
        &format!("{modern}{headers}"),
        &body,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<Value>(&answer.body).unwrap()["result"].clone()
}

#[test]
fn a_state_of_somebody_else_stays_as_it_is_and_is_never_404() {
    let backends = ["a", "b", "c"].map(sealing);
    let pinring = Pinring::before(&backends.each_ref(), BOUND);
    for maker in [&*ann(), ""] {
        let first = call(&pinring, maker, None);
        let state = first["requestState"].as_str().unwrap();
        let sealed = format!("sealed by {}", first["name"].as_str().unwrap());
        for _ in 0..5 {
            let again = call(&pinring, maker, Some(state));
            assert_eq!(
                (&again["name"], &again["got"]),
                (&first["name"], &sealed.clone().into())
            );
        }
        let stolen = call(&pinring, &bob(), Some(state));
        assert_eq!(
            stolen["got"], state,
            "its pin was taken off for another one"
        );
    }
}

/// A server that knows the sessions that it has opened, and no others, and repeats handshakes.
fn forgetful(name: &'static str, address: std::net::SocketAddr) -> Backend {
    let known = std::sync::Mutex::new(Vec::<String>::new());
    let answer = move |request: &Received| {
        let mut known = known.lock().unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match request.header("mcp-session-id") {
            None => {
                let id = format!("{name}-{:016x}", fastrand::u64(..));
                known.push(id.clone());
                let result = json!({ "jsonrpc": "2.0", "id": body["id"], "result": { "protocolVersion": "2025-06-18" } });
                let headers = format!("mcp-session-id: {id}\r\ncontent-type: application/json\r\n");
                ok(&headers, &result.to_string())
            }
            Some(id) if known.iter().any(|own| own == id) => ok("", name),
            Some(_) => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        }
    };
    Backend::on(address, move |request, stream| {
        stream.write_all(&answer(request)).is_ok()
    })
}

#[test]
fn a_session_that_is_brought_back_is_still_its_owner_s_alone() {
    let at = [anywhere(), anywhere()];
    let (a, b) = (forgetful("a", at[0]), forgetful("b", at[1]));
    let lossy =
        "on_loss = \"reinitialize\"\nloss_after = \"500ms\"\n[timeouts]\nconnect = \"200ms\"\n";
    let pinring = Pinring::start(&format!(
        "{}{BOUND}{lossy}",
        listing(&[("a", &a, ""), ("b", &b, "")])
    ));
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test" } }
    });
    let mut id = String::new();
    eventually("a session is opened at a", || {
        let answer = Client::once(pinring.address(), "POST", &ann(), &initialize.to_string());
        id = answer.header("mcp-session-id").unwrap().to_owned();
        id.starts_with("a-")
    });
    drop(a);
    let calls_of = |user: &str| told(&in_session(&pinring, "POST", &id, user));
    let opened_before = b.received().len();
    assert_eq!(calls_of(&bob()), (404, "principal_other".into()));
    // Nobody has looked at the signature of a token that comes while a is gone.
    eventually("a is lost", || {
        let ended = in_session(&pinring, "DELETE", &id, &ann());
        told(&ended) == (404, "backend_lost".into())
    });
    eventually("a is lost and its session is brought back for ann", || {
        assert_eq!(calls_of(&bob()), (404, "principal_other".into()));
        let answer = in_session(&pinring, "POST", &id, &ann());
        answer.status == 200 && answer.text() == "b"
    });
    let opened = b.received().len();
    assert!(opened > opened_before);
    for thief in [&*bob(), ""] {
        assert_eq!(calls_of(thief).0, 404);
    }
    assert_eq!(b.received().len(), opened, "b has seen a thief");
    assert_eq!(calls_of(&of("https://id.example", "ann", 2)).0, 200);
}
