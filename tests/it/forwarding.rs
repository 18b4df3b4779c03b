//! Heads on their way through: what is forwarded, what stops here, and how long connections live.

use std::io::Write as _;

use crate::support::{Backend, Client, ONE_THREAD, Pinring, ok, request};

#[test]
fn both_sides_keep_their_connections() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut client = Client::connect(pinring.address());
    for _ in 0..5 {
        let answer = client.call("POST", "", "{}");
        assert_eq!(
            (answer.status, answer.text(), answer.header("connection")),
            (200, "a".into(), None)
        );
    }
    assert_eq!((backend.received().len(), backend.connections()), (5, 1));
}

#[test]
fn a_connection_that_the_client_wants_closed_is_closed() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    let answer = client.call("POST", "connection: close\r\n", "{}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|request, stream| {
        stream
            .write_all(&ok("", &String::from_utf8_lossy(&request.body)))
            .is_ok()
    });
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(
        ["one", "two", "three"]
            .map(|body| request("POST", "", body))
            .concat(),
    );
    let bodies = [(); 3].map(|()| client.answer().text());
    assert_eq!(bodies, ["one", "two", "three"]);
}

#[test]
fn what_is_of_one_connection_stops_here() {
    let backend = Backend::answering(ok(
        "connection: x-own, keep-alive\r\nx-own: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-end: 2\r\n",
        "a",
    ));
    let pinring = Pinring::before(&[&backend], "");
    let answer = Client::once(
        pinring.address(),
        "POST",
        "connection: x-hop, upgrade\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\n\
         proxy-authorization: Basic x\r\nte: trailers\r\ntrailer: x\r\nupgrade: h2c\r\nx-end: 2\r\n",
        "{}",
    );
    let seen = &backend.received()[0];
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(seen.header(name), None, "{name} reached the backend");
    }
    for name in [
        "connection",
        "x-own",
        "keep-alive",
        "proxy-authenticate",
        "upgrade",
    ] {
        assert_eq!(answer.header(name), None, "{name} reached the client");
    }
    assert_eq!(
        (seen.header("x-end"), answer.header("x-end")),
        (Some("2"), Some("2"))
    );
}

#[test]
fn the_backend_learns_who_asked_from_pinring_alone() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let own = "x-forwarded-for: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nx-forwarded-proto: https\r\n\
               x-forwarded-host: evil.test\r\nx-forwarded-port: 1\r\nforwarded: for=1.2.3.4\r\n";
    Client::once(pinring.address(), "POST", own, "{}");
    let seen = &backend.received()[0];
    let expected = [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("pinring.test")),
        ("x-forwarded-port", None),
        ("forwarded", None),
        ("host", Some("pinring.test")),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[test]
fn host_is_rewritten_where_the_pool_says_so() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[pool]\nhost = \"rewrite\"\n");
    Client::once(pinring.address(), "POST", "", "{}");
    let seen = &backend.received()[0];
    assert_eq!(seen.header("host"), Some(&*backend.address().to_string()));
    assert_eq!(seen.header("x-forwarded-host"), Some("pinring.test"));
}

#[test]
fn every_form_of_target_reaches_the_backend_in_origin_form() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let targets = [
        ("GET", "/", "/"),
        (
            "GET",
            "/a%2Fb//c/..d?x=%20&y=../a+b",
            "/a%2Fb//c/..d?x=%20&y=../a+b",
        ),
        ("GET", "http://pinring.test/mcp?x=1", "/mcp?x=1"),
        ("GET", "http://pinring.test", "/"),
        ("OPTIONS", "*", "*"),
    ];
    let mut client = Client::connect(pinring.address());
    for (method, target, _) in targets {
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: pinring.test\r\n\r\n"
        ));
        assert_eq!(client.answer().status, 200, "{target}");
    }
    let seen: Vec<String> = backend
        .received()
        .iter()
        .map(|seen| seen.line().to_owned())
        .collect();
    let expected = targets.map(|(method, _, target)| format!("{method} {target} HTTP/1.1"));
    assert_eq!(seen, expected);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send("POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    assert_eq!(client.send("{}").answer().status, 200);
    let seen = &backend.received()[0];
    assert_eq!((&*seen.body, seen.header("expect")), (&b"{}"[..], None));
}

#[test]
fn a_client_that_waits_for_100_continue_is_refused_without_sending_its_body() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[affinity]\nunpinned = \"reject\"\n");
    let mut client = Client::connect(pinring.address());
    client.send("POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.reason()), (404, "unpinned"));
}

#[test]
fn early_hints_of_a_backend_do_not_end_the_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let backend = Backend::answering([hints.as_bytes(), &ok("", "a")].concat());
    let pinring = Pinring::before(&[&backend], "");
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, answer.text()), (200, "a".into()));
}

