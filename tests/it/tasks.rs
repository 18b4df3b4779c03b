//! Tasks come home (SEP-2663): what is asked about one reaches the replica that holds it, by `Mcp-Name` and by the
//! body, and clients know a task by one id from beginning to end.

use std::io::Write as _;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Client, Pinring, Received, eventually, ok};

const JSON: &str = "content-type: application/json\r\n";

/// A server in the manner of the extension: it knows its own tasks, and compares `Mcp-Name` with the body.
fn holding(name: &'static str) -> Backend {
    Backend::start(move |request, stream| stream.write_all(&served(name, request)).is_ok())
}

fn served(name: &str, request: &Received) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let is_own = |id: &Value| {
        id.as_str()
            .is_some_and(|id| id.ends_with(&format!("of {name}")))
    };
    if request.header("mcp-method") == Some("subscriptions/listen") {
        let ids = body["params"]["notifications"]["taskIds"]
            .as_array()
            .unwrap();
        let own: Vec<&Value> = ids.iter().filter(|id| is_own(id)).collect();
        return listening(&own);
    }
    let answer = match body["params"]["taskId"].as_str() {
        None => {
            let id = format!(
                "{} of {name}",
                body["params"]["arguments"]["kind"].as_str().unwrap()
            );
            json!({ "resultType": "task", "taskId": id, "status": "working" })
        }
        Some(id) if request.header("mcp-name").map(decoded).as_deref() != Some(id) => {
            return b"HTTP/1.1 400 Bad Request\r\ncontent-length: 8\r\n\r\nmismatch".to_vec();
        }
        Some(id) if !is_own(&id.into()) => {
            return ok(JSON, "{\"error\":{\"message\":\"unknown task\"}}");
        }
        Some(id) => json!({ "resultType": "complete", "taskId": id, "by": name }),
    };
    ok(JSON, &json!({ "id": 1, "result": answer }).to_string())
}

/// The acknowledgement of a stream about these tasks, and a notification about each.
fn listening(own: &[&Value]) -> Vec<u8> {
    let acknowledged = json!({
        "method": "notifications/subscriptions/acknowledged",
        "params": { "notifications": { "taskIds": own } },
    });
    let about = own
        .iter()
        .map(|id| json!({ "method": "notifications/tasks", "params": { "taskId": id } }));
    let events: String = std::iter::once(acknowledged)
        .chain(about)
        .map(|message| format!("data: {message}\n\n"))
        .collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n0\r\n\r\n",
        events.len()
    )
    .into_bytes()
}

fn decoded(name: &str) -> String {
    match name
        .strip_prefix("=?base64?")
        .and_then(|name| name.strip_suffix("?="))
    {
        Some(encoded) => String::from_utf8(BASE64.decode(encoded.as_bytes()).unwrap()).unwrap(),
        None => name.to_owned(),
    }
}

fn encoded(name: &str) -> String {
    if name.is_ascii() {
        name.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64.encode(name.as_bytes()))
    }
}

fn send(pinring: &Pinring, method: &str, name: Option<&str>, params: &Value) -> Answer {
    let name = name
        .map(|name| format!("mcp-name: {}\r\n", encoded(name)))
        .unwrap_or_default();
    let headers = format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}");
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    Client::once(pinring.address(), "POST", &headers, &body.to_string())
}

fn result(answer: &Answer) -> Value {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["result"].clone()
}

/// Begins tasks until one is of the backend that calls itself `name`, and gives its id.
fn task_of(name: &str, kind: &str, pinring: &Pinring) -> String {
    let mut id = String::new();
    eventually(&format!("a task of {name}"), || {
        let params = json!({ "name": "work", "arguments": { "kind": kind } });
        let answer = send(pinring, "tools/call", Some("work"), &params);
        id = result(&answer)["taskId"].as_str().unwrap().to_owned();
        id.starts_with(&format!("{kind} of {name}-"))
    });
    id
}

fn ask(pinring: &Pinring, method: &str, id: &str) -> Answer {
    send(pinring, method, Some(id), &json!({ "taskId": id }))
}

/// The task ids of the messages of a stream, in their order.
fn heard(stream: &Answer) -> Vec<Value> {
    let text = stream.text();
    let events = text.split_terminator("\n\n").map(|event| -> Value {
        serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()
    });
    events
        .map(|message| {
            let params = &message["params"];
            let of_acknowledgement = &params["notifications"]["taskIds"];
            if of_acknowledgement.is_null() {
                params["taskId"].clone()
            } else {
                of_acknowledgement.clone()
            }
        })
        .collect()
}

#[test]
fn a_task_is_asked_about_at_the_replica_that_holds_it_through_any_proxy() {
    let backends = ["a", "b", "c"].map(holding);
    let proxies = [(); 2].map(|()| Pinring::before(&backends.each_ref(), ""));
    // What plain ASCII cannot carry comes to the servers in base64.
    for (name, kind) in [("a", "job"), ("b", "\u{e9}tude"), ("c", "job, the second")] {
        let id = task_of(name, kind, &proxies[0]);
        for (method, pinring) in ["tasks/get", "tasks/update", "tasks/cancel"]
            .into_iter()
            .zip(proxies.iter().cycle().skip(1))
        {
            let answer = result(&ask(pinring, method, &id));
            assert_eq!(
                (&answer["by"], &answer["taskId"]),
                (&name.into(), &Value::from(&*id))
            );
        }
    }
}

