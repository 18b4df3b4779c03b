//! The log: one line for each request, and nothing in any line that opens a session or a door.

use std::{fs, io::Write as _};

use serde_json::Value;

use crate::support::{Backend, Chunk, Client, Closed, Pinring, eventually, listing, ok, request};

fn access(pinring: &Pinring) -> Vec<Value> {
    let lines = pinring.find_logs("target").into_iter();
    lines
        .filter(|line| line["target"] == "pinring::access")
        .collect()
}

/// Waits for as many access lines and gives them.
fn lines(pinring: &Pinring, count: usize) -> Vec<Value> {
    eventually(&format!("{count} access lines"), || {
        access(pinring).len() >= count
    });
    access(pinring)
}

/// Asks, and gives the line that the request leaves. Lines of several threads have no order.
fn line_of(pinring: &Pinring, ask: impl FnOnce(&mut Client)) -> Value {
    let before = access(pinring).len();
    ask(&mut Client::connect(pinring.address()));
    let mut lines = lines(pinring, before + 1);
    assert_eq!(lines.len(), before + 1);
    lines.remove(before)
}

/// Stops it, so that all lines are there.
fn stop(pinring: &mut Pinring) {
    pinring.signal("TERM");
    assert!(pinring.wait().success());
    pinring.wait_for_log("\"stopped\"");
}

#[test]
fn each_request_leaves_one_line_that_tells_all_about_it() {
    let backend = Backend::start(|request, stream| {
        let body = if request.head.starts_with("HEAD") {
            ""
        } else {
            "answer"
        };
        let head = "HTTP/1.1 200 OK\r\nmcp-session-id: abc\r\ncontent-length: 6\r\n\r\n";
        write!(stream, "{head}{body}").is_ok()
    });
    let mut pinring = Pinring::before(&[&backend], "");
    let session = format!(
        "mcp-session-id: {}\r\n",
        Client::initialize(pinring.address())
    );
    let first = lines(&pinring, 1).remove(0);
    for (method, session, route, bytes_out) in [
        ("POST", "", "placed", 6),
        ("DELETE", &*session, "pinned", 6),
        ("HEAD", &session, "pinned", 0),
    ] {
        let line = line_of(&pinring, |client| {
            client.send(request(method, session, "{}"));
            if method == "HEAD" {
                client.head();
            } else {
                client.answer();
            }
        });
        let texts = ["method", "path", "pool", "backend", "route", "end"];
        let expected = [method, "/mcp", "default", "a", route, "complete"];
        assert_eq!(texts.map(|key| line[key].as_str().unwrap()), expected);
        let numbers = ["status", "bytes_in", "bytes_out"];
        assert_eq!(
            numbers.map(|key| line[key].as_u64().unwrap()),
            [200, 2, bytes_out]
        );
        let (head, total) = (line["head_us"].as_u64(), line["total_us"].as_u64());
        assert!(head.unwrap() > 0 && head <= total, "{line}");
        assert_eq!(line["session"], first["session"], "issued and used alike");
    }
    stop(&mut pinring);
    assert_eq!(access(&pinring).len(), 4);
    let hash = first["session"].as_str().unwrap();
    assert!(
        hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{hash}"
    );
}

#[test]
fn a_refusal_leaves_a_line_with_its_reason_and_session() {
    let backend = Backend::stateful("a");
    let toml = format!(
        "{}[affinity]\nunpinned = \"reject\"\n",
        listing(&[("a", &backend, "")])
    );
    let pinring = Pinring::start(&toml);
    let id = Client::initialize(pinring.address());
    let served = lines(&pinring, 1).remove(0);
    for (id, reason, same) in [
        ("a-1", "unpinned", true),
        (&*id.replace("a-1-", "a-2-"), "tag_invalid", false),
    ] {
        let mut bytes_out = 0;
        let session = format!("mcp-session-id: {id}\r\n");
        let line = line_of(&pinring, |client| {
            bytes_out = client.call("POST", &session, "").body.len();
        });
        let texts = ["reason", "pool", "end"].map(|key| line[key].as_str().unwrap());
        assert_eq!(texts, [reason, "default", "complete"]);
        assert_eq!(
            (&line["status"], &line["bytes_out"]),
            (&404.into(), &bytes_out.into())
        );
        assert_eq!(line["session"] == served["session"], same, "{line}");
        assert!(line["session"].is_string(), "{line}");
    }
}

