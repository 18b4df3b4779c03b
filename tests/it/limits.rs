//! How many sessions a backend and a principal may have, and what those are told for whom there is no room.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;

use crate::support::{Answer, Backend, Chunk, Client, Pinring, eventually, ok};

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason())
}

fn is_full(answer: &Answer, reason: &str) {
    assert_eq!(told(answer), (503, reason.into()));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

fn initialize(address: SocketAddr) -> Answer {
    Client::once(address, "POST", "", "{}")
}

fn end(pinring: &Pinring, id: &str) {
    let header = format!("mcp-session-id: {id}\r\n");
    let ended = Client::once(pinring.address(), "DELETE", &header, "");
    assert_eq!(ended.status, 200);
}

/// A server that issues ids to `initialize` alone.
fn server(name: &'static str) -> Backend {
    let issued = AtomicUsize::new(0);
    Backend::start(move |request, stream| {
        let opens = request.line().starts_with("POST /mcp ")
            && request.header("mcp-protocol-version").is_none();
        let answer = match request.header("mcp-session-id") {
            Some(id) => ok(&format!("mcp-session-id: {id}\r\n"), name),
            None if opens => {
                let number = issued.fetch_add(1, Ordering::SeqCst);
                ok(&format!("mcp-session-id: {name}-{number}\r\n"), name)
            }
            None => ok("", name),
        };
        stream.write_all(&answer).is_ok()
    })
}

#[test]
fn who_has_as_many_sessions_as_he_may_gets_no_more_until_one_ends() {
    let backends = [server("a"), server("b")];
    let pinring = Pinring::before(&backends.each_ref(), "[limits]\nsessions_per_backend = 2\n");
    let ids: Vec<String> = (0..4)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    assert_eq!(ids.iter().filter(|id| id.starts_with("a-")).count(), 2);
    is_full(&initialize(pinring.address()), "sessions_full");

    // What opens no session is served as always.
    for id in &ids {
        assert_eq!(Client::in_session(pinring.address(), id).status, 200);
    }
    let modern = "mcp-protocol-version: 2026-07-28\r\n";
    assert_eq!(
        Client::once(pinring.address(), "POST", modern, "{}").status,
        200
    );
    let metadata = "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = Client::connect(pinring.address()).send(metadata).answer();
    assert_eq!(answer.status, 200);

    let of_b = ids.iter().find(|id| id.starts_with("b-")).unwrap();
    end(&pinring, of_b);
    assert!(Client::initialize(pinring.address()).starts_with("b-"));
    is_full(&initialize(pinring.address()), "sessions_full");
}

#[test]
fn a_burst_opens_no_more_sessions_than_there_is_room_for() {
    let slow = |name: &'static str| {
        Backend::start(move |_, stream| {
            std::thread::sleep(Duration::from_millis(200)); // a server at work
            stream
                .write_all(&ok("mcp-session-id: id\r\n", name))
                .is_ok()
        })
    };
    let backends = [slow("a"), slow("b")];
    let pinring = Pinring::before(
        &backends.each_ref(),
        "[limits]\nsessions_per_backend = 5\n[server]\nlisten = \"127.0.0.1:0\"\nthreads = 3\n",
    );
    let address = pinring.address();
    let asking: Vec<_> = (0..40)
        .map(|_| std::thread::spawn(move || initialize(address)))
        .collect();
    let answers: Vec<Answer> = asking.into_iter().map(|one| one.join().unwrap()).collect();
    let opened = answers.iter().filter(|answer| answer.status == 200);
    assert_eq!(opened.count(), 10);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        is_full(answer, "sessions_full");
    }
    assert_eq!(
        backends.each_ref().map(|backend| backend.received().len()),
        [5, 5]
    );
}

#[test]
fn what_opens_no_session_gives_its_room_back() {
    let backend = Backend::start(|request, stream| {
        let answer = match request.header("x-wish") {
            Some("denied") => {
                b"HTTP/1.1 401 Unauthorized\r\nmcp-session-id: none\r\ncontent-length: 0\r\n\r\n"
                    .to_vec()
            }
            Some("no id") => ok("", "no id"),
            Some(_) => return false,
            None => ok("mcp-session-id: id\r\n", "opened"),
        };
        stream.write_all(&answer).is_ok()
    });
    let pinring = Pinring::before(&[&backend], "[limits]\nsessions_per_backend = 1\n");
    for (wish, status) in [("denied", 401), ("no id", 200), ("broken", 502)] {
        for _ in 0..2 {
            let header = format!("x-wish: {wish}\r\n");
            let answer = Client::once(pinring.address(), "POST", &header, "{}");
            assert_eq!(answer.status, status, "{wish}");
        }
    }
    // Nor does one whose client has left.
    let mut leaves = Client::connect(pinring.address());
    leaves.send(
        "POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ncontent-length: 9\r\n\r\n",
    );
    eventually("its room is taken", || {
        initialize(pinring.address()).status == 503
    });
    drop(leaves);
    eventually("its room is free", || {
        initialize(pinring.address()).status == 200
    });
    is_full(&initialize(pinring.address()), "sessions_full");
}

