//! Backends that do not know a session any more: what stands for a 404 becomes one, and nothing else is touched.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::support::{
    Answer, Arrivals, Backend, Chunk, Client, Pinring, Received, administrated, anywhere, ask,
    eventually, request,
};

const NORMALIZE: &str = "[pool]\nnormalize_lost_session = true\n";

const NO_SESSION: &str = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#;

const FORGOTTEN: &str = "a session that it answered a moment ago";

/// Issues the id `s` to a request without one, and answers others with these bytes.
fn forgetting(answer: impl Into<Vec<u8>>) -> Backend {
    let answer = answer.into();
    Backend::start(move |request, stream| {
        let issued = b"HTTP/1.1 200 OK\r\nmcp-session-id: s\r\ncontent-length: 0\r\n\r\n";
        let answer = match request.header("mcp-session-id") {
            None => &issued[..],
            Some(_) => &answer,
        };
        stream.write_all(answer).is_ok()
    })
}

fn bytes(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn in_session(pinring: &Pinring, method: &str, id: &str) -> Answer {
    let header = format!("mcp-session-id: {id}\r\n");
    Client::once(pinring.address(), method, &header, "{}")
}

/// Opens a session at a backend whose answers the test writes. Gives the header that names it.
fn opened(pinring: &Pinring, arrivals: &Arrivals) -> String {
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}"));
    arrivals.next().send(bytes(
        "200 OK",
        "mcp-session-id: s\r\nconnection: close\r\n",
        "",
    ));
    let answer = client.answer();
    format!(
        "mcp-session-id: {}\r\n",
        answer.header("mcp-session-id").unwrap()
    )
}

/// How often the log named a backend that forgets, up to now.
fn warnings(pinring: &Pinring) -> usize {
    let mut marker = Client::connect(pinring.address());
    marker
        .send("GET /marker-of-this-moment HTTP/1.1\r\n\r\n")
        .answer(); // without Host: refused
    pinring.wait_for_log("marker-of-this-moment");
    let lines = pinring.log();
    lines.iter().filter(|line| line.contains(FORGOTTEN)).count()
}

#[test]
fn what_a_backend_forgot_is_told_also_after_a_drain() {
    let backend = forgetting(bytes("404 Not Found", "", ""));
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let id = Client::initialize(pinring.address());
    assert_eq!(in_session(&pinring, "POST", &id).status, 404);
    assert_eq!(pinring.standing("a")["forgotten"], 1);
    let now = r#"{"backend":"a","now":true}"#;
    assert_eq!(ask(&pinring.admin(), "POST", "/drain", now).0, 200);
    assert_eq!(pinring.standing("a")["state"], "drained");
    assert_eq!(pinring.standing("a")["forgotten"], 1);
}

#[test]
fn what_means_a_lost_session_becomes_the_404_that_clients_act_upon() {
    for answer in [
        bytes(
            "400 Bad Request",
            "content-type: application/json\r\nmcp-session-id: s\r\n",
            NO_SESSION,
        ),
        bytes("401 Unauthorized", "", NO_SESSION),
        bytes(
            "400 Bad Request",
            "content-type: text/plain\r\n",
            "Invalid session ID\n",
        ),
        format!(
            "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{NO_SESSION}\r\n0\r\n\r\n",
            NO_SESSION.len()
        ),
    ] {
        let backend = forgetting(&*answer);
        let pinring = Pinring::before(&[&backend], NORMALIZE);
        for method in ["POST", "GET", "DELETE"] {
            let id = Client::initialize(pinring.address());
            let told = in_session(&pinring, method, &id);
            assert_eq!(told.status, 404, "{method}, {answer}");
            assert_eq!(told.reason(), "backend_forgot_session");
            let body: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
            assert_eq!(body["error"]["code"], -32001);
            assert_eq!(body["error"]["message"], "Session not found");
        }
    }
}

