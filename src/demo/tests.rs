//! One replica over real sockets: what the wire facts say of SDK servers, claim by claim.

use http::StatusCode;
use http::header::ALLOW;
use serde_json::json;

use super::testing::*;
use super::*;

#[test]
fn initialize_answers_json_with_a_uuid() {
    with_replica(|address| async move {
        let params = json!({ "protocolVersion": "2025-06-18" });
        let response = send(address, post(None, &rpc("initialize", params))).await;
        let id = header(&response, "mcp-session-id").to_owned();
        assert_eq!((id.len(), id.get(14..15)), (36, Some("4")));
        assert_eq!(header(&response, "content-type"), "application/json");
        let body = json_of(response).await;
        assert_eq!(body["result"]["protocolVersion"], "2025-06-18");
        assert_eq!(body["id"], 7);
    });
}

#[test]
fn initialize_with_an_unknown_revision_answers_the_newest() {
    with_replica(|address| async move {
        let params = json!({ "protocolVersion": "2031-01-01" });
        let response = send(address, post(None, &rpc("initialize", params))).await;
        let body = json_of(response).await;
        assert_eq!(body["result"]["protocolVersion"], rpc::REVISIONS[0]);
    });
}

#[test]
fn initialize_answers_events_to_a_client_that_takes_no_json() {
    with_replica(|address| async move {
        let request = post(None, &rpc("initialize", json!({})));
        let response = send(address, with(request, "accept", "text/event-stream")).await;
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        assert_eq!(header(&response, "cache-control"), "no-cache, no-transform");
        assert_eq!(header(&response, "x-accel-buffering"), "no");
        assert_eq!(header(&response, "mcp-session-id").len(), 36);
        assert_eq!(messages(response).await[0]["id"], 7);
    });
}

#[test]
fn initialize_with_an_id_is_refused() {
    with_replica(|address| async move {
        let live = initialize(address).await;
        let again = rpc("initialize", json!({}));
        refused(address, post(Some(&live), &again), 400, -32600).await;
        refused(address, post(Some("other"), &again), 404, -32001).await;
    });
}

#[test]
fn each_session_has_a_counter_of_its_own() {
    with_replica(|address| async move {
        let (one, two) = (initialize(address).await, initialize(address).await);
        for (id, count) in [(&one, 1), (&one, 2), (&two, 1), (&one, 3)] {
            let response = send(address, post(Some(id), &tool("count", json!({})))).await;
            assert_eq!(header(&response, "mcp-session-id"), id);
            let result = &json_of(response).await["result"];
            let told = json!({ "count": count, "replica": "b" });
            assert_eq!(result["structuredContent"], told);
            let text = format!("count {count} in this session, answered by replica b");
            assert_eq!(result["content"][0]["text"], text);
        }
    });
}

#[test]
fn missing_session_id_answers_400() {
    with_replica(|address| async move {
        refused(
            address,
            post(None, &rpc("tools/list", json!({}))),
            400,
            -32000,
        )
        .await;
        for method in [Method::GET, Method::DELETE] {
            refused(address, request(method, None, ""), 400, -32000).await;
        }
    });
}

#[test]
fn unknown_session_answers_404() {
    with_replica(|address| async move {
        let upper = initialize(address).await.to_uppercase();
        for id in [
            "00000000-0000-4000-8000-000000000000",
            upper.as_str(),
            "a b",
        ] {
            refused(
                address,
                post(Some(id), &rpc("ping", json!({}))),
                404,
                -32001,
            )
            .await;
            for method in [Method::GET, Method::DELETE] {
                refused(address, request(method, Some(id), ""), 404, -32001).await;
            }
        }
    });
}

#[test]
fn notifications_and_responses_answer_202() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let one_way = [
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!({ "jsonrpc": "2.0", "id": 1, "result": {} }),
            json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "" } }),
        ];
        for message in one_way {
            let response = send(address, post(Some(&id), &message)).await;
            assert_eq!(response.status(), StatusCode::ACCEPTED, "{message}");
            assert_eq!(text(response).await, "");
        }
    });
}

#[test]
fn calls_that_fail_answer_200_with_an_error() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let calls = [
            (rpc("resources/list", json!({})), -32601),
            (tool("juggle", json!({})), -32602),
            (rpc("tools/call", json!([])), -32602),
            (tool("countdown", json!({ "from": 0 })), -32602),
            (tool("countdown", json!({ "from": 61 })), -32602),
            (tool("countdown", json!({ "from": "3" })), -32602),
        ];
        for (call, code) in calls {
            let response = send(address, post(Some(&id), &call)).await;
            assert_eq!(response.status(), StatusCode::OK, "{call}");
            assert_eq!(json_of(response).await["error"]["code"], code, "{call}");
        }
    });
}

#[test]
fn ping_and_the_list_of_tools_answer_200() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let pong = send(address, post(Some(&id), &rpc("ping", json!({})))).await;
        assert_eq!(json_of(pong).await["result"], json!({}));
        let list = send(address, post(Some(&id), &rpc("tools/list", json!({})))).await;
        let list = json_of(list).await;
        let tools = list["result"]["tools"].as_array().unwrap();
        let names: Vec<_> = tools.iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["count", "countdown", "where"]);
        let place = send(address, post(Some(&id), &tool("where", json!({})))).await;
        assert_eq!(json_of(place).await["result"]["content"][0]["text"], "b");
    });
}

