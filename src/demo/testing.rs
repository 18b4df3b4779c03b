//! What the tests of the demo servers share: one running replica, and a client that shows everything.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::Full;
use hyper::client::conn::http1 as client;
use serde_json::json;

use super::*;

/// For a whole test; nothing in one waits for longer than a countdown of a second.
const DEADLINE: Duration = Duration::from_secs(20);

const BOTH: &str = "application/json, text/event-stream";

/// Runs `test` against a replica called b, all on this thread.
pub(super) fn with_replica<T: Future<Output = ()>>(test: impl FnOnce(SocketAddr) -> T) {
    with_bound(|replica, address| async move {
        tokio::select! {
            () = test(address) => {}
            () = replica.serve() => panic!("the replica stopped"),
        }
    });
}

/// Runs `test` with a replica called b that does not serve yet, all on this thread.
pub(super) fn with_bound<T: Future<Output = ()>>(test: impl FnOnce(Replica, SocketAddr) -> T) {
    let replica = Replica::bind("b", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = replica.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let test = net::within(DEADLINE, test(replica, address));
        test.await.expect("the test takes too long");
    }));
}

/// Sends one request on a connection of its own, which lives as long as the answer.
pub(super) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let connection = net::connect(address, Liveness::default()).await.unwrap();
    let (mut sender, connection) = client::handshake(connection).await.unwrap();
    spawn_local(connection);
    sender.send_request(request).await.unwrap()
}

pub(super) fn request(
    method: Method,
    id: Option<&str>,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = PATH.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", "127.0.0.1".parse().unwrap());
    headers.insert(ACCEPT, BOTH.parse().unwrap());
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    if let Some(id) = id {
        headers.insert("mcp-session-id", id.parse().unwrap());
    }
    request
}

pub(super) fn post(id: Option<&str>, message: &Value) -> Request<Full<Bytes>> {
    request(Method::POST, id, message.to_string())
}

pub(super) fn rpc(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })
}

pub(super) fn tool(name: &str, arguments: Value) -> Value {
    rpc(
        "tools/call",
        json!({ "name": name, "arguments": arguments }),
    )
}

pub(super) fn with(
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &str,
) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) fn header<'a>(response: &'a Response<Incoming>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.into()).unwrap()
}

/// The messages of a stream that ended.
pub(super) async fn messages(response: Response<Incoming>) -> Vec<Value> {
    text(response)
        .await
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

pub(super) async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

pub(super) async fn next_event(response: &mut Response<Incoming>) -> String {
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().into()).unwrap()
}

pub(super) async fn initialize(address: SocketAddr) -> String {
    let params = json!({ "protocolVersion": "2025-11-25" });
    let response = send(address, post(None, &rpc("initialize", params))).await;
    assert_eq!(response.status(), StatusCode::OK);
    header(&response, "mcp-session-id").to_owned()
}

/// Sends and expects a refusal with these two codes.
pub(super) async fn refused(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    status: u16,
    code: i32,
) {
    let told = format!("{request:?}");
    let response = send(address, request).await;
    assert_eq!(response.status(), status, "{told}");
    let body = json_of(response).await;
    assert_eq!(body["error"]["code"], code, "{told}");
    assert_eq!(body["id"], Value::Null, "{told}");
}
