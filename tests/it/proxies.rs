//! What stands in front: proxies that are trusted and others, and balancers that speak the PROXY protocol.

use std::{io::Write as _, net::IpAddr};

use crate::support::{Answer, Backend, Client, Pinring, eventually, ok};

fn server(more: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:0\"\n{more}\n")
}

/// Trusts the address that tests come from, and a network that they report.
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";

/// A server that answers with the headers that tell of the client.
fn mirror() -> Backend {
    Backend::start(|request, stream| {
        let told = ["for", "proto", "host"].map(|name| {
            let value = request.header(&format!("x-forwarded-{name}"));
            value.unwrap_or("-").to_owned()
        });
        let forwarded = request.header("forwarded").unwrap_or("-");
        stream
            .write_all(&ok("", &format!("{} | {forwarded}", told.join(" | "))))
            .is_ok()
    })
}

/// Whom the last line of the access log names.
fn logged_clients(pinring: &Pinring) -> Vec<String> {
    let lines = pinring.find_logs("client").into_iter();
    let lines = lines.filter(|line| line.get("route").is_some());
    lines
        .map(|line| line["client"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_proxies_report_counts_from_trusted_ones_alone() {
    let backend = mirror();
    let pinring = Pinring::before(&[&backend], &server(TRUSTING));
    let by_proxy = "x-forwarded-for: 192.0.2.66, 203.0.113.9, 10.0.0.7\r\nx-forwarded-proto: https\r\n\
                    x-forwarded-host: mcp.example\r\n";
    let by_newer = "forwarded: for=203.0.113.10;proto=https;host=mcp.example\r\n";
    let trusted = [127, 0, 0, 1].into();
    let stranger: IpAddr = [127, 0, 0, 9].into();
    for (from, headers, told, client) in [
        (
            trusted,
            by_proxy,
            "192.0.2.66, 203.0.113.9, 10.0.0.7, 127.0.0.1 | https | mcp.example | -",
            "203.0.113.9",
        ),
        (
            trusted,
            by_newer,
            "127.0.0.1 | https | mcp.example | for=203.0.113.10;proto=https;host=mcp.example, for=127.0.0.1",
            "203.0.113.10",
        ),
        (
            trusted,
            "",
            "127.0.0.1 | http | pinring.test | -",
            "127.0.0.1",
        ),
        (
            stranger,
            by_proxy,
            "127.0.0.9 | http | pinring.test | -",
            "127.0.0.9",
        ),
        (
            stranger,
            by_newer,
            "127.0.0.9 | http | pinring.test | -",
            "127.0.0.9",
        ),
    ] {
        let before = logged_clients(&pinring).len();
        let mut connection = Client::connect_from(from, pinring.address());
        let answer = connection.call("POST", headers, "{}");
        assert_eq!(answer.text(), told, "{from}: {headers}");
        eventually("it is in the log", || {
            logged_clients(&pinring).len() > before
        });
        assert_eq!(logged_clients(&pinring).last().unwrap(), client);
    }
}

#[test]
fn a_proxy_that_is_not_trusted_is_told_of_once() {
    let backend = mirror();
    let pinring = Pinring::before(&[&backend], "");
    for _ in 0..8 {
        let https = "x-forwarded-proto: https\r\n";
        let answer = Client::once(pinring.address(), "POST", https, "{}");
        assert!(answer.text().contains("| http |"), "{}", answer.text());
    }
    let told = || {
        let lines = pinring.log().into_iter();
        lines
            .filter(|line| line.contains("sends X-Forwarded-Proto and is not trusted"))
            .count()
    };
    eventually("it is told", || told() > 0);
    assert_eq!(told(), 1);
    let line = pinring.find_logs("address").remove(0);
    assert_eq!(
        (&line["level"], &line["address"]),
        (&"WARN".into(), &"127.0.0.1".into())
    );
}

#[test]
fn addresses_behind_a_trusted_proxy_are_limited_one_by_one() {
    let backend = Backend::stateful("a");
    let limits = "[limits]\nsessions_per_principal = 1\nprincipal = \"address\"\n";
    let pinring = Pinring::before(&[&backend], &format!("{limits}{}", server(TRUSTING)));
    let open = |client: &str| {
        let headers = format!("x-forwarded-for: {client}\r\n");
        Client::once(pinring.address(), "POST", &headers, "{}").status
    };
    assert_eq!(open("203.0.113.1"), 200);
    assert_eq!(open("203.0.113.2"), 200);
    assert_eq!(open("203.0.113.1"), 503);
    assert_eq!(
        open("203.0.113.9, 203.0.113.2"),
        503,
        "what a client makes up is no address"
    );
}

#[test]
fn trust_follows_a_reload() {
    let backend = mirror();
    let backends = Pinring::backends(&[&backend]);
    let pinring = Pinring::start(&format!("{backends}\n{}", server("")));
    let mut client = Client::connect(pinring.address());
    let mut told = || {
        let answer = client.call("POST", "x-forwarded-for: 203.0.113.1\r\n", "{}");
        answer.text()
    };
    assert!(told().starts_with("127.0.0.1 |"));
    let listen = format!("[server]\nlisten = \"{}\"\n", "127.0.0.1:0");
    pinring.reload(&format!("{backends}\n{listen}{TRUSTING}\n"));
    assert!(told().starts_with("203.0.113.1, 127.0.0.1 |"));
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family][..], &length, rest].concat()
}

fn ipv4(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1], &[0x12, 0x34, 0, 80]].concat();
    header(0x21, 0x11, &addresses)
}

