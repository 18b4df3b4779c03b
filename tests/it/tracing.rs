//! Trace contexts are passed on, requests become spans at a collector, and each request has an id.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as Any,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;

use crate::support::{
    Backend, Chunk, Client, Closed, ONE_THREAD, PATIENCE, Pinring, anywhere, ask, eventually,
    listing, ok, request, server_with_admin, socket_in,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What a collector was sent.
#[derive(Debug, Clone)]
struct Told {
    resource: Vec<(String, String)>,
    span: Span,
}

impl Told {
    fn text(&self, key: &str) -> Option<String> {
        let mut attributes = self.span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key == key)?;
        Some(match found.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => text.clone(),
            Any::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        })
    }

    fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector that takes everything.
fn collector() -> Backend {
    Backend::answering(ok("content-type: application/x-protobuf\r\n", ""))
}

/// All spans that came, decoded by the protocol's own definition.
fn told(collector: &Backend) -> Vec<Told> {
    let mut all = Vec::new();
    for request in collector.received() {
        assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
        assert_eq!(
            request.header("content-type"),
            Some("application/x-protobuf")
        );
        let export = ExportTraceServiceRequest::decode(&*request.body).unwrap();
        for of_resource in export.resource_spans {
            let attributes = of_resource.resource.unwrap().attributes.into_iter();
            let text = |value: Any| match value {
                Any::StringValue(text) => text,
                other => panic!("{other:?}"),
            };
            let resource: Vec<(String, String)> = attributes
                .map(|pair| (pair.key, text(pair.value.unwrap().value.unwrap())))
                .collect();
            let scopes = of_resource.scope_spans.into_iter();
            all.extend(scopes.flat_map(|scope| scope.spans).map(|span| Told {
                resource: resource.clone(),
                span,
            }));
        }
    }
    all
}

/// The spans of this name, once there are so many.
fn spans(collector: &Backend, name: &str, count: usize) -> Vec<Told> {
    let found = || {
        let all = told(collector).into_iter();
        all.filter(|told| told.span.name == name)
            .collect::<Vec<_>>()
    };
    eventually(&format!("{count} spans {name}"), || found().len() >= count);
    found()
}

fn tracing(collector: &Backend, more: &str) -> String {
    format!(
        "[tracing]\notlp = \"http://{}\"\n{more}\n",
        collector.address()
    )
}

fn good() -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n")
}

/// The context that a backend was sent last: trace, parent, flags.
fn passed(backend: &Backend) -> (String, String, String) {
    let last = backend.received().pop().unwrap();
    let parts: Vec<String> = last
        .header("traceparent")
        .expect("a traceparent")
        .split('-')
        .map(str::to_owned)
        .collect();
    let [version, trace, parent, flags] = &parts[..] else {
        panic!("{parts:?}");
    };
    assert_eq!(version, "00");
    assert_eq!((trace.len(), parent.len()), (32, 16));
    (trace.clone(), parent.clone(), flags.clone())
}

#[test]
fn without_tracing_contexts_pass_as_they_are() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    for headers in [
        &*(good() + "tracestate: a=1\r\n"),
        "traceparent: 00-x\r\n",
        "",
    ] {
        Client::once(pinring.address(), "POST", headers, "{}");
        let last = backend.received().pop().unwrap();
        let sent = headers.split("\r\n").next().unwrap();
        let sent = sent.split_once(": ").map(|(_, value)| value);
        assert_eq!(last.header("traceparent"), sent);
    }
}

