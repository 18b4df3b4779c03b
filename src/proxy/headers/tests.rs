use http::Request;
use proptest::prelude::*;

use super::*;
use crate::backend::Scheme;

fn head(lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method("POST").uri("/mcp");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn scanned(head: &Parts, by_trusted: bool) -> Result<Scan, Ambiguous> {
    scan(head, Seen::of(&head.headers), by_trusted)
}

fn scan_of(lines: &[(&str, &str)]) -> Result<Scan, Ambiguous> {
    scanned(&head(lines), false)
}

fn sent(lines: &[(&str, &str)], strip: Option<&str>, target: &str) -> Parts {
    sent_by(false, lines, strip, target)
}

/// What becomes of a request over a connection from 192.0.2.1, be that a trusted proxy or not.
fn sent_by(by_trusted: bool, lines: &[(&str, &str)], strip: Option<&str>, target: &str) -> Parts {
    let mut head = head(lines);
    head.uri = target.parse().unwrap();
    let scan = scanned(&head, by_trusted).unwrap();
    let prefix = strip.map(|prefix| PathPrefix::try_new(prefix).unwrap());
    to_backend(
        &mut head,
        &scan,
        Forwarded {
            peer: &HeaderValue::from_static("192.0.2.1"),
            scheme: Scheme::Http,
        },
        prefix.as_ref(),
        None,
    );
    head
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    const HOST: (&str, &str) = ("host", "h");
    // (what a trusted proxy sends, what the backend is told)
    type Lines<'a> = &'a [(&'a str, &'a str)];
    let table: [(Lines<'_>, Lines<'_>); 8] = [
        (
            &[HOST],
            &[("for", "192.0.2.1"), ("proto", "http"), ("host", "h")],
        ),
        (
            &[
                HOST,
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
            ],
            &[
                ("for", "203.0.113.9, 192.0.2.1"),
                ("proto", "https"),
                ("host", "h"),
            ],
        ),
        (
            &[
                HOST,
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-for", "10.0.0.7,10.0.0.8"),
            ],
            &[("for", "203.0.113.9, 10.0.0.7,10.0.0.8, 192.0.2.1")],
        ),
        (&[HOST, ("x-forwarded-for", "")], &[("for", "192.0.2.1")]),
        (
            &[
                HOST,
                ("x-forwarded-host", "mcp.example"),
                ("x-forwarded-port", "443"),
            ],
            &[("host", "mcp.example"), ("port", "443")],
        ),
        (
            &[
                HOST,
                (
                    "forwarded",
                    "for=203.0.113.9;proto=http, for=10.0.0.7;proto=https;host=\"m.example\"",
                ),
            ],
            &[
                ("for", "192.0.2.1"),
                ("proto", "https"),
                ("host", "m.example"),
                (
                    "forwarded",
                    "for=203.0.113.9;proto=http, for=10.0.0.7;proto=https;host=\"m.example\", for=192.0.2.1",
                ),
            ],
        ),
        (
            &[
                HOST,
                ("forwarded", "for=203.0.113.9;proto=https"),
                ("x-forwarded-proto", "http"),
            ],
            &[("proto", "http")],
        ),
        (
            &[HOST, ("x-forwarded-prefix", "/outer")],
            &[("prefix", "/outer/a")],
        ),
    ];
    for (sent, told) in table {
        let head = sent_by(true, sent, Some("/a"), "/a/b");
        for (name, value) in told {
            let name = match *name {
                "forwarded" => "forwarded".to_owned(),
                name => format!("x-forwarded-{name}"),
            };
            let values: Vec<_> = head.headers.get_all(&name).iter().collect();
            assert_eq!(values, [value], "{name} of {sent:?}");
        }
    }
    let own = HeaderValue::from_static("2001:db8::1");
    let mut head = head(&[HOST, ("forwarded", "for=203.0.113.9")]);
    let scan = scanned(&head, true).unwrap();
    to_backend(
        &mut head,
        &scan,
        Forwarded {
            peer: &own,
            scheme: Scheme::Http,
        },
        None,
        None,
    );
    assert_eq!(
        head.headers["forwarded"],
        "for=203.0.113.9, for=\"[2001:db8::1]\""
    );
}

#[test]
fn only_who_is_not_trusted_is_not_believed_about_its_scheme() {
    let told = [("host", "h"), ("x-forwarded-proto", "https")];
    assert!(scanned(&head(&told), false).unwrap().drops_scheme());
    assert!(!scanned(&head(&told), true).unwrap().drops_scheme());
    assert!(!scanned(&head(&told[..1]), false).unwrap().drops_scheme());
}

#[test]
fn headers_of_one_connection_stop_here() {
    let lines = [
        ("host", "h"),
        ("connection", "keep-alive, x-private"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "Basic x"),
        ("expect", "100-continue"),
        ("x-private", "1"),
        ("authorization", "Bearer t"),
        ("mcp-param-tenant", "=?base64?dA==?="),
    ];
    let head = sent(&lines, None, "/mcp");
    for gone in [
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
        "expect",
        "x-private",
    ] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers["authorization"], "Bearer t");
    assert_eq!(head.headers["mcp-param-tenant"], "=?base64?dA==?=");
}