#[test]
fn countdown_streams_progress_and_then_the_result() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let mut call = tool("countdown", json!({ "from": 1 }));
        call["params"]["_meta"] = json!({ "progressToken": "t" });
        let mut response = send(address, post(Some(&id), &call)).await;
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        assert_eq!(header(&response, "mcp-session-id"), id);
        let event = next_event(&mut response).await;
        assert!(
            event.starts_with("event: message\nid: 1-1\ndata: {"),
            "{event}"
        );
        assert!(event.contains("\"progressToken\":\"t\""), "{event}");
        let rest = messages(response).await;
        assert_eq!((rest.len(), &rest[0]["id"]), (1, &json!(7)));
    });
}

#[test]
fn countdown_without_a_token_logs() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let call = tool("countdown", json!({ "from": 1 }));
        let told = messages(send(address, post(Some(&id), &call)).await).await;
        assert_eq!(told[0]["method"], "notifications/message");
        assert_eq!(told[1]["id"], 7);
    });
}

#[test]
fn second_stream_answers_409_until_the_first_client_goes() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let open = || send(address, request(Method::GET, Some(&id), ""));
        let mut first = open().await;
        assert_eq!(header(&first, "mcp-session-id"), id);
        assert!(next_event(&mut first).await.contains("replica b, 0 s"));
        refused(address, request(Method::GET, Some(&id), ""), 409, -32000).await;
        drop(first);
        // The replica learns of it from the socket, a moment later; `DEADLINE` bounds the wait.
        while open().await.status() != StatusCode::OK {}
    });
}

#[test]
fn delete_ends_the_session_and_its_stream() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let mut stream = send(address, request(Method::GET, Some(&id), "")).await;
        next_event(&mut stream).await;
        let deleted = send(address, request(Method::DELETE, Some(&id), "")).await;
        assert_eq!(deleted.status(), StatusCode::OK);
        assert!(stream.body_mut().frame().await.is_none());
        refused(
            address,
            post(Some(&id), &rpc("ping", json!({}))),
            404,
            -32001,
        )
        .await;
        refused(address, request(Method::DELETE, Some(&id), ""), 404, -32001).await;
    });
}

#[test]
fn a_body_that_is_no_message_answers_400() {
    with_replica(|address| async move {
        let broken = [
            ("{", -32700),
            ("", -32700),
            ("\u{1}", -32700),
            ("7", -32600),
        ];
        let wrong = [
            ("[]", -32600),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
            (r#"{"id":1,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        ];
        for (body, code) in broken.into_iter().chain(wrong) {
            refused(address, request(Method::POST, None, body), 400, code).await;
        }
    });
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let ping = || post(Some(&id), &rpc("ping", json!({})));
        refused(
            address,
            with(ping(), "content-type", "text/plain"),
            415,
            -32000,
        )
        .await;
        refused(address, with(ping(), "accept", "text/html"), 406, -32000).await;
        let call = post(Some(&id), &tool("countdown", json!({})));
        refused(
            address,
            with(call, "accept", "application/json"),
            406,
            -32000,
        )
        .await;
        let get = request(Method::GET, Some(&id), "");
        refused(address, with(get, "accept", "*/*"), 406, -32000).await;
    });
}

#[test]
fn a_body_over_the_limit_answers_413() {
    with_replica(|address| async move {
        let body = vec![b' '; BODY_BYTES + 1];
        refused(address, request(Method::POST, None, body), 413, -32000).await;
    });
}

#[test]
fn requests_of_another_revision_answer_400() {
    with_replica(|address| async move {
        let id = initialize(address).await;
        let probe = |id| {
            let request = post(id, &rpc("server/discover", json!({})));
            with(request, "mcp-protocol-version", "2026-07-28")
        };
        refused(address, probe(None), 400, -32000).await;
        refused(address, probe(Some(&id)), 400, -32000).await;
        for revision in rpc::REVISIONS {
            let ping = post(Some(&id), &rpc("ping", json!({})));
            let response = send(address, with(ping, "mcp-protocol-version", revision)).await;
            assert_eq!(response.status(), StatusCode::OK, "{revision}");
        }
    });
}

#[test]
fn other_methods_answer_405_and_other_paths_404() {
    with_replica(|address| async move {
        for method in [Method::OPTIONS, Method::PUT, Method::PATCH] {
            let response = send(address, request(method, None, "")).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(header(&response, ALLOW.as_str()), "GET, POST, DELETE");
        }
        for path in ["/", "/mcp/", "/.well-known/oauth-protected-resource"] {
            let mut request = request(Method::GET, None, "");
            *request.uri_mut() = path.parse().unwrap();
            assert_eq!(send(address, request).await.status(), StatusCode::NOT_FOUND);
        }
    });
}

#[test]
fn a_dropped_replica_cuts_its_streams() {
    with_bound(|replica, address| async move {
        let serving = spawn_local(replica.serve());
        let id = initialize(address).await;
        let mut stream = send(address, request(Method::GET, Some(&id), "")).await;
        next_event(&mut stream).await;
        serving.abort();
        assert!(serving.await.is_err_and(|why| why.is_cancelled()));
        assert!(stream.body_mut().frame().await.unwrap().is_err());
        assert!(net::connect(address, Liveness::default()).await.is_err());
    });
}