#[test]
fn a_good_context_goes_on_and_any_other_is_replaced() {
    let backend = Backend::stateful("a");
    let collector = collector();
    let pinring = Pinring::before(&[&backend], &tracing(&collector, ""));
    let send = |headers: &str| {
        Client::once(pinring.address(), "POST", headers, "{}");
        let state = backend.received().pop().unwrap();
        (
            passed(&backend),
            state.header("tracestate").map(str::to_owned),
        )
    };
    let ((trace, parent, flags), state) = send(&(good() + "tracestate: a=1,b=2\r\n"));
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_ne!(parent, PARENT, "the backend's parent is pinring's own span");
    assert_eq!(state.as_deref(), Some("a=1,b=2"));
    // Nobody records it: nothing of it is touched.
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let ((trace, parent, flags), _) = send(&unsampled);
    assert_eq!((&*trace, &*parent, &*flags), (TRACE, PARENT, "00"));
    let later = format!("traceparent: cc-{TRACE}-{PARENT}-01-more\r\n");
    assert_eq!(send(&later).0.0, TRACE);
    let (_, state) = send(&(good() + "tracestate: =bad\r\n"));
    assert_eq!(state, None);
    for bad in [
        String::new(),
        format!("traceparent: 00-{TRACE}-{PARENT}\r\n"),
        format!("traceparent: 00-{TRACE}-{PARENT}-01-more\r\n"),
        format!("traceparent: ff-{TRACE}-{PARENT}-01\r\n"),
        format!("traceparent: 00-{}-{PARENT}-01\r\n", TRACE.to_uppercase()),
        format!("traceparent: 00-{}-{PARENT}-01\r\n", "0".repeat(32)),
        format!("traceparent: 00-{TRACE}-{}-01\r\n", "0".repeat(16)),
        format!("traceparent: {}\r\n", "0".repeat(10_000)),
        good() + &good(),
    ] {
        let ((trace, _, flags), state) = send(&(bad.clone() + "tracestate: a=1\r\n"));
        assert_ne!(trace, TRACE, "{bad}");
        assert_eq!((&*flags, state), ("03", None), "{bad}");
    }
}

#[test]
fn a_context_of_who_is_not_trusted_begins_a_new_trace_where_that_is_wanted() {
    let backend = Backend::stateful("a");
    let collector = collector();
    let more = "trust = \"trusted-proxies\"\nsample = 0";
    let pinring = Pinring::before(&[&backend], &tracing(&collector, more));
    Client::once(pinring.address(), "POST", &good(), "{}");
    let (trace, _, flags) = passed(&backend);
    assert_ne!(trace, TRACE);
    assert_eq!(flags, "02", "its client has no say in what is recorded");
}