#[test]
fn without_a_name_the_body_decides_and_where_they_disagree_the_name_does() {
    let backends = ["a", "b"].map(holding);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let (of_a, of_b) = (task_of("a", "x", &pinring), task_of("b", "x", &pinring));
    for _ in 0..10 {
        let answer = send(&pinring, "tasks/get", None, &json!({ "taskId": of_b }));
        assert_eq!(answer.text(), "mismatch");
        let last = backends[1].received().pop().unwrap();
        assert!(
            last.header("mcp-name").is_none() && last.body.ends_with(b"{\"taskId\":\"x of b\"}}")
        );

        let answer = send(
            &pinring,
            "tasks/get",
            Some(&of_a),
            &json!({ "taskId": of_b }),
        );
        assert_eq!((answer.status, &*answer.text()), (400, "mismatch"));
        let last = backends[0].received().pop().unwrap();
        assert_eq!(last.header("mcp-name"), Some("x of a"));
        assert!(last.body.ends_with(b"{\"taskId\":\"x of b\"}}"));
    }
}

#[test]
fn an_id_that_nobody_made_passes_untouched() {
    let backend = holding("a");
    let pinring = Pinring::before(&[&backend], "");
    let good = task_of("a", "x", &pinring);
    for bad in ["x of a", &format!("y{good}"), "\u{e9}"] {
        ask(&pinring, "tasks/get", bad);
        let last = backend.received().pop().unwrap();
        assert_eq!(last.header("mcp-name").map(decoded).as_deref(), Some(bad));
        let body: Value = serde_json::from_slice(&last.body).unwrap();
        assert_eq!(body["params"]["taskId"], bad);
    }
    // In revisions whose servers do not compare the header with the body, nobody looks at it.
    let legacy = format!(
        "mcp-protocol-version: 2025-11-25\r\nmcp-method: tasks/get\r\nmcp-name: {good}\r\n"
    );
    let body = r#"{"params":{"arguments":{"kind":"x"}}}"#;
    Client::once(pinring.address(), "POST", &legacy, body);
    assert_eq!(
        backend.received().pop().unwrap().header("mcp-name"),
        Some(&*good)
    );
    // The name of a tool is no carrier, whatever it looks like.
    send(
        &pinring,
        "tools/call",
        Some(&good),
        &json!({ "arguments": { "kind": "x" } }),
    );
    assert_eq!(
        backend.received().pop().unwrap().header("mcp-name"),
        Some(&*good)
    );
}

#[test]
fn a_stream_hears_of_tasks_by_the_ids_that_its_client_knows() {
    let backends = ["a", "b", "c"].map(holding);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let (one, other) = (task_of("b", "x", &pinring), task_of("b", "y", &pinring));
    let of_another = task_of("c", "x", &pinring);
    let filter =
        |ids: &[&str]| json!({ "notifications": { "taskIds": ids, "toolsListChanged": true } });
    for _ in 0..10 {
        let params = filter(&[&one, &other]);
        let stream = send(&pinring, "subscriptions/listen", None, &params);
        assert_eq!(
            heard(&stream),
            [json!([one, other]), json!(one), json!(other)]
        );
    }
    // The first that is good decides, and none arrives with its pin.
    let params = filter(&["nobody's", &of_another, &one]);
    let stream = send(&pinring, "subscriptions/listen", None, &params);
    assert_eq!(heard(&stream), [json!([of_another]), json!(of_another)]);
    let last = backends[2].received().pop().unwrap();
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    let seen = &body["params"]["notifications"]["taskIds"];
    assert_eq!(*seen, json!(["nobody's", "x of c", "x of b"]));
}

#[test]
fn a_task_keeps_its_id_while_secrets_change() {
    let backends = ["a", "b"].map(holding);
    let secrets = |list: &str| {
        format!(
            "{}\n[affinity]\nsecrets = [{list}]\n",
            Pinring::backends(&backends.each_ref())
        )
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new"), [b'n'; 40]).unwrap();
    let pinring = Pinring::start_in(folder, &secrets("\"env:TEST_SECRET\""), &[]);
    let id = task_of("b", "x", &pinring);
    pinring.reload(&secrets("\"file:new\", \"env:TEST_SECRET\""));
    assert_ne!(task_of("b", "x", &pinring), id, "the new secret signs");
    assert_eq!(result(&ask(&pinring, "tasks/get", &id))["taskId"], *id);
    let params = json!({ "notifications": { "taskIds": [id] } });
    let stream = send(&pinring, "subscriptions/listen", None, &params);
    assert_eq!(heard(&stream), [json!([id]), json!(id)]);
}
