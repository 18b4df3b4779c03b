//! `requestState` comes home: what a replica sealed reaches it again through any proxy, and every other byte of the
//! bodies stays as it was.

use std::{collections::HashSet, io::Write as _};

use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Chunk, Client, ONE_THREAD, Pinring, Received, eventually, listing, ok, request,
};

const JSON: &str = "content-type: application/json\r\n";

/// The headers of a call of revision 2026-07-28.
fn headers(method: &str, name: &str) -> String {
    format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\nmcp-name: {name}\r\n")
}

fn call(pinring: &Pinring, body: &str) -> Answer {
    let headers = headers("tools/call", "ask");
    Client::once(pinring.address(), "POST", &headers, body)
}

/// A call with this state, or the first of its rounds.
fn round(state: Option<&str>) -> String {
    let mut params = json!({ "name": "ask", "arguments": {} });
    if let Some(state) = state {
        params["requestState"] = state.into();
    }
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string()
}

fn state_of(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["result"]["requestState"].as_str().unwrap().to_owned()
}

/// A server with a key of its own: it begins with a state that it alone understands.
fn sealing(name: &'static str) -> Backend {
    Backend::start(move |request, stream| {
        stream.write_all(&ok(JSON, &sealed(name, request))).is_ok()
    })
}

fn sealed(name: &str, request: &Received) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let own = format!("sealed by {name}, \u{e9} \"\\");
    match body["params"]["requestState"].as_str() {
        None => json!({ "result": { "resultType": "input_required", "requestState": own } }),
        Some(state) if state == own => json!({ "result": { "name": name } }),
        Some(_) => json!({ "error": { "message": "not mine", "name": name } }),
    }
    .to_string()
}

/// Who sealed this state.
fn sealer(state: &str) -> &str {
    let (name, _) = state
        .strip_prefix("sealed by ")
        .unwrap()
        .split_once(',')
        .unwrap();
    name
}

/// Begins a call whose state is sealed by `name`.
fn begun_at(name: &str, pinring: &Pinring) -> String {
    let mut state = String::new();
    eventually(&format!("a call begins at {name}"), || {
        state = state_of(&call(pinring, &round(None)));
        sealer(&state) == name
    });
    state
}

#[test]
fn every_round_reaches_the_replica_that_sealed_the_state_through_any_proxy() {
    let backends = ["a", "b", "c"].map(sealing);
    let proxies = [(); 2].map(|()| Pinring::before(&backends.each_ref(), ""));
    let mut used = HashSet::new();
    for number in 0..30 {
        let state = state_of(&call(&proxies[number % 2], &round(None)));
        let name = sealer(&state).to_owned();
        let answer = call(&proxies[(number + 1) % 2], &round(Some(&state)));
        assert_eq!(
            answer.text(),
            json!({ "result": { "name": name } }).to_string()
        );
        used.insert(name);
    }
    assert_eq!(used.len(), 3);
    let log = proxies[0].log().join("\n");
    assert!(log.contains("\"route\":\"carrier\"") && !log.contains("sealed"));
}