#[test]
fn a_refused_head_request_is_complete() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let line = line_of(&pinring, |client| {
        client
            .send("HEAD /mcp HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n")
            .head();
    });
    let texts = ["reason", "end"].map(|key| line[key].as_str().unwrap());
    assert_eq!(texts, ["host_invalid", "complete"]);
}

/// A backend that issues one session; its later answers begin, and break off where the client POSTs.
fn breaking() -> Backend {
    Backend::start(|request, stream| {
        if request.header("mcp-session-id").is_none() {
            return stream.write_all(&ok("mcp-session-id: abc\r\n", "")).is_ok();
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        write!(stream, "{head}9\r\ndata: 1\n\n\r\n").unwrap();
        request.head.starts_with("GET")
    })
}

#[test]
fn a_line_tells_who_ended_an_answer_early() {
    let backend = breaking();
    let pinring = Pinring::before(&[&backend], "");
    let id = Client::initialize(pinring.address());
    let session = format!("mcp-session-id: {id}\r\n");
    for (method, number, end) in [("GET", 1, "client_left"), ("POST", 2, "backend_gone")] {
        let mut client = Client::connect(pinring.address());
        client.send(request(method, &session, ""));
        client.head();
        assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
        if method == "POST" {
            assert_eq!(client.chunk(), Chunk::Truncated);
        }
        drop(client);
        let line = lines(&pinring, number + 1).remove(number);
        assert_eq!(
            (&line["end"], &line["status"], &line["bytes_out"]),
            (&end.into(), &200.into(), &9.into())
        );
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_leaves_a_line_without_a_status() {
    let backend = Backend::start(|_, _| {
        std::thread::park(); // never answers
        false
    });
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}"));
    eventually("the backend is asked", || !backend.received().is_empty());
    drop(client);
    let line = lines(&pinring, 1).remove(0);
    assert_eq!(
        (&line["end"], line.get("status")),
        (&"client_left".into(), None)
    );
}

/// A proxy with the secret of 32 times this character.
fn with_secret(backend: &Backend, secret: char) -> Pinring {
    let toml = format!(
        "{}[affinity]\nsecrets = [\"env:HUSH\"]\n",
        listing(&[("a", backend, "")])
    );
    let secret = String::from_iter([secret; 32]);
    Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &[("HUSH", &secret)])
}

#[test]
fn a_session_has_one_hash_in_all_proxies_with_its_secret_and_another_session_another() {
    let backend = Backend::stateful("a");
    let proxies = [
        with_secret(&backend, 's'),
        with_secret(&backend, 's'),
        with_secret(&backend, 't'),
    ];
    let ids = [(); 2].map(|()| Client::initialize(proxies[0].address()));
    let hash = |proxy: &Pinring, id: &str| {
        let session = format!("mcp-session-id: {id}\r\n");
        let line = line_of(proxy, |client| drop(client.call("POST", &session, "{}")));
        line["session"].as_str().unwrap().to_owned()
    };
    lines(&proxies[0], 2);
    let hashes = [0, 1].map(|proxy: usize| ids.each_ref().map(|id| hash(&proxies[proxy], id)));
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0][0], hashes[0][1]);
    let other = hash(&proxies[2], &ids[0]);
    assert_ne!(other, hashes[0][0], "the hash is keyed");
}