#[test]
fn a_request_is_a_tree_of_spans_at_the_collector() {
    let backend = Backend::stateful("a");
    let collector = collector();
    let more = "service = \"edge\"\nattributes = [\"deployment.environment.name=test\"]\nheaders = [\"X-Key=env:OTLP_KEY\"]";
    let toml = format!(
        "{}\n{}",
        Pinring::backends(&[&backend]),
        tracing(&collector, more)
    );
    let env = [("OTLP_KEY", "opensesame")];
    let pinring = Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &env);
    let headers = good() + "x-request-id: my-request\r\n";
    let answer = Client::once(pinring.address(), "POST", &headers, "{}");
    assert_eq!(answer.status, 200);
    let root = spans(&collector, "request", 1).remove(0);
    assert_eq!((root.trace(), root.parent()), (TRACE.into(), PARENT.into()));
    assert_eq!(root.span.kind(), SpanKind::Server);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/mcp"),
        ("http.response.status_code", "200"),
        ("pinring.pool", "default"),
        ("pinring.backend", "a"),
        ("pinring.route", "placed"),
        ("pinring.end", "complete"),
        ("pinring.request_id", "my-request"),
    ] {
        assert_eq!(root.text(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(root.text("pinring.session").unwrap().len(), 8);
    let end: Vec<&str> = root.span.events.iter().map(|event| &*event.name).collect();
    assert_eq!(end, ["stream end"]);
    let wait = spans(&collector, "upstream wait", 1).remove(0);
    assert_eq!(wait.span.kind(), SpanKind::Client);
    assert_eq!(wait.id(), passed(&backend).1, "the backend's parent");
    assert_eq!(wait.text("pinring.backend").as_deref(), Some("a"));
    let (mut ends, start) = (Vec::new(), root.span.start_time_unix_nano);
    for name in ["route", "upstream wait", "first byte"] {
        let part = spans(&collector, name, 1).remove(0);
        assert_eq!(
            (part.trace(), part.parent()),
            (TRACE.into(), root.id()),
            "{name}"
        );
        assert!(part.span.start_time_unix_nano >= start, "{name}");
        ends.push(part.span.end_time_unix_nano);
    }
    ends.push(root.span.end_time_unix_nano);
    assert!(ends.is_sorted(), "{ends:?}");
    for (key, value) in [
        ("service.name", "edge"),
        ("deployment.environment.name", "test"),
    ] {
        assert!(root.resource.contains(&(key.into(), value.into())), "{key}");
    }
    let sent = collector.received().remove(0);
    assert_eq!(sent.header("x-key"), Some("opensesame"));
    let line = pinring.find_log("trace_id").unwrap();
    assert_eq!(
        (&line["trace_id"], &line["request_id"]),
        (&TRACE.into(), &"my-request".into())
    );
}

#[test]
fn a_stream_that_stays_open_is_seen_from_its_beginning() {
    let (backend, arrivals) = Backend::manual();
    let collector = collector();
    let pinring = Pinring::before(&[&backend], &tracing(&collector, ""));
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", &good(), ""));
    let mut asked = arrivals.next();
    asked.begin_stream().chunk("data: 1\n\n");
    client.head();
    assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
    let first = spans(&collector, "first byte", 1).remove(0);
    spans(&collector, "upstream wait", 1);
    assert!(
        told(&collector)
            .iter()
            .all(|told| told.span.name != "request")
    );
    drop(client);
    let root = spans(&collector, "request", 1).remove(0);
    assert_eq!(first.parent(), root.id());
    assert_eq!(root.text("pinring.end").as_deref(), Some("client_left"));
}

#[test]
fn each_backend_that_was_tried_is_a_span_and_the_refusal_says_why() {
    let closed = Closed::new();
    let collector = collector();
    let pinring = Pinring::start(&format!(
        "backends = [{{ name = \"dead\", url = \"http://{}\" }}]\n[timeouts]\nconnect = \"300ms\"\n{}",
        closed.address(),
        tracing(&collector, "")
    ));
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(answer.status, 503);
    let root = spans(&collector, "request", 1).remove(0);
    assert_eq!(
        root.text("pinring.reason").as_deref(),
        Some("connect_refused")
    );
    assert_eq!(root.span.status.clone().unwrap().code, 2);
    assert_eq!(root.parent(), "");
    let tried = spans(&collector, "upstream wait", 1);
    for wait in tried {
        assert_eq!(wait.text("error.type").as_deref(), Some("connect_refused"));
        assert_eq!(wait.parent(), root.id());
    }
}

#[test]
fn a_merged_stream_of_changes_has_a_span_for_each_backend() {
    let listening = || {
        Backend::start(|_, stream| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let event = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":{\"toolsListChanged\":true}}}\n\n";
            write!(stream, "{head}{:x}\r\n{event}\r\n", event.len()).is_ok()
        })
    };
    let (one, other, collector) = (listening(), listening(), collector());
    let pinring = Pinring::start(&format!(
        "{}[pool]\nlisten_streams = \"fan-out\"\n{}",
        listing(&[("a", &one, ""), ("b", &other, "")]),
        tracing(&collector, "")
    ));
    let mut client = Client::connect(pinring.address());
    let headers = good()
        + "content-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}"#;
    client.send(request("POST", &headers, body));
    client.head();
    let waits = spans(&collector, "upstream wait", 2);
    let mut named: Vec<_> = waits
        .iter()
        .filter_map(|wait| wait.text("pinring.backend"))
        .collect();
    named.sort();
    assert_eq!(named, ["a", "b"]);
    let mut parents = [passed(&one).1, passed(&other).1];
    let mut ids = [waits[0].id(), waits[1].id()];
    parents.sort();
    ids.sort();
    assert_eq!(parents, ids, "each backend has its own");
    drop(client);
    let root = spans(&collector, "request", 1).remove(0);
    assert!(waits.iter().all(|wait| wait.parent() == root.id()));
}

#[test]
fn a_collector_that_is_away_is_told_once_and_so_is_its_return() {
    let backend = Backend::stateful("a");
    let address = anywhere();
    let folder = tempfile::tempdir().unwrap();
    let socket = socket_in(folder.path());
    let first = Backend::on(address, |_, stream| stream.write_all(&ok("", "")).is_ok());
    let toml = format!(
        "{}\n{}{}",
        Pinring::backends(&[&backend]),
        server_with_admin(folder.path()),
        tracing(&first, "")
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let address = first.address();
    first.stop();
    drop(first);
    let said = |text: &str| {
        let lines = pinring.log().into_iter();
        lines.filter(|line| line.contains(text)).count()
    };
    let ask_once = || {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").status,
            200
        )
    };
    for wanted in [1, 5] {
        let dropped = || ask(&socket, "GET", "/backends", "").1["counts"]["spans_dropped"].clone();
        eventually("spans are lost", || {
            ask_once();
            dropped().as_u64().unwrap() >= wanted
        });
    }
    assert_eq!(said("spans cannot be exported"), 1);
    let back = Backend::on(address, |_, stream| stream.write_all(&ok("", "")).is_ok());
    eventually("it is told again", || {
        ask_once();
        !back.received().is_empty()
    });
    pinring.wait_for_log("spans are exported again");
    assert_eq!(said("spans cannot be exported"), 1);
}

#[test]
fn a_collector_that_hangs_delays_no_request() {
    let backend = Backend::stateful("a");
    let hangs = Backend::start(|_, stream| std::io::Read::read(stream, &mut [0]).is_ok());
    let toml = format!(
        "{}\n{ONE_THREAD}{}",
        Pinring::backends(&[&backend]),
        tracing(&hangs, "")
    );
    let pinring = Pinring::start(&toml);
    let mut client = Client::connect(pinring.address());
    let mut longest = Duration::ZERO;
    for number in 0..1500 {
        let began = Instant::now(); // four spans each: more than there is room for
        assert_eq!(client.call("POST", "", "{}").status, 200);
        if number > 0 {
            longest = longest.max(began.elapsed());
        }
    }
    assert!(
        longest < Duration::from_secs(5),
        "{longest:?}: half of what a batch waits"
    );
    assert!(!hangs.received().is_empty(), "it was asked");
}

#[test]
fn what_is_under_way_at_the_end_is_exported_and_a_collector_s_silence_does_not_hold_the_end_up() {
    let backend = Backend::stateful("a");
    let collector = collector();
    let mut pinring = Pinring::before(&[&backend], &tracing(&collector, ""));
    Client::once(pinring.address(), "POST", "", "{}");
    pinring.signal("TERM");
    assert!(pinring.wait().success());
    assert!(
        told(&collector)
            .iter()
            .any(|told| told.span.name == "request")
    );
    let hangs = Backend::start(|_, stream| std::io::Read::read(stream, &mut [0]).is_ok());
    let mut pinring = Pinring::before(&[&backend], &tracing(&hangs, ""));
    Client::once(pinring.address(), "POST", "", "{}");
    pinring.signal("TERM");
    let began = Instant::now();
    assert!(pinring.wait().success());
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn the_environment_names_the_collector_and_the_service() {
    let backend = Backend::stateful("a");
    let collector = collector();
    let endpoint = format!("http://{}", collector.address());
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_SERVICE_NAME", "from-outside"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1"),
    ];
    let toml = Pinring::backends(&[&backend]);
    let pinring = Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &env);
    Client::once(pinring.address(), "POST", "", "{}");
    let root = spans(&collector, "request", 1).remove(0);
    let name = ("service.name".to_owned(), "from-outside".to_owned());
    assert!(root.resource.contains(&name), "{:?}", root.resource);
    assert_eq!(collector.received()[0].header("x-key"), Some("1"));
}