#[test]
fn states_in_event_streams_and_in_chunks_come_home_too() {
    let backends = ["a", "b", "c"].map(|name| {
        Backend::start(move |request, stream| {
            let body = sealed(name, request);
            let (one, other) = body.split_at(body.len() / 2); // within the state, in the longer answer
            let stream_of = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                 6\r\ndata: \r\n{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n2\r\n\n\n\r\n0\r\n\r\n",
                one.len(),
                other.len()
            );
            let chunked = format!(
                "HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            );
            let in_events = request.header("mcp-name") == Some("events");
            stream
                .write_all(if in_events { &stream_of } else { &chunked }.as_bytes())
                .is_ok()
        })
    });
    let pinring = Pinring::before(&backends.each_ref(), "");
    let events = headers("tools/call", "events");
    for _ in 0..20 {
        let first = Client::once(pinring.address(), "POST", &events, &round(None));
        assert!(first.complete, "{}", first.head);
        let data = first.text();
        let data = data.strip_prefix("data: ").unwrap().strip_suffix("\n\n");
        let data: Value = serde_json::from_str(data.unwrap()).unwrap();
        let state = data["result"]["requestState"].as_str().unwrap();
        let answer = Client::once(pinring.address(), "POST", &events, &round(Some(state)));
        assert!(answer.text().contains("{\"name\":"), "{}", answer.text());

        let state = state_of(&call(&pinring, &round(None)));
        let answer = call(&pinring, &round(Some(&state)));
        let name = sealer(&state);
        assert_eq!(
            answer.text(),
            format!("{{\"result\":{{\"name\":\"{name}\"}}}}")
        );
    }
}

#[test]
fn every_other_byte_stays_as_it_was() {
    const ANSWER: &str = " {\"result\" : {\"n\":1.00e2,\t\"requestState\":\"st\\u00e4te\",\"requestState\":\"zwei\", \"x\":[NaN]}}\r\n";
    let backend = Backend::answering(ok(JSON, ANSWER));
    let pinring = Pinring::before(&[&backend], "");
    let answer = call(&pinring, "{}");
    assert_eq!(
        answer.header("content-length"),
        Some(&*answer.body.len().to_string())
    );
    let text = answer.text();
    let pin_behind = |own: &str| {
        let (_, rest) = text.split_once(own).unwrap();
        rest.split_at(33).0.to_owned()
    };
    let (one, two) = (pin_behind("st\\u00e4te"), pin_behind("\"zwei"));
    assert_eq!(text.replace(&one, "").replace(&two, ""), ANSWER);
    assert_ne!(one, two);

    let body = |one: &str, two: &str| {
        format!(
            "{{\"params\":{{ \"requestState\":\"st\\u00e4te{one}\",\"a\":1e400, \"requestState\" : \"zwei{two}\"}} }}\n"
        )
    };
    call(&pinring, &body(&one, &two));
    let received = backend.received().pop().unwrap();
    assert_eq!(
        String::from_utf8(received.body.clone()).unwrap(),
        body("", "")
    );
    let length = received.body.len().to_string();
    assert_eq!(received.header("content-length"), Some(&*length));
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    // One string's pin is no good behind another.
    call(&pinring, &body(&two, &one));
    let received = backend.received().pop().unwrap();
    assert_eq!(String::from_utf8(received.body).unwrap(), body(&two, &one));
}

#[test]
fn a_chunked_request_arrives_whole_without_its_pin() {
    let backend = sealing("a");
    let pinring = Pinring::before(&[&backend], "");
    let state = begun_at("a", &pinring);
    let body = round(Some(&state));
    let (one, other) = body.split_at(60);
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nhost: h\r\n{}transfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n",
        headers("tools/call", "ask"),
        one.len()
    ));
    client.send(format!("{:x}\r\n{other}\r\n0\r\n\r\n", other.len()));
    assert_eq!(client.answer().text(), "{\"result\":{\"name\":\"a\"}}");
}

#[test]
fn what_is_not_of_a_method_that_can_carry_passes_untouched() {
    const ANSWER: &str = "{\"result\":{\"requestState\":\"s\",\"taskId\":\"t\"}}";
    let backend = Backend::answering(ok(JSON, ANSWER));
    let pinring = Pinring::before(&[&backend], "");
    let modern = "mcp-protocol-version: 2026-07-28\r\n";
    for headers in [
        "mcp-method: tools/call\r\n".to_owned(),
        "mcp-protocol-version: 2025-11-25\r\nmcp-method: tools/call\r\n".to_owned(),
        modern.to_owned(),
        format!("{modern}mcp-method: tools/list\r\naccept-encoding: gzip\r\n"),
    ] {
        let answer = Client::once(pinring.address(), "POST", &headers, "{}");
        assert_eq!(answer.text(), ANSWER, "{headers}");
    }
    let received = backend.received().pop().unwrap();
    assert_eq!(received.header("accept-encoding"), Some("gzip"));
}

#[test]
fn a_pool_may_forbid_to_read_bodies() {
    const ANSWER: &str = "{\"result\":{\"requestState\":\"s\"}}";
    let backend = Backend::answering(ok(JSON, ANSWER));
    let pinring = Pinring::before(&[&backend], "[pool]\nread_bodies = false");
    assert_eq!(call(&pinring, "{}").text(), ANSWER);
    assert_eq!(backend.received()[0].header("accept-encoding"), None);
}