fn ipv6(client: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let addresses = [
        &octets(client)[..],
        &octets("fd00::1"),
        &[0x12, 0x34, 0, 80],
    ]
    .concat();
    header(0x21, 0x21, &addresses)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 203.0.113.77\r\n\r\n";

fn balanced(backend: &Backend, more: &str) -> Pinring {
    let server = server(&format!("{TRUSTING}\nproxy_protocol = true"));
    Pinring::before(&[backend], &format!("{more}{server}"))
}

#[test]
fn the_client_is_whom_the_balancer_names() {
    let backend = mirror();
    let pinring = balanced(&backend, "");
    let line = |text: &str| text.as_bytes().to_vec();
    for (header, told) in [
        (ipv4([192, 0, 2, 1]), "192.0.2.1"),
        (ipv6("2001:db8::1"), "2001:db8::1"),
        (
            line("PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n"),
            "192.0.2.1",
        ),
        (
            line("PROXY TCP6 2001:db8::1 fd00::1 4660 80\r\n"),
            "2001:db8::1",
        ),
        // A proxy behind the balancer, that is trusted itself.
        (ipv4([10, 0, 0, 7]), "203.0.113.77, 10.0.0.7"),
        // The balancer for itself, or for it does not say whom: its word alone would be believed, and nothing is.
        (header(0x20, 0x00, b""), "127.0.0.1"),
        (header(0x21, 0x00, b""), "127.0.0.1"),
        (header(0x21, 0x31, &[0; 216]), "127.0.0.1"),
        (line("PROXY UNKNOWN\r\n"), "127.0.0.1"),
    ] {
        let mut client = Client::connect(pinring.address());
        client.send([&header, GET.as_bytes()].concat());
        let expected = format!("{told} | http | h | -");
        assert_eq!(client.answer().text(), expected, "{header:?}");
        // It is said once for each connection.
        assert_eq!(client.send(GET).answer().text(), expected);
    }
    let mut slow = Client::connect(pinring.address());
    for byte in [&ipv4([192, 0, 2, 3]), GET.as_bytes()].concat() {
        slow.send([byte]);
    }
    assert!(slow.answer().text().starts_with("192.0.2.3 |"));
    eventually("the log names them", || {
        let clients = logged_clients(&pinring);
        ["192.0.2.1", "2001:db8::1", "203.0.113.77"]
            .iter()
            .all(|wanted| clients.contains(&(*wanted).to_owned()))
    });
}

#[test]
fn connections_behind_a_balancer_are_counted_by_whom_it_names() {
    let backend = mirror();
    let pinring = balanced(&backend, "[limits]\nconnections_per_address = 2\n");
    let connect = |client: [u8; 4]| {
        let mut connected = Client::connect(pinring.address());
        connected.send([&ipv4(client), GET.as_bytes()].concat());
        let answer = connected.answer();
        (connected, answer.status, answer.reason())
    };
    let first = [(); 2].map(|()| connect([192, 0, 2, 1]));
    assert!(first.iter().all(|(_, status, _)| *status == 200));
    let (mut refused, status, reason) = connect([192, 0, 2, 1]);
    assert_eq!((status, &*reason), (503, "address_connections_full"));
    assert!(refused.is_closed());
    let others = [(); 3].map(|()| connect([10, 0, 0, 7]));
    assert!(
        others.iter().all(|(_, status, _)| *status == 200),
        "a trusted proxy"
    );
    assert_eq!(connect([192, 0, 2, 2]).1, 200);
    drop(first);
    eventually("there is room again", || connect([192, 0, 2, 1]).1 == 200);
}

#[test]
fn whoever_speaks_no_proxy_protocol_is_refused_with_a_line_in_the_log() {
    let backend = mirror();
    let pinring = balanced(&backend, "");
    let line = |text: &str| text.as_bytes().to_vec();
    for (bytes, told) in [
        (
            line(GET),
            "does not begin with a header of the PROXY protocol",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
            "does not begin with a header",
        ),
        (header(0x41, 0x11, &[0; 12]), "is malformed"),
        (header(0x21, 0x21, &[0; 12]), "is malformed"),
        (header(0x21, 0x11, &[0; 5000]), "has 5000 bytes"),
        (
            line("PROXY TCP4 somewhere 10.0.0.1 4660 80\r\n"),
            "is malformed",
        ),
        (
            format!("PROXY {}", "x".repeat(200)).into_bytes(),
            "is malformed",
        ),
    ] {
        let count = || {
            pinring
                .log()
                .iter()
                .filter(|line| line.contains(told))
                .count()
        };
        let before = count();
        let mut client = Client::connect(pinring.address());
        client.send_what_is_taken(&bytes);
        assert!(client.is_closed(), "{bytes:?}");
        eventually(told, || count() > before);
    }
    // Balancers look whether somebody listens, and leave: no news.
    let lines = |text: &str| {
        pinring
            .log()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    let refused = lines("a connection was closed");
    drop(Client::connect(pinring.address()));
    eventually("it is over", || lines("it ended before its header") == 1);
    assert_eq!(lines("a connection was closed"), refused);

    let mut stranger = Client::connect_from([127, 0, 0, 9].into(), pinring.address());
    stranger.send_what_is_taken([&ipv4([192, 0, 2, 1]), GET.as_bytes()].concat());
    assert!(stranger.is_closed());
    pinring.wait_for_log("it is not from server.trusted_proxies");
    assert!(backend.received().is_empty());
}

#[test]
fn a_header_that_does_not_come_holds_nothing_for_long() {
    let backend = mirror();
    let mut pinring = balanced(&backend, "[timeouts]\nrequest_head = \"300ms\"\n");
    let mut begun = Client::connect(pinring.address());
    begun.send(&SIGNATURE[..5]);
    let mut silent = Client::connect(pinring.address());
    assert!(begun.is_closed() && silent.is_closed());
    pinring.wait_for_log("did not come within timeouts.request_head");
    // Nor does it hold the process.
    let mut late = Client::connect(pinring.address());
    pinring.signal("TERM");
    assert!(pinring.wait().success());
    assert!(late.is_closed());
}

#[test]
fn the_balancer_s_word_says_who_is_limited_and_no_more() {
    let backend = Backend::stateful("a");
    let limits = "[limits]\nsessions_per_principal = 1\nprincipal = \"address\"\n\
                  [affinity]\nsecrets = [\"env:TEST_SECRET\"]\nbind = \"header:X-User\"\n";
    let pinring = balanced(&backend, limits);
    let open = |header: Vec<u8>, user: &str| -> Answer {
        let mut client = Client::connect(pinring.address());
        client.send(&header);
        client.call("POST", user, "{}")
    };
    // A balancer of bytes sets no header: the client does.
    let ann = "x-user: ann\r\n";
    for header in [
        ipv4([192, 0, 2, 1]),
        header(0x20, 0x00, b""),
        header(0x21, 0x00, b""),
    ] {
        assert_eq!(open(header, ann).reason(), "principal_required");
    }
    let by_proxy = |client: &str| {
        open(
            ipv4([10, 0, 0, 7]),
            &format!("{ann}x-forwarded-for: {client}\r\n"),
        )
    };
    assert_eq!(by_proxy("203.0.113.1").status, 200);
    assert_eq!(by_proxy("203.0.113.1").reason(), "principal_sessions_full");
    assert_eq!(by_proxy("203.0.113.2").status, 200);
}

#[test]
fn slow_headers_count_as_connections() {
    let backend = mirror();
    let pinring = balanced(&backend, "[limits]\nconnections = 2\n");
    let held = [(); 2].map(|()| Client::connect(pinring.address()));
    eventually("a third is refused", || {
        let mut third = Client::connect(pinring.address());
        third.send_what_is_taken([&ipv4([192, 0, 2, 1]), GET.as_bytes()].concat());
        third.answer().status == 503
    });
    pinring.wait_for_log("too many connections");
    drop(held);
    eventually("there is room again", || {
        let mut client = Client::connect(pinring.address());
        client.send_what_is_taken([&ipv4([192, 0, 2, 1]), GET.as_bytes()].concat());
        client.fill()
    });
}