#[test]
fn no_span_holds_a_secret_a_session_a_query_or_a_credential() {
    let backend = Backend::start(|_, stream| {
        let answer = ok(
            "mcp-session-id: hush-own-id\r\nset-cookie: hushcrumbs\r\n",
            "hushbody",
        );
        stream.write_all(&answer).is_ok()
    });
    let collector = collector();
    let more = "headers = [\"Authorization=env:OTLP_KEY\"]";
    let toml = format!(
        "{}\n{}",
        Pinring::backends(&[&backend]),
        tracing(&collector, more)
    );
    let env = [("OTLP_KEY", "hushkey"), ("RUST_LOG", "trace")];
    let pinring = Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &env);
    let ask = |id: &str| {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "POST /mcp?token=hushquery HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nauthorization: Bearer hushtoken\r\n\
             cookie: hushcookie\r\ntracestate: hush=hushstate\r\nmcp-session-id: {id}\r\ncontent-length: 8\r\n\r\nhushbody"
        ));
        client.answer()
    };
    let id = ask("").header("mcp-session-id").unwrap().to_owned();
    let pin = id.rsplit_once('-').unwrap().1;
    assert_eq!(ask(&id).status, 200);
    assert_eq!(ask(&id.replace("own", "owm")).status, 404);
    spans(&collector, "request", 3);
    for request in collector.received() {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        for kept in ["hush", pin] {
            assert!(!body.contains(kept), "{kept} in {body}");
        }
    }
    for line in pinring.log() {
        assert!(!line.contains("hush") && !line.contains(pin), "{line}");
    }
}