#[test]
fn compressed_and_foreign_answers_pass_untouched() {
    const ANSWER: &str = "{\"result\":{\"requestState\":\"s\"}}";
    for headers in [
        "content-type: application/json\r\ncontent-encoding: gzip\r\n",
        "content-type: text/html\r\n",
        "",
    ] {
        let backend = Backend::answering(ok(headers, ANSWER));
        let pinring = Pinring::before(&[&backend], "");
        assert_eq!(call(&pinring, "{}").text(), ANSWER, "{headers}");
    }
}

#[test]
fn a_long_answer_is_spliced_as_it_flows() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", &headers("tools/call", "ask"), "{}"));
    let mut asked = arrivals.next();
    let (one, other) = (
        "{\"result\":{\"requestState\":\"s\",",
        format!("\"x\":\"{}\"}}}}", "x".repeat(70_000)),
    );
    let length = one.len() + other.len();
    asked.send(format!(
        "HTTP/1.1 200 OK\r\n{JSON}content-length: {length}\r\n\r\n{one}"
    ));
    let head = client.head();
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"));
    let Chunk::Data(first) = client.chunk() else {
        panic!("no chunk")
    };
    assert_eq!(
        first.len(),
        one.len() + 33,
        "with its pin, before the rest is there"
    );
    asked.send(&other);
    let mut rest = Vec::new();
    while let Chunk::Data(more) = client.chunk() {
        rest.extend(more);
    }
    assert!(rest == other.as_bytes());
}

#[test]
fn a_short_answer_that_does_not_come_to_its_end_passes_as_it_comes() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", &headers("tools/call", "ask"), "{}"));
    let mut asked = arrivals.next();
    asked.send(format!(
        "HTTP/1.1 200 OK\r\n{JSON}content-length: 33\r\n\r\n{{\"result\":{{\"requestSt"
    ));
    let head = client.head();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(
        client.chunk(),
        Chunk::Data(b"{\"result\":{\"requestSt".to_vec())
    );
    asked.send("ate\":\"s\"}}");
    let Chunk::Data(rest) = client.chunk() else {
        panic!("no chunk")
    };
    assert_eq!((&rest[..8], rest.len()), (&b"ate\":\"s-"[..], 10 + 33));
}

#[test]
fn a_short_answer_that_breaks_off_never_looks_complete() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", &headers("tools/call", "ask"), "{}"));
    arrivals.next().send(format!(
        "HTTP/1.1 200 OK\r\n{JSON}content-length: 99\r\n\r\n{{\"re"
    ));
    drop(arrivals);
    drop(backend);
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.reason()), (502, "backend_closed"));
}

