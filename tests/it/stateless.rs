//! Revision 2026-07-28, whose requests stand alone: where they go, how long their streams live, and how they end.

use std::{
    collections::HashMap,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;

use crate::support::{
    Answer, Asked, Backend, Chunk, Client, ONE_THREAD, Pinring, eventually, ok, request,
};

const VERSION: &str = "mcp-protocol-version: 2026-07-28\r\n";
const LISTEN: &str = "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
const CALL: &str = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: x\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const JSON: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

/// A server that answers with its name, and leaves the streams that it is asked for open.
fn listening(name: &'static str) -> Backend {
    Backend::start(move |request, stream| {
        if request.header("mcp-method") == Some("subscriptions/listen") {
            let event = format!("data: {name}\n\n");
            return write!(stream, "{EVENTS}{:x}\r\n{event}\r\n", event.len()).is_ok();
        }
        stream.write_all(&ok("", name)).is_ok()
    })
}

/// Opens a stream, and says at which server.
fn listen(pinring: &Pinring) -> (Client, String) {
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", LISTEN, "{}"));
    client.head();
    let Chunk::Data(event) = client.chunk() else {
        panic!("no event")
    };
    let event = String::from_utf8(event).unwrap();
    let name = event.strip_prefix("data: ").unwrap().trim_end().to_owned();
    (client, name)
}

fn ask(pinring: &Pinring, headers: &str) -> String {
    let headers = format!("{VERSION}{headers}");
    Client::once(pinring.address(), "POST", &headers, "{}").text()
}

#[test]
fn open_streams_are_load_until_they_end() {
    let backends = ["a", "b"].map(listening);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let (first, at) = listen(&pinring);
    for _ in 0..20 {
        assert_ne!(ask(&pinring, ""), at, "of two, the lighter");
    }
    let mut streams: Vec<(Client, String)> = (0..9).map(|_| listen(&pinring)).collect();
    streams.push((first, at));
    let at_a = streams.iter().filter(|(_, name)| name == "a").count();
    assert_eq!(at_a, 5, "they spread as calls do");
    streams.retain(|(_, name)| name == "a");
    eventually("those of b have ended", || {
        (0..20).all(|_| ask(&pinring, "") == "b")
    });
    streams.clear();
    eventually("those of a have ended", || ask(&pinring, "") == "a");
}

#[test]
fn weights_count_for_streams_too() {
    let backends = ["a", "b"].map(listening);
    let listed =
        crate::support::listing(&[("a", &backends[0], ", weight = 3"), ("b", &backends[1], "")]);
    let pinring = Pinring::start(&listed);
    let streams: Vec<_> = (0..40).map(|_| listen(&pinring)).collect();
    let at_a = streams.iter().filter(|(_, name)| name == "a").count();
    assert!((28..=32).contains(&at_a), "{at_a} of 40");
}

const AFFINITY: &str = "[pool]\nstateless_affinity = [\"param:Tenant\", \"header:X-Tenant\", \"principal\", \"client-ip\"]\n\
                        [limits]\nprincipal = \"jwt:sub\"\n";

/// A token of this user.
fn token(user: &str) -> String {
    let claims = BASE64URL_NOPAD.encode(format!(r#"{{"iss":"x","sub":"{user}"}}"#).as_bytes());
    format!("authorization: Bearer e30.{claims}.x\r\n")
}

fn named(name: &'static str) -> Backend {
    Backend::answering(ok("", name))
}

/// Where requests with each of these headers go, in every proxy and every time.
fn owners(proxies: &[Pinring], headers: impl Iterator<Item = String>) -> HashMap<String, usize> {
    let mut owners = HashMap::new();
    for headers in headers {
        let owner = ask(&proxies[0], &headers);
        for proxy in proxies {
            assert_eq!(ask(proxy, &headers), owner, "{headers}");
        }
        *owners.entry(owner).or_default() += 1;
    }
    owners
}

#[test]
fn each_key_sends_what_has_it_in_common_to_one_replica_and_spreads_the_rest() {
    let backends = ["a", "b", "c"].map(named);
    let proxies = [(); 2].map(|()| Pinring::before(&backends.each_ref(), AFFINITY));
    for kind in ["mcp-param-tenant: ", "x-tenant: ", "token"] {
        let headers = (0..30).map(|number| match kind {
            "token" => token(&format!("u{number}")),
            _ => format!("{kind}t{number}\r\n"),
        });
        assert_eq!(owners(&proxies, headers).len(), 3, "{kind}");
    }
    // The first that is there decides: here the tenant, whoever asks.
    let of_tenant =
        (0..20).map(|number| format!("x-tenant: acme\r\n{}", token(&number.to_string())));
    assert_eq!(owners(&proxies, of_tenant).len(), 1);
    // Where nothing else is there, the address is.
    let without = (0..20).map(|_| String::new());
    assert_eq!(owners(&proxies, without).len(), 1);
}

#[test]
fn a_mirrored_value_means_the_same_plain_and_in_base64() {
    let backends = ["a", "b", "c"].map(named);
    let pinring = Pinring::before(&backends.each_ref(), AFFINITY);
    for number in 0..20 {
        let plain = format!("tenant-{number}");
        let encoded = data_encoding::BASE64.encode(plain.as_bytes());
        assert_eq!(
            ask(&pinring, &format!("mcp-param-tenant: {plain}\r\n")),
            ask(
                &pinring,
                &format!("mcp-param-tenant: =?base64?{encoded}?=\r\n")
            ),
        );
    }
    let last = backends.iter().flat_map(Backend::received);
    let sentinels = last.filter(|seen| {
        let value = seen.header("mcp-param-tenant").unwrap();
        value.starts_with("=?base64?")
    });
    assert_eq!(sentinels.count(), 20, "they arrive as they came");
}

/// A connection from this address of this machine.
fn connect_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn each_address_has_its_replica() {
    let backends = ["a", "b", "c"].map(named);
    let pinring = Pinring::before(
        &backends.each_ref(),
        "[pool]\nstateless_affinity = [\"client-ip\"]\n",
    );
    let ask_from = |last: u8| {
        let stream = connect_from(IpAddr::from([127, 0, 0, last]), pinring.address());
        Client::on(stream).call("POST", VERSION, "{}").text()
    };
    let mut owners = HashMap::<String, usize>::new();
    for last in 1..=30 {
        let owner = ask_from(last);
        assert_eq!([ask_from(last), ask_from(last)], [&*owner; 2]);
        *owners.entry(owner).or_default() += 1;
    }
    assert_eq!(owners.len(), 3);
}

#[test]
fn sessions_of_the_same_pool_do_not_notice_its_keys() {
    let backends = ["a", "b", "c"].map(Backend::stateful);
    let pinring = Pinring::before(&backends.each_ref(), AFFINITY);
    // One tenant, one user, one address, and a header that no server of these revisions checks.
    let common = format!(
        "mcp-param-tenant: acme\r\nx-tenant: acme\r\n{}",
        token("ann")
    );
    let of_its_era = |version: &str| format!("{common}mcp-protocol-version: {version}\r\n");
    let mut held = HashMap::<char, usize>::new();
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"]
        .into_iter()
        .cycle()
        .take(30)
    {
        let headers = of_its_era(version);
        let opened = Client::once(pinring.address(), "POST", &headers, "{}");
        let id = opened.header("mcp-session-id").unwrap();
        *held.entry(id.chars().next().unwrap()).or_default() += 1;
        let headers = format!("{headers}mcp-session-id: {id}\r\n");
        let answer = Client::once(pinring.address(), "POST", &headers, "{}");
        assert_eq!(answer.status, 200);
        assert!(id.starts_with(&format!("{}-", answer.text())), "{id}");
    }
    assert!(
        held.len() == 3 && held.values().all(|count| (7..=13).contains(count)),
        "{held:?}"
    );
}

/// How long after its client left a backend sees it: the median of several.
fn seen_after(headers: &str, begin: impl Fn(&mut Asked, &mut Client)) -> Duration {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut all: Vec<Duration> = (0..7)
        .map(|_| {
            let mut client = Client::connect(pinring.address());
            client.send(request("POST", headers, "{}"));
            let mut asked = arrivals.next();
            begin(&mut asked, &mut client);
            let left = Instant::now();
            drop(client);
            assert!(asked.is_closed_within(Duration::from_secs(10)));
            left.elapsed()
        })
        .collect();
    all.sort();
    all[all.len() / 2]
}

#[test]
fn a_backend_sees_within_100_ms_that_its_client_has_left() {
    type Begin = fn(&mut Asked, &mut Client);
    let cases: [(&str, &str, Begin); 6] = [
        ("before the answer", VERSION, |_, _| {}),
        ("before the answer to what is looked into", CALL, |_, _| {}),
        ("within JSON", CALL, |asked, client| {
            asked
                .send(JSON)
                .chunk("{\"result\":{\"requestState\":\"s\"");
            client.head();
            client.chunk();
        }),
        ("within JSON that is collected", CALL, |asked, _| {
            asked.send(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
            );
        }),
        ("within events", CALL, |asked, client| {
            asked.begin_stream().chunk("data: 1\n\n");
            client.head();
            client.chunk();
        }),
        ("in a silent stream of changes", LISTEN, |asked, client| {
            asked.begin_stream();
            client.head();
        }),
    ];
    for (when, headers, begin) in cases {
        let seen = seen_after(headers, begin);
        assert!(seen <= Duration::from_millis(100), "{when}: {seen:?}");
    }
}

/// Every time-out but that of a silent stream, as short as they may be.
const SHORT: &str = "request_head = \"1s\"\nrequest_body_idle = \"1s\"\nresponse_head = \"1s\"\nopen_head = \"1s\"\n\
                     keep_alive = \"1s\"\nupstream_keep_alive = \"1s\"\n";

#[test]
fn a_stream_of_changes_outlives_every_time_out_of_others() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(
        &[&backend],
        &format!("[timeouts]\n{SHORT}stream_comment = \"1s\"\n"),
    );
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", LISTEN, "{}"));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    for _ in 0..4 {
        assert_eq!(client.chunk(), Chunk::Data(b":\n\n".to_vec()));
    }
    asked.chunk("data: 1\n\n");
    assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
}

#[test]
fn a_stream_of_changes_ends_after_the_silence_that_the_file_says() {
    let (backend, arrivals) = Backend::manual();
    let idle = "[timeouts]\nstream_idle = \"2s\"\nstream_comment = \"1s\"\n";
    let pinring = Pinring::before(&[&backend], idle);
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", LISTEN, "{}"));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    assert_eq!(
        client.chunk(),
        Chunk::Data(b":\n\n".to_vec()),
        "no comment of pinring's is an event"
    );
    while client.chunk() == Chunk::Data(b":\n\n".to_vec()) {}
    assert!(asked.is_closed_within(Duration::from_secs(5)));
    pinring.wait_for_log("\"end\":\"idle\"");
}