#[test]
fn a_request_has_one_id_everywhere() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let send = |headers: &str| {
        let answer = Client::once(pinring.address(), "POST", headers, "{}");
        let id = answer.header("x-request-id").unwrap().to_owned();
        let seen = backend.received().pop().unwrap();
        assert_eq!(seen.header("x-request-id"), Some(&*id));
        pinring.wait_for_log(&format!("\"request_id\":\"{id}\""));
        id
    };
    assert_eq!(send("x-request-id: mine-1\r\n"), "mine-1");
    let made = send("");
    assert!(
        made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{made}"
    );
    assert_ne!(send(""), made);
    let long = format!("x-request-id: {}\r\n", "x".repeat(129));
    for bad in [
        "x-request-id: a b\r\n",
        "x-request-id: a\r\nx-request-id: b\r\n",
        &*long,
    ] {
        assert_eq!(send(bad).len(), 32, "{bad}");
    }
    // An error of pinring's own has it too, and the line that says more about it.
    let headers =
        "x-request-id: mine-2\r\nmcp-session-id: a-1-cfaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
    let answer = Client::once(pinring.address(), "POST", headers, "{}");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["data"]["request_id"], "mine-2", "{body}");
    assert_eq!(answer.header("x-request-id"), Some("mine-2"));
    eventually("the line about the refusal", || {
        let lines = pinring.log();
        let has = |line: &&String| line.contains("\"refused\"") && line.contains("mine-2");
        lines.iter().any(|line| has(&line))
    });
}

#[test]
fn without_request_ids_the_header_passes_as_it_is() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "[log]\nrequest_id = false\n");
    let answer = Client::once(pinring.address(), "POST", "x-request-id: a b\r\n", "{}");
    assert_eq!(answer.header("x-request-id"), None);
    let seen = backend.received().pop().unwrap();
    assert_eq!(seen.header("x-request-id"), Some("a b"));
}

#[test]
fn a_sampled_access_log_keeps_what_is_not_as_it_should_be() {
    let backend = Backend::start(|request, stream| {
        if request.header("x-slow").is_some() {
            std::thread::sleep(Duration::from_millis(2500));
        }
        let code = request.header("x-code").unwrap_or("200");
        write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let log = "[log]\naccess_sample = 0.0\naccess_slow = \"2s\"\n";
    let mut pinring = Pinring::before(&[&backend], log);
    for (number, headers) in [
        "",
        "x-code: 404\r\n",
        "x-slow: 1\r\n",
        "x-code: 202\r\n",
        "host: y\r\n",
    ]
    .iter()
    .enumerate()
    {
        let headers = format!("{headers}x-request-id: number-{number}\r\n");
        Client::once(pinring.address(), "POST", &headers, "{}");
    }
    pinring.signal("TERM");
    assert!(pinring.wait().success());
    pinring.wait_for_log("\"stopped\"");
    let mut logged: Vec<String> = pinring
        .find_logs("total_us")
        .iter()
        .map(|line| line["request_id"].as_str().unwrap().to_owned())
        .collect();
    logged.sort();
    assert_eq!(logged, ["number-1", "number-2", "number-4"]);
}