#[test]
fn every_other_answer_passes_byte_for_byte() {
    let long = format!("{NO_SESSION}{}", " ".repeat(8 * 1024));
    let huge = format!("{NO_SESSION}{}", " ".repeat(1 << 20));
    for (status, headers, body) in [
        (
            "400 Bad Request",
            "",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"Invalid params\"}}",
        ),
        ("400 Bad Request", "", "no such thing"),
        ("400 Bad Request", "", ""),
        ("400 Bad Request", "", &*long),
        ("400 Bad Request", "", &*huge),
        ("400 Bad Request", "content-encoding: gzip\r\n", NO_SESSION),
        (
            "401 Unauthorized",
            "www-authenticate: Bearer\r\n",
            NO_SESSION,
        ),
        ("403 Forbidden", "", NO_SESSION),
        ("200 OK", "", NO_SESSION),
    ] {
        let backend = forgetting(bytes(status, headers, body));
        let pinring = Pinring::before(&[&backend], NORMALIZE);
        let id = Client::initialize(pinring.address());
        for method in ["POST", "GET"] {
            let answer = in_session(&pinring, method, &id);
            assert!(
                answer.head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{}",
                answer.head
            );
            let name = headers
                .split_once(':')
                .map_or("content-length", |(name, _)| name);
            assert!(answer.header(name).is_some());
            assert_eq!(
                answer.header("content-length"),
                Some(&*body.len().to_string())
            );
            assert!(
                answer.complete && answer.text() == body,
                "{status} {headers} {body:.80}"
            );
        }
    }
}

#[test]
fn an_answer_that_is_long_in_coming_passes_as_it_comes() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], NORMALIZE);
    let header = opened(&pinring, &arrivals);
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", &header, "{}"));
    let mut asked = arrivals.next();
    asked.send("HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n");
    asked.chunk(NO_SESSION);
    // The head does not wait for the end for ever.
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    asked.chunk(" and more").send("0\r\n\r\n");
    let mut body = Vec::new();
    while let Chunk::Data(data) = client.chunk() {
        body.extend(data);
    }
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!("{NO_SESSION} and more")
    );
}

#[test]
fn without_the_option_or_a_pin_nothing_is_changed() {
    let answer = bytes("400 Bad Request", "", NO_SESSION);
    let backend = forgetting(&*answer);
    let off = Pinring::before(&[&backend], "");
    let id = Client::initialize(off.address());
    let told = in_session(&off, "POST", &id);
    assert_eq!((told.status, told.text()), (400, NO_SESSION.into()));

    let on = Pinring::before(&[&backend], NORMALIZE);
    let told = in_session(&on, "POST", "an-id-without-a-pin");
    assert_eq!((told.status, told.text()), (400, NO_SESSION.into()));
}