#[test]
fn what_a_client_says_of_others_is_replaced() {
    let lines = [
        ("host", "h:1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=1.2.3.4"),
    ];
    let head = sent(&lines, None, "/mcp");
    assert_eq!(head.headers["x-forwarded-for"], "192.0.2.1");
    assert_eq!(
        (
            &head.headers["x-forwarded-proto"],
            &head.headers["x-forwarded-host"]
        ),
        (&"http".parse().unwrap(), &"h:1".parse().unwrap())
    );
    assert!(
        !head.headers.contains_key("forwarded") && !head.headers.contains_key("x-forwarded-port")
    );
}

#[test]
fn the_target_is_in_origin_form_without_the_prefix() {
    let target = |target: &str| sent(&[("host", "h")], Some("/a"), target).uri.to_string();
    assert_eq!(target("/a/mcp?x=/a"), "/mcp?x=/a");
    assert_eq!(target("/a"), "/");
    assert_eq!(target("/a?x"), "/?x");
    assert_eq!(
        target("/.well-known/oauth-authorization-server/a/b?y"),
        "/.well-known/oauth-authorization-server/b?y"
    );
    assert_eq!(
        target("/.well-known/openid-configuration/a"),
        "/.well-known/openid-configuration"
    );
    let resource = "/.well-known/oauth-protected-resource/a/mcp?y";
    assert_eq!(target(resource), resource);
    assert_eq!(target("http://h/a/b"), "/b");
    assert_eq!(
        sent(&[("host", "h")], Some("/a"), "/a/b").headers["x-forwarded-prefix"],
        "/a"
    );
    assert_eq!(sent(&[("host", "h")], None, "http://h/x?y").uri, "/x?y");
}