#[test]
fn a_limit_holds_from_the_reload_on_that_brings_it() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let ids: Vec<String> = (0..3)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let limit = |most: u32| {
        let backends = Pinring::backends(&[&backend]);
        pinring.reload(&format!(
            "{backends}\n[limits]\nsessions_per_backend = {most}\n"
        ));
    };
    limit(2);
    is_full(&initialize(pinring.address()), "sessions_full");
    for id in &ids {
        assert_eq!(Client::in_session(pinring.address(), id).status, 200);
    }
    limit(0);
    assert_eq!(initialize(pinring.address()).status, 200);
}

/// A token of `sub`, signed by who may or by somebody else, in a header line.
fn bearer(sub: &str, signature: &str) -> String {
    let payload = format!("{{\"iss\": \"https://id.example\", \"sub\": \"{sub}\"}}");
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!(
        "authorization: Bearer {}.{}.{signature}\r\n",
        part("{}"),
        part(&payload)
    )
}

/// A server that verifies tokens, where there is one, and takes a request with `x-hold` into account for long.
fn verifying() -> Backend {
    Backend::start(|request, stream| {
        let genuine = request
            .header("authorization")
            .is_none_or(|token| token.ends_with(".good"));
        if request.header("x-hold").is_some() {
            std::thread::sleep(Duration::from_secs(2));
        }
        let answer = if genuine {
            let id = request
                .header("mcp-session-id")
                .map_or_else(|| format!("{:016x}", fastrand::u64(..)), str::to_owned);
            ok(&format!("mcp-session-id: {id}\r\n"), "welcome")
        } else {
            b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_vec()
        };
        stream.write_all(&answer).is_ok()
    })
}

const BY_TOKEN: &str = "[limits]\nsessions_per_principal = 2\nprincipal = \"jwt:sub\"\n";

fn open(pinring: &Pinring, headers: &str) -> Answer {
    Client::once(pinring.address(), "POST", headers, "{}")
}

#[test]
fn a_user_opens_as_many_sessions_as_he_may_and_others_theirs() {
    let backend = verifying();
    let pinring = Pinring::before(&[&backend], BY_TOKEN);
    let (ann, bob) = (bearer("ann", "good"), bearer("bob", "good"));
    let ids = [(); 2].map(|()| {
        let answer = open(&pinring, &ann);
        answer.header("mcp-session-id").unwrap().to_owned()
    });
    is_full(&open(&pinring, &ann), "principal_sessions_full");
    assert_eq!(open(&pinring, &bob).status, 200);
    for _ in 0..5 {
        assert_eq!(open(&pinring, "").status, 200, "nobody in particular");
    }
    let in_session = format!("{ann}mcp-session-id: {}\r\n", ids[0]);
    assert_eq!(open(&pinring, &in_session).status, 200);
    assert_eq!(
        Client::once(pinring.address(), "DELETE", &in_session, "").status,
        200
    );
    assert_eq!(open(&pinring, &ann).status, 200);
    is_full(&open(&pinring, &ann), "principal_sessions_full");
}

#[test]
fn who_makes_up_a_token_of_somebody_else_takes_none_of_his_room() {
    let backend = verifying();
    let pinring = Pinring::before(&[&backend], BY_TOKEN);
    let forged = bearer("ann", "forged");
    for _ in 0..4 {
        assert_eq!(open(&pinring, &forged).status, 401);
    }
    let address = pinring.address();
    let holding: Vec<_> = (0..2)
        .map(|_| {
            let headers = format!("{forged}x-hold: 1\r\n");
            std::thread::spawn(move || Client::once(address, "POST", &headers, "{}").status)
        })
        .collect();
    eventually("they are under way", || backend.received().len() == 6);
    let ann = bearer("ann", "good");
    for _ in 0..2 {
        assert_eq!(open(&pinring, &ann).status, 200);
    }
    is_full(&open(&pinring, &ann), "principal_sessions_full");
    for one in holding {
        assert_eq!(one.join().unwrap(), 401);
    }
}

#[test]
fn a_user_s_burst_opens_no_more_than_he_may() {
    let backend = verifying();
    let pinring = Pinring::before(&[&backend], BY_TOKEN);
    let address = pinring.address();
    let asking: Vec<_> = (0..12)
        .map(|_| {
            let headers = format!("{}x-hold: 1\r\n", bearer("ann", "good"));
            std::thread::spawn(move || Client::once(address, "POST", &headers, "{}").status)
        })
        .collect();
    let statuses: Vec<u16> = asking.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        2,
        "{statuses:?}"
    );
}

