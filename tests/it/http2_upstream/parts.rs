//! What else asks backends: probes, handshakes that are repeated, streams that are merged.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{server::forever, *};
use crate::support::anywhere;

static ISSUED: AtomicU32 = AtomicU32::new(0);

/// A server in the manner of the SDKs: it knows the sessions that it has opened, and counts their calls.
fn stateful(name: &'static str, address: SocketAddr) -> Server {
    let sessions: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    Server::start_at(address, h2::server::Builder::new(), move |mut call| {
        let sessions = Arc::clone(&sessions);
        async move {
            if call.request.uri().path() == "/healthz" {
                return call.reply(Response::builder(), "well");
            }
            let body: Value = serde_json::from_slice(&call.body().await).unwrap_or_default();
            let answer = Response::builder().header("content-type", "application/json");
            let Some(id) = call.request.headers().get("mcp-session-id") else {
                let id = format!("{name}-{}", ISSUED.fetch_add(1, Ordering::SeqCst));
                sessions.lock().unwrap().insert(id.clone(), 0);
                let result = json!({ "protocolVersion": "2025-06-18" });
                let reply = json!({ "jsonrpc": "2.0", "id": body["id"], "result": result });
                return call.reply(answer.header("mcp-session-id", id), &reply.to_string());
            };
            let count = {
                let mut sessions = sessions.lock().unwrap();
                let count = sessions.get_mut(id.to_str().unwrap());
                count.map(|count| {
                    *count += u32::from(body["method"] == "tools/call");
                    *count
                })
            };
            match count {
                None => call.reply(answer.status(StatusCode::NOT_FOUND), ""),
                Some(_) if body["method"] != "tools/call" => {
                    call.reply(answer.status(StatusCode::ACCEPTED), "");
                }
                Some(count) => call.reply(answer, &format!("{name}:{count}")),
            }
        }
    })
}

fn open(pinring: &Pinring) -> String {
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test" } });
    let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    let answer = Client::once(pinring.address(), "POST", "", &body.to_string());
    let id = answer.header("mcp-session-id").unwrap().to_owned();
    let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let header = format!("mcp-session-id: {id}\r\n");
    let answer = Client::once(pinring.address(), "POST", &header, &body.to_string());
    assert_eq!(answer.status, 202);
    id
}

fn count(pinring: &Pinring, id: &str) -> crate::support::Answer {
    let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"count"}}"#;
    Client::once(
        pinring.address(),
        "POST",
        &format!("mcp-session-id: {id}\r\n"),
        body,
    )
}

#[test]
fn a_session_of_a_killed_backend_goes_on_at_another() {
    let (a, b) = (stateful("a", anywhere()), stateful("b", anywhere()));
    let address = a.address();
    let pinring = before(
        &[address, b.address()],
        "[timeouts]\nconnect = \"200ms\"\n[affinity]\non_loss = \"reinitialize\"\nloss_after = \"500ms\"\n",
    );
    let id = std::iter::repeat_with(|| open(&pinring))
        .find(|id| id.starts_with("a-"))
        .unwrap();
    assert_eq!(count(&pinring, &id).text(), "a:1");
    drop(a);
    eventually("nobody listens", || {
        std::net::TcpStream::connect(address).is_err()
    });
    let answer = count(&pinring, &id);
    assert_eq!((answer.status, &*answer.text()), (200, "b:1"));
    assert_eq!(answer.header("pinring-session"), Some("reinitialized"));
    assert_eq!(count(&pinring, &id).text(), "b:2");
}

#[test]
fn a_session_that_a_restarted_backend_has_forgotten_goes_on() {
    let a = stateful("a", anywhere());
    let address = a.address();
    let pinring = before(&[address], "[affinity]\non_loss = \"reinitialize\"\n");
    let id = open(&pinring);
    drop(a);
    eventually("nobody listens", || {
        std::net::TcpStream::connect(address).is_err()
    });
    let _again = stateful("a", address);
    let answer = count(&pinring, &id);
    assert_eq!((answer.status, &*answer.text()), (200, "a:1"));
    assert_eq!(answer.header("pinring-session"), Some("reinitialized"));
}

#[test]
fn a_backend_that_was_down_is_asked_in_http2_whether_it_is_back() {
    let a = stateful("a", anywhere());
    let address = a.address();
    let pinring = before(
        &[address],
        "[pool]\nprobe_path = \"/healthz\"\n[timeouts]\nconnect = \"200ms\"\n",
    );
    drop(a);
    eventually("nobody listens", || {
        std::net::TcpStream::connect(address).is_err()
    });
    for _ in 0..3 {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").status,
            503
        );
    }
    pinring.wait_for_log("suspect");
    let again = stateful("a", address);
    eventually("it is asked", || {
        let requests = again.requests();
        let mut asked = requests.iter().map(|request| request.uri().path());
        asked.any(|path| path == "/healthz")
    });
    let before = again.requests().len();
    open(&pinring);
    // Found to be well, it is left alone.
    std::thread::sleep(Duration::from_millis(1000));
    assert!(again.requests().len() <= before + 3);
}

#[test]
fn one_stream_of_changes_hears_every_backend() {
    let listening = |name: &'static str| {
        Server::start(move |mut call| async move {
            let body: Value = serde_json::from_slice(&call.body().await).unwrap();
            assert_eq!(body["method"], "subscriptions/listen");
            let head = Response::builder().header("content-type", "text/event-stream");
            let mut stream = call.begin(head);
            let method = "notifications/subscriptions/acknowledged";
            let params = json!({ "notifications": { "toolsListChanged": true } });
            let first = json!({ "method": method, "params": params });
            let news =
                json!({ "method": "notifications/tools/list_changed", "params": { "by": name } });
            for message in [first, news] {
                let event = format!("event: message\ndata: {message}\n\n");
                stream.send_data(event.into(), false).unwrap();
            }
            call.until_reset(&mut stream).await;
            forever().await;
        })
    };
    let (a, b) = (listening("a"), listening("b"));
    let pinring = before(
        &[a.address(), b.address()],
        "[pool]\nlisten_streams = \"fan-out\"\n",
    );
    let mut client = Client::connect(pinring.address());
    let params = json!({ "notifications": { "toolsListChanged": true } });
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params });
    let headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
    client.send(request("POST", headers, &body.to_string()));
    assert!(client.head().starts_with("HTTP/1.1 200"));
    let mut heard = String::new();
    while !["\"by\":\"a\"", "\"by\":\"b\""]
        .iter()
        .all(|by| heard.contains(by))
    {
        match client.chunk() {
            Chunk::Data(data) => heard.push_str(&String::from_utf8_lossy(&data)),
            end => panic!("{end:?} after {heard}"),
        }
    }
    drop(client);
    eventually("both are told", || {
        [&a, &b]
            .iter()
            .all(|server| server.resets() == [Some(h2::Reason::CANCEL)])
    });
}