#[test]
fn a_length_beside_chunks_is_void() {
    let head = sent(
        &[
            ("host", "h"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
        ],
        None,
        "/",
    );
    assert!(
        !head.headers.contains_key("content-length")
            && !head.headers.contains_key("transfer-encoding")
    );
}

#[test]
fn ambiguous_heads_are_refused() {
    let fault = |lines: &[(&str, &str)]| scan_of(lines).unwrap_err();
    assert_eq!(fault(&[]), Ambiguous::HostMissing);
    assert_eq!(
        fault(&[("host", "a"), ("host", "a")]),
        Ambiguous::SeveralHosts
    );
    for bad in [
        "", "a b", "a@b", "a/b", "a:b", ":80", "[::1", "[::1]x", "a,b",
    ] {
        assert_eq!(fault(&[("host", bad)]), Ambiguous::HostMalformed, "{bad:?}");
    }
    for twin in [
        "mcp_session_id",
        "mcp_method",
        "content_length",
        "transfer_encoding",
        "x_forwarded_for",
    ] {
        assert_eq!(
            fault(&[("host", "h"), (twin, "1")]),
            Ambiguous::Underscore(twin.parse().unwrap())
        );
    }
    for name in [
        "host",
        "Authorization",
        "origin",
        "mcp-session-id",
        "MCP-Protocol-Version",
        "content-length",
    ] {
        let nominated = fault(&[("host", "h"), ("connection", name)]);
        assert_eq!(
            nominated,
            Ambiguous::Nominated(name.to_ascii_lowercase().into())
        );
    }
}

#[test]
fn a_body_that_is_coded_otherwise_than_in_chunks_is_refused_both_ways() {
    let coded = |coding: &'static str| scan_of(&[("host", "h"), ("transfer-encoding", coding)]);
    assert!(coded("Chunked").is_ok());
    for coding in ["gzip, chunked", "identity", "", "chunked, chunked"] {
        assert_eq!(
            coded(coding).unwrap_err(),
            Ambiguous::TransferCoding,
            "{coding:?}"
        );
        let mut headers = HeaderMap::new();
        headers.insert("transfer-encoding", HeaderValue::from_static(coding));
        let answered = to_client(&mut headers, None, |_| HeaderValue::from_static("x"));
        assert_eq!(answered, Err(BrokenHead::TransferCoding));
    }
    let twice = [
        ("host", "h"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "chunked"),
    ];
    assert_eq!(scan_of(&twice).unwrap_err(), Ambiguous::TransferCoding);
}

#[test]
fn hosts_and_harmless_headers_of_the_field_pass() {
    for host in [
        "a",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "a_b.example",
        "xn--bcher-kva.example.",
    ] {
        assert!(scan_of(&[("host", host)]).is_ok(), "{host}");
    }
    assert!(scan_of(&[("host", "h"), ("x_custom", "1"), ("connection", "close")]).is_ok());
}

#[test]
fn a_target_of_another_host_is_refused() {
    let mut disagrees = head(&[("host", "h")]);
    disagrees.uri = "http://other/".parse().unwrap();
    assert_eq!(
        scanned(&disagrees, false).unwrap_err(),
        Ambiguous::HostDisagrees
    );
}

#[test]
fn a_client_of_http_1_0_may_send_no_host_and_the_backend_gets_one() {
    let mut old = head(&[]);
    old.version = Version::HTTP_10;
    assert!(scanned(&old, false).is_ok());
    assert!(!Seen::of(&old.headers).has(Seen::HOST));
    set_host(&mut old.headers, "10.0.0.1:9001");
    assert_eq!(old.headers["host"], "10.0.0.1:9001");
    assert!(Seen::of(&old.headers).has(Seen::HOST));
}

fn answered(ids: &[&'static str], exchanged: Option<&Exchanged>) -> Result<HeaderMap, BrokenHead> {
    let mut headers = HeaderMap::new();
    for id in ids {
        headers.append("mcp-session-id", HeaderValue::from_static(id));
    }
    let pin =
        |id: &ServerSessionId| HeaderValue::from_bytes(&[id.as_bytes(), b"-pin"].concat()).unwrap();
    to_client(&mut headers, exchanged, pin).map(|_| headers)
}

#[test]
fn an_issued_id_leaves_pinned_once_and_named_for_browsers() {
    let headers = answered(&["id", "id"], None).unwrap();
    assert_eq!(
        headers.get_all("mcp-session-id").iter().collect::<Vec<_>>(),
        ["id-pin"]
    );
    assert_eq!(headers["access-control-expose-headers"], "Mcp-Session-Id");
    assert!(answered(&[], None).unwrap().is_empty());
}

#[test]
fn the_id_of_the_request_leaves_as_the_client_sent_it() {
    let exchanged = Exchanged {
        client: HeaderValue::from_static("id-older"),
        server: HeaderValue::from_static("id"),
    };
    assert_eq!(
        answered(&["id"], Some(&exchanged)).unwrap()["mcp-session-id"],
        "id-older"
    );
    assert_eq!(
        answered(&["new"], Some(&exchanged)).unwrap()["mcp-session-id"],
        "new-pin"
    );
}

#[test]
fn unusable_ids_of_backends_are_faults() {
    assert_eq!(
        answered(&["one", "other"], None),
        Err(BrokenHead::SessionId(InvalidSessionId))
    );
    assert_eq!(
        answered(&["a b"], None),
        Err(BrokenHead::SessionId(InvalidSessionId))
    );
    assert_eq!(
        answered(&[""], None),
        Err(BrokenHead::SessionId(InvalidSessionId))
    );
}

#[test]
fn the_header_is_not_named_twice_for_browsers() {
    let mut headers = HeaderMap::new();
    headers.insert("mcp-session-id", HeaderValue::from_static("id"));
    headers.insert(
        "access-control-expose-headers",
        HeaderValue::from_static("X-A, mcp-session-ID"),
    );
    to_client(&mut headers, None, |_| HeaderValue::from_static("x")).unwrap();
    assert_eq!(
        headers
            .get_all("access-control-expose-headers")
            .iter()
            .count(),
        1
    );
}

proptest! {
    #[test]
    fn any_headers_are_scanned_without_panic(name in "[a-z_-]{1,20}", value in "[ -~]{0,40}", host in "[ -~]{0,30}") {
        let _scanned = scan_of(&[("host", &host), (&name, &value), ("connection", &value)]);
    }
}

#[test]
fn only_who_asks_goes_into_a_handshake() {
    let mut headers = HeaderMap::new();
    let who = [
        "authorization",
        "cookie",
        "host",
        "x-tenant",
        "x-forwarded-for",
        "user-agent",
    ];
    let what = [
        "content-type",
        "content-length",
        "content-encoding",
        "mcp-session-id",
        "mcp-method",
        "mcp-protocol-version",
        "last-event-id",
        "accept",
        "accept-encoding",
        "expect",
        "range",
        "if-none-match",
        "transfer-encoding",
    ];
    for name in who.into_iter().chain(what) {
        headers.insert(name, HeaderValue::from_static("x"));
    }
    keep_credentials(&mut headers);
    assert!(who.iter().all(|name| headers.contains_key(*name)));
    assert_eq!(headers.len(), who.len(), "{headers:?}");
}

#[test]
fn a_target_is_made_of_path_and_query_without_the_prefix() {
    let prefix = PathPrefix::try_new("/a").unwrap();
    assert_eq!(target_of("/a/mcp", Some("k=v"), Some(&prefix)), "/mcp?k=v");
    assert_eq!(target_of("/a/mcp", None, None), "/a/mcp");
    assert_eq!(target_of("no path", None, None), "/");
}