#[test]
fn after_a_restart_sessions_are_counted_again_once_they_are_used() {
    let backend = verifying();
    let ann = bearer("ann", "good");
    let before = Pinring::before(&[&backend], BY_TOKEN);
    let ids = [(); 2].map(|()| {
        let answer = open(&before, &ann);
        answer.header("mcp-session-id").unwrap().to_owned()
    });
    drop(before);
    let after = Pinring::before(&[&backend], BY_TOKEN);
    for id in ids {
        let answer = open(&after, &format!("{ann}mcp-session-id: {id}\r\n"));
        assert_eq!(answer.status, 200);
    }
    is_full(&open(&after, &ann), "principal_sessions_full");
    assert_eq!(open(&after, &bearer("bob", "good")).status, 200);
}

#[test]
fn an_address_opens_as_many_sessions_as_it_may() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(
        &[&backend],
        "[limits]\nsessions_per_principal = 2\nprincipal = \"address\"\n",
    );
    let ids = [(); 2].map(|()| Client::initialize(pinring.address()));
    is_full(&initialize(pinring.address()), "principal_sessions_full");
    end(&pinring, &ids[1]);
    assert_eq!(initialize(pinring.address()).status, 200);
}

/// A POST or GET by a client that does not say what it takes, as scripts do.
fn unannounced(pinring: &Pinring, method: &str, path: &str, headers: &str) -> Answer {
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\naccept: */*\r\n{headers}content-length: 0\r\n\r\n"
    ));
    client.answer()
}

#[test]
fn no_session_beyond_a_limit_is_opened_whatever_its_client_says() {
    for (limit, reason) in [
        ("sessions_per_backend = 2", "sessions_full"),
        (
            "sessions_per_principal = 2\nprincipal = \"address\"",
            "principal_sessions_full",
        ),
    ] {
        let backend = Backend::stateful("a");
        let pinring = Pinring::before(&[&backend], &format!("[limits]\n{limit}\n"));
        let modern = "mcp-protocol-version: 2026-07-28\r\n";
        let with_junk = format!("{modern}mcp-session-id: junk\r\n");
        let first = unannounced(&pinring, "POST", "/mcp", "");
        assert_eq!(first.status, 200);
        assert_eq!(open(&pinring, modern).status, 200);
        for headers in ["", modern] {
            is_full(&unannounced(&pinring, "POST", "/mcp", headers), reason);
            is_full(&open(&pinring, headers), reason);
        }
        is_full(&open(&pinring, &with_junk), reason);
        // Each that the backend had opened was ended there, and no other.
        let ended = || {
            let deleted = backend.received().into_iter();
            let deleted = deleted.filter(|request| request.line().starts_with("DELETE /mcp "));
            let mut ids: Vec<String> = deleted
                .map(|request| request.header("mcp-session-id").unwrap().to_owned())
                .collect();
            ids.sort();
            ids
        };
        eventually("they are ended", || ended() == ["a-3", "a-4", "a-5", "a-6"]);
        end(&pinring, first.header("mcp-session-id").unwrap());
        assert_eq!(open(&pinring, modern).status, 200);
    }
}

#[test]
fn what_opens_no_session_is_never_refused_for_want_of_one() {
    let backend = server("a");
    let pinring = Pinring::before(&[&backend], "[limits]\nsessions_per_backend = 1\n");
    let _id = Client::initialize(pinring.address());
    let modern = "mcp-protocol-version: 2026-07-28\r\n";
    for (method, path, headers) in [
        ("GET", "/.well-known/oauth-protected-resource", ""),
        ("POST", "/token", ""),
        ("POST", "/mcp", modern),
    ] {
        let answer = unannounced(&pinring, method, path, headers);
        assert_eq!(answer.status, 200, "{method} {path}");
    }
}

/// Asks for a stream of HTTP+SSE.
fn begin_sse(pinring: &Pinring, accept: &str) -> Client {
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "GET /sse HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\n\r\n"
    ));
    client
}

#[test]
fn sessions_of_sse_streams_count_from_their_beginning_to_their_end() {
    for limit in [
        "sessions_per_principal = 1\nprincipal = \"address\"",
        "sessions_per_backend = 1",
    ] {
        for accept in ["text/event-stream", "*/*"] {
            let (backend, arrivals) = Backend::manual();
            let pinring = Pinring::before(&[&backend], &format!("[limits]\n{limit}\n"));
            let is_refused = || {
                let mut client = begin_sse(&pinring, "text/event-stream");
                client.answer().status == 503
            };
            let mut stream = begin_sse(&pinring, accept);
            let mut asked = arrivals.next();
            asked.begin_stream().chunk(": hello\n\n");
            assert!(stream.head().starts_with("HTTP/1.1 200"));
            assert!(
                is_refused(),
                "{limit}, {accept}: before its endpoint is named"
            );
            asked.chunk("event: endpoint\ndata: /messages?session=1\n\n");
            let named = |chunk| matches!(chunk, Chunk::Data(data) if data.starts_with(b"event:"));
            eventually("it is named", || named(stream.chunk()));
            assert!(is_refused(), "{limit}, {accept}: while it lives");
            drop(stream);
            assert!(asked.is_closed_within(Duration::from_secs(30)));
            let mut next = begin_sse(&pinring, accept);
            arrivals.next().begin_stream();
            assert!(next.head().starts_with("HTTP/1.1 200"));
        }
    }
}