#[test]
fn a_state_whose_replica_is_down_waits_and_one_whose_replica_is_lost_goes_elsewhere_bare() {
    let (a, b) = (sealing("a"), sealing("b"));
    let pinring = Pinring::before(
        &[&a, &b],
        "timeouts = { connect = \"100ms\" }\naffinity = { loss_after = \"2s\" }",
    );
    let state = begun_at("b", &pinring);
    drop(b);
    let answer = call(&pinring, &round(Some(&state)));
    assert_eq!((answer.status, &*answer.reason()), (503, "connect_refused"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let mut answer = None;
    eventually("it is lost", || {
        let again = call(&pinring, &round(Some(&state)));
        assert!([200, 503].contains(&again.status), "{}", again.head);
        let is_lost = again.status == 200;
        answer = Some(again);
        is_lost
    });
    assert!(answer.unwrap().text().contains("not mine"));
    let last = a.received().pop().unwrap();
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(body["params"]["requestState"], "sealed by b, \u{e9} \"\\");
}

#[test]
fn a_state_of_an_unknown_replica_is_answered_503_and_after_its_grace_goes_elsewhere_bare() {
    let (a, b) = (sealing("a"), sealing("b"));
    let grace = "[affinity]\nunknown_grace = \"1s\"\n";
    let both = Pinring::before(&[&a, &b], "");
    let behind = Pinring::start(&format!("{}{grace}", listing(&[("a", &a, "")])));
    let state = begun_at("b", &both);
    let answer = call(&behind, &round(Some(&state)));
    assert_eq!(
        (answer.status, &*answer.reason()),
        (503, "unknown_coordinate")
    );
    let mut answer = call(&behind, &round(Some(&state)));
    eventually("its grace is over", || {
        answer = call(&behind, &round(Some(&state)));
        answer.status == 200
    });
    assert!(answer.text().contains("not mine"));
    let last = a.received().pop().unwrap();
    assert!(!String::from_utf8_lossy(&last.body).contains(state.rsplit_once('-').unwrap().1));
}

#[test]
fn a_state_that_nobody_made_passes_untouched() {
    let backends = ["a", "b"].map(sealing);
    let secret = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\n";
    let pinring = Pinring::before(&backends.each_ref(), secret);
    let state = begun_at("a", &pinring);
    let forged = format!("x{state}");
    for state in ["", "plain", "-", &forged] {
        let answer = call(&pinring, &round(Some(state)));
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("not mine"));
        let received = backends.iter().flat_map(Backend::received);
        let states = received.map(|received| -> Value {
            let body: Value = serde_json::from_slice(&received.body).unwrap();
            body["params"]["requestState"].clone()
        });
        assert!(states.into_iter().any(|seen| seen == state), "{state}");
    }
}

#[test]
fn a_body_beyond_the_limit_passes_unread() {
    let backend = sealing("a");
    let pinring = Pinring::before(&[&backend], "[limits]\nbody_bytes = \"1KiB\"");
    let state = begun_at("a", &pinring);
    let body = round(Some(&state)).replace("{}", &format!("{{\"x\":\"{}\"}}", "x".repeat(5000)));
    let answer = call(&pinring, &body);
    assert!(answer.text().contains("not mine"), "{}", answer.text());
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nhost: h\r\n{}transfer-encoding: chunked\r\n\r\n",
        headers("tools/call", "ask")
    ));
    for piece in body.as_bytes().chunks(700) {
        client
            .send(format!("{:x}\r\n", piece.len()))
            .send(piece)
            .send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert!(client.answer().text().contains("not mine"));
    let received = backend.received();
    let [.., one, other] = &received[..] else {
        panic!("not received")
    };
    assert!(one.body == body.as_bytes() && other.body == body.as_bytes());
}

#[test]
fn a_call_that_waits_for_100_continue_gets_it() {
    let backend = sealing("a");
    let pinring = Pinring::before(&[&backend], "");
    let state = begun_at("a", &pinring);
    let headers = format!("{}expect: 100-continue\r\n", headers("tools/call", "ask"));
    let whole = request("POST", &headers, &round(Some(&state)));
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let mut client = Client::connect(pinring.address());
    client.send(format!("{head}\r\n\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 100"));
    client.send(body);
    assert_eq!(client.answer().text(), "{\"result\":{\"name\":\"a\"}}");
}

#[test]
fn a_call_whose_body_stays_away_answers_408_and_reaches_nobody() {
    let backend = sealing("a");
    let pinring = Pinring::before(&[&backend], "[timeouts]\nrequest_body_idle = \"200ms\"");
    let mut client = Client::connect(pinring.address());
    let whole = request("POST", &headers("tools/call", "ask"), &round(None));
    client.send(whole.strip_suffix('}').unwrap());
    let answer = client.answer();
    assert_eq!(
        (answer.status, &*answer.reason()),
        (408, "request_body_timeout")
    );
    assert!(client.is_closed() && backend.received().is_empty());
}

#[test]
fn a_call_whose_client_leaves_within_its_body_leaves_a_line() {
    let backend = sealing("a");
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut client = Client::connect(pinring.address());
    let whole = request("POST", &headers("tools/call", "ask"), &round(None));
    client.send(whole.strip_suffix('}').unwrap());
    drop(client);
    pinring.wait_for_log("\"path\":\"/mcp\"");
    assert!(backend.received().is_empty());
}