/// A backend like those of [`Backend::stateful`] of which each second request of a session meets the process that
/// does not know it.
fn two_behind_one_address() -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::start(move |request, stream| {
        let answer = match request.header("mcp-session-id") {
            None => bytes("200 OK", "mcp-session-id: s\r\n", ""),
            Some(_) if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
                bytes("200 OK", "", "")
            }
            Some(_) => bytes("404 Not Found", "", "gone"),
        };
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

#[test]
fn a_backend_that_forgets_what_it_answered_a_moment_ago_is_named_once() {
    let backend = two_behind_one_address();
    let pinring = Pinring::before(&[&backend], "");
    for _ in 0..3 {
        let id = Client::initialize(pinring.address());
        assert_eq!(in_session(&pinring, "POST", &id).status, 200);
        let told = in_session(&pinring, "POST", &id);
        assert_eq!(
            (told.status, told.text()),
            (404, "gone".into()),
            "its own 404 passes"
        );
    }
    pinring.wait_for_log(FORGOTTEN);
    assert_eq!(warnings(&pinring), 1);
    let line = pinring
        .log()
        .into_iter()
        .find(|line| line.contains(FORGOTTEN))
        .unwrap();
    for part in [
        "\"backend\":\"a\"",
        "uvicorn --workers",
        "gunicorn",
        "PM2",
        "Service",
        "backend of its own",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_session_that_its_client_ended_is_not_forgotten() {
    let deleted = AtomicBool::new(false);
    let backend = Backend::start(move |request, stream| {
        let ended = deleted.load(Ordering::SeqCst);
        if request.line().starts_with("DELETE") {
            deleted.store(true, Ordering::SeqCst);
        }
        let answer = match request.header("mcp-session-id") {
            Some(_) if ended => bytes("404 Not Found", "", ""),
            Some(_) | None => bytes("200 OK", "mcp-session-id: s\r\n", ""),
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let pinring = Pinring::before(&[&backend], "");
    let id = Client::initialize(pinring.address());
    assert_eq!(in_session(&pinring, "DELETE", &id).status, 200);
    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(in_session(&pinring, method, &id).status, 404);
    }
    assert_eq!(warnings(&pinring), 0);
}

/// Serves the sessions that it issued itself, `name-1` and on, and closes after each answer.
fn process(address: SocketAddr, name: &'static str) -> Backend {
    Backend::on(
        address,
        move |request: &Received, stream: &mut TcpStream| {
            let answer = match request.header("mcp-session-id") {
                Some(id) if !id.starts_with(name) => {
                    bytes("404 Not Found", "connection: close\r\n", "")
                }
                Some(_) | None => {
                    let headers = format!("connection: close\r\nmcp-session-id: {name}-1\r\n");
                    bytes("200 OK", &headers, "")
                }
            };
            stream.write_all(answer.as_bytes()).unwrap();
            false
        },
    )
}

/// Knows every session, and has no route for GET.
fn without_get(told: &'static str) -> Backend {
    Backend::start(move |request, stream| {
        let answer = if request.line().starts_with("GET ") {
            bytes("404 Not Found", "content-type: text/html\r\n", told)
        } else {
            bytes("200 OK", "mcp-session-id: s\r\n", "")
        };
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

#[test]
fn a_404_of_the_route_for_get_ends_no_session() {
    for told in ["Cannot GET /mcp", ""] {
        let backends = [without_get(told), without_get(told)];
        for option in ["", "[pool]\non_loss = \"reinitialize\"\n"] {
            let listed = Pinring::backends(&backends.each_ref());
            let pinring = administrated(&format!("{listed}\n{option}"));
            let live =
                || ["a", "b"].map(|name| pinring.standing(name)["sessions"].as_u64().unwrap());
            let id = Client::initialize(pinring.address());
            let before = live();
            assert_eq!(before[0] + before[1], 1);
            for _ in 0..2 {
                let answer = in_session(&pinring, "GET", &id);
                assert_eq!((answer.status, answer.text()), (404, told.into()));
                assert_eq!(answer.header("pinring-session"), None);
                assert_eq!(in_session(&pinring, "POST", &id).status, 200);
                assert_eq!(live(), before, "{option}");
            }
            assert_eq!(warnings(&pinring), 0);
        }
    }
}

#[test]
fn a_get_s_404_in_words_of_the_session_ends_it() {
    let answer = bytes("404 Not Found", "", "Not Found: Session not found");
    let backend = forgetting(&*answer);
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let id = Client::initialize(pinring.address());
    assert_eq!(pinring.standing("a")["sessions"], 1);
    let told = in_session(&pinring, "GET", &id);
    assert_eq!(
        (told.status, &*told.text()),
        (404, "Not Found: Session not found"),
        "its own 404 passes"
    );
    assert_eq!(pinring.standing("a")["sessions"], 0);
}

#[test]
fn a_restart_that_was_noticed_is_no_forgetting() {
    let before = process(anywhere(), "before");
    let address = before.address();
    let pinring = Pinring::before(&[&before], "[timeouts]\nconnect = \"200ms\"\n");
    let id = Client::initialize(pinring.address());
    drop(before);
    assert_eq!(in_session(&pinring, "POST", &id).status, 503);
    let _after = process(address, "after");
    eventually("the backend is back", || {
        in_session(&pinring, "POST", &id).status == 404
    });
    assert_eq!(warnings(&pinring), 0);
}

#[test]
fn a_restart_that_cut_a_stream_is_no_forgetting() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let header = opened(&pinring, &arrivals);
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", &header, ""));
    arrivals.next().begin_stream().chunk(": hello\n\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    eventually("the stream is cut", || client.chunk() == Chunk::Truncated);

    let mut client = Client::connect(pinring.address());
    client.send(request("POST", &header, "{}"));
    arrivals.next().send(bytes("404 Not Found", "", ""));
    assert_eq!(client.answer().status, 404);
    assert_eq!(warnings(&pinring), 0);
}