#[test]
fn errors_of_servers_of_either_era_pass_byte_for_byte() {
    const ERRORS: [(&str, &str); 4] = [
        (
            "404 Not Found",
            r#"{ "jsonrpc": "2.0", "id": 1.0, "error": {"code":-32601,"message":"no","data":{"taskId":"x"}} }"#,
        ),
        (
            "400 Bad Request",
            "{\"error\":{\"code\":-32020,\"message\":\"HeaderMismatch\"},\"id\":null}\r\n",
        ),
        (
            "400 Bad Request",
            r#"{"id":1,"error":{"code":-32022,"message":"x","data":{"supported":["2026-07-28"]}}}"#,
        ),
        ("400 Bad Request", "no JSON at all"),
    ];
    for (status, body) in ERRORS {
        let length = body.len();
        let backend = Backend::answering(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let pinring = Pinring::before(&[&backend], "");
        let discover = format!("{VERSION}mcp-method: server/discover\r\n");
        // A probe, a call, a listing, and the handshake of an earlier revision.
        for headers in [&*discover, CALL, VERSION, ""] {
            let answer: Answer = Client::once(pinring.address(), "POST", headers, "{}");
            assert!(answer.head.contains(status), "{}", answer.head);
            assert_eq!(answer.text(), body);
            assert_eq!(answer.header("content-length"), Some(&*length.to_string()));
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
}