#[test]
fn no_line_holds_a_secret_a_session_a_query_or_a_credential() {
    let own = "5f1d9c3e-own-id";
    let backend = Backend::start(move |request, stream| {
        let get = request.head.starts_with("GET");
        let answer = ok(
            &format!("mcp-session-id: {own}\r\nset-cookie: crumbs\r\n"),
            "hushbody",
        );
        stream.write_all(&answer).is_ok() && !get
    });
    let silent = Closed::new();
    let nobody = silent.address();
    let folder = tempfile::tempdir().unwrap();
    let secret = "quiet-as-a-mouse-quiet-as-a-mouse";
    fs::write(folder.path().join("secret"), secret).unwrap();
    let toml = format!(
        "[[pools]]\nname = \"p\"\nmatch = {{ path = \"/mcp\" }}\nbackends = [{{ name = \"a\", url = \"http://{}\" }}]\n\
         [[pools]]\nname = \"q\"\nmatch = {{ path = \"/gone\" }}\nbackends = [{{ name = \"b\", url = \"http://{nobody}\" }}]\n\
         [affinity]\nsecrets = [\"file:secret\"]\nunknown_grace = \"0s\"\n",
        backend.address()
    );
    let mut pinring = Pinring::start_in(folder, &toml, &[("RUST_LOG", "trace,pinring=trace")]);
    let ask = |method: &str, path: &str, id: &str| {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "{method} {path}?access_token=hushquery HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\
             authorization: Bearer hushtoken\r\ncookie: hushcookie\r\nmcp-session-id: {id}\r\n\
             content-length: 8\r\n\r\nhushbody"
        ));
        client.answer()
    };
    let id = ask("POST", "/mcp", "")
        .header("mcp-session-id")
        .unwrap()
        .to_owned();
    let pin = id.rsplit_once('-').unwrap().1;
    let unknown = format!("{own}-cf{}", "a".repeat(30));
    let forged = id.replace("own", "owm");
    let mut statuses = Vec::new();
    for (method, path, id) in [
        ("POST", "/mcp", &*id),
        ("GET", "/mcp", &id),
        ("POST", "/mcp", &forged),
        ("POST", "/mcp", &unknown),
        ("POST", "/mcp", own),
        ("POST", "/gone", &id),
        ("POST", "/gone", ""),
        ("POST", "/none", &id),
        ("POST", "/mcp", "hush id"),
    ] {
        statuses.push(ask(method, path, id).status);
    }
    assert_eq!(statuses, [200, 200, 404, 503, 404, 404, 503, 404, 404]);
    pinring.reload(&toml.replace("file:secret", secret));
    stop(&mut pinring);
    assert!(access(&pinring).len() == statuses.len() + 1 && pinring.find_log("fault").is_some());
    for line in pinring.log() {
        for kept in [
            own,
            pin,
            &*forged,
            "hush",
            "crumbs",
            secret,
            "quiet",
            "access_token",
        ] {
            assert!(!line.contains(kept), "{kept} in {line}");
        }
    }
}

#[test]
fn the_access_log_can_be_switched_off() {
    let backend = Backend::stateful("a");
    let mut pinring = Pinring::before(&[&backend], "[log]\naccess = false\n");
    Client::initialize(pinring.address());
    Client::in_session(pinring.address(), "x-y");
    stop(&mut pinring);
    assert_eq!(access(&pinring), Vec::<Value>::new());
}

#[test]
fn a_request_that_went_elsewhere_names_those_who_failed() {
    let dead = Closed::new();
    let closed = dead.address();
    let alive = Backend::stateful("alive");
    let pinring = Pinring::start(&format!(
        "backends = [{{ name = \"dead\", url = \"http://{closed}\" }}, {{ name = \"alive\", url = \"http://{}\" }}]\n",
        alive.address()
    ));
    eventually("the dead one was tried", || {
        let line = line_of(&pinring, |client| drop(client.call("POST", "", "{}")));
        assert_eq!(
            (&line["status"], &line["backend"]),
            (&200.into(), &"alive".into())
        );
        assert_eq!(line["client"], "127.0.0.1");
        line["failed"] == "dead connect_refused"
    });
}

#[test]
fn a_backend_that_hangs_is_named_although_it_never_answered() {
    let hangs = Backend::start(|_, stream| std::io::Read::read(stream, &mut [0]).is_ok());
    let pinring = Pinring::before(&[&hangs], "");
    let line = line_of(&pinring, |client| {
        client.send(request("POST", "", "{}"));
        eventually("it has the request", || !hangs.received().is_empty());
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert_eq!(
        (&line["backend"], &line["route"]),
        (&"a".into(), &"placed".into())
    );
    assert_eq!(line["end"], "client_left");
}