#[test]
fn answers_without_a_body_end_with_their_head_and_say_nothing_of_their_own_about_length() {
    // The last is how many connections two of them take: one that speaks of a body may yet send it.
    let cases = [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            Some("5"),
            2,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            None,
            2,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None, 1),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None, 1),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None, 1),
        (
            "POST",
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            Some("0"),
            1,
        ),
    ];
    for (method, answer, length, connections) in cases {
        let backend = Backend::answering(answer);
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        let mut client = Client::connect(pinring.address());
        for _ in 0..2 {
            client.send(format!("{method} /mcp HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            let said = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            assert_eq!(said.as_deref(), length, "{method}, {answer:?}");
        }
        assert_eq!(backend.connections(), connections, "{method}, {answer:?}");
    }
}

#[test]
fn an_http_1_0_client_gets_what_it_understands() {
    let lengthy = String::from_utf8(ok("", "abc")).unwrap();
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let cases = [
        ("", &*lengthy, false),
        ("host: old.test\r\n", &*lengthy, false),
        ("connection: keep-alive\r\n", &*lengthy, true),
        ("connection: keep-alive\r\n", chunked, false),
        ("host: old.test\r\n", chunked, false),
    ];
    for (headers, answered, stays) in cases {
        let backend = Backend::answering(answered);
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send(format!("GET /mcp HTTP/1.0\r\n{headers}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, "abc".into()));
        assert_eq!(
            answer.header("transfer-encoding"),
            None,
            "HTTP/1.0 knows no chunks"
        );
        let kept = answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"));
        assert_eq!(kept, stays, "{headers:?}: {}", answer.head);
        if stays {
            client.send("GET /mcp HTTP/1.0\r\n\r\n");
            assert_eq!(client.answer().text(), "abc");
        }
        assert!(client.is_closed() && !client.was_reset(), "{headers:?}");
        let seen = &backend.received()[0];
        let own = backend.address().to_string();
        let host = if headers.starts_with("host") {
            "old.test"
        } else {
            &own
        };
        assert_eq!(
            (seen.line(), seen.header("host")),
            ("GET /mcp HTTP/1.1", Some(host))
        );
    }
}

#[test]
fn an_http_1_0_backend_is_no_business_of_the_client() {
    let cases = [
        "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\n\r\nabc",
    ];
    for answered in cases {
        let backend = Backend::start(move |_, stream| {
            stream.write_all(answered.as_bytes()).unwrap();
            false
        });
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        for _ in 0..2 {
            let answer = client.call("POST", "", "{}");
            assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
            assert_eq!(
                (answer.text(), answer.header("connection")),
                ("abc".into(), None)
            );
        }
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(
        &[&backend],
        "[timeouts]\nkeep_alive = \"200ms\"\nrequest_head = \"1m\"\n",
    );
    let mut client = Client::connect(pinring.address());
    client.call("POST", "", "{}");
    assert!(client.is_closed() && !client.was_reset());
}

#[test]
fn repeated_and_unreadable_headers_pass_unchanged() {
    let backend = Backend::answering(ok(
        "set-cookie: a=1\r\nset-cookie: b=2\r\nwww-authenticate: Bearer resource_metadata=\"x\"\r\nx-umlaut: \u{e4}\r\n",
        "a",
    ));
    let pinring = Pinring::before(&[&backend], "");
    let own = "cookie: a=1\r\nx-umlaut: \u{e4}\r\nauthorization: Bearer x\r\nx-empty:\r\n";
    let answer = Client::once(pinring.address(), "POST", own, "{}");
    assert_eq!(answer.headers("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer resource_metadata=\"x\"")
    );
    assert_eq!(answer.header("x-umlaut"), Some("\u{e4}"));
    let seen = &backend.received()[0];
    for (name, value) in [
        ("cookie", "a=1"),
        ("x-umlaut", "\u{e4}"),
        ("authorization", "Bearer x"),
        ("x-empty", ""),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[test]
fn trailers_stop_here() {
    let trailing = "3\r\nabc\r\n0\r\nmcp-session-id: x\r\n\r\n";
    let backend = Backend::answering(format!(
        "HTTP/1.1 200 OK\r\ntrailer: mcp-session-id\r\ntransfer-encoding: chunked\r\n\r\n{trailing}"
    ));
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut client = Client::connect(pinring.address());
    for _ in 0..2 {
        client
            .send("POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\nte: trailers\r\n");
        client.send(format!(
            "trailer: mcp-session-id\r\ntransfer-encoding: chunked\r\n\r\n{trailing}"
        ));
        let answer = client.answer(); // a trailer would be in the way of the second
        assert_eq!((answer.text(), answer.complete), ("abc".into(), true));
    }
    assert!(backend.received().iter().all(|seen| seen.body == b"abc"));
    assert_eq!(backend.connections(), 1);
}
