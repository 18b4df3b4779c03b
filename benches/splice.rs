//! What looking into bodies costs: bytes per second of answers and requests of several shapes.
//!
//! ```sh
//! cargo bench --bench splice -- --save-baseline before    # then change something
//! cargo bench --bench splice -- --baseline before
//! ```

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinring::mcp::splice::{Answer, Request};
use serde_json::{Value, json};

const PIN: &[u8; 33] = b"-aaaabbbbccccddddeeeeffffgggghhhh";

/// What a connection's read buffer holds at most.
const CHUNK: usize = 16 * 1024;

fn answer(text: &str) -> String {
    let result = json!({
        "content": [{ "type": "text", "text": text }],
        "isError": false,
        "resultType": "complete",
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "server", "version": "1.0.0" } },
    });
    json!({ "jsonrpc": "2.0", "id": 7, "result": result }).to_string()
}

fn structured() -> String {
    let row = |number: u32| json!({ "id": number, "name": format!("row {number}"), "values": [number, 0.5, true, null] });
    let rows: Vec<Value> = (0..12_000).map(row).collect();
    json!({ "jsonrpc": "2.0", "id": 7, "result": { "structuredContent": { "rows": rows } } })
        .to_string()
}

fn call() -> String {
    let params = json!({
        "name": "get_weather",
        "arguments": { "city": "New York", "units": "metric", "days": 3 },
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "client", "version": "2.4.0" },
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "form": {} }, "sampling": {} },
        },
    });
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string()
}

fn chunks(body: &str) -> Vec<Bytes> {
    body.as_bytes()
        .chunks(CHUNK)
        .map(Bytes::copy_from_slice)
        .collect()
}

fn answers(c: &mut Criterion) {
    let event = |body: &str| format!("event: message\ndata: {body}\n\n");
    let plain = answer(&"The quick brown fox. ".repeat(50_000));
    let code = answer(&"    let x = \"a\";\n".repeat(60_000));
    let task = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"786512e2-9e0d-44bd-8f29-789f320fe840","status":"working"}}"#;
    let mut group = c.benchmark_group("answer");
    for (name, kind, body) in [
        (
            "short",
            Answer::json as fn() -> Answer,
            answer("12 degrees, light rain"),
        ),
        (
            "short event",
            Answer::events,
            event(&answer("12 degrees, light rain")),
        ),
        ("task", Answer::json, task.to_owned()),
        ("long plain text", Answer::json, plain.clone()),
        ("long plain text in an event", Answer::events, event(&plain)),
        ("long text with escapes", Answer::json, code),
        ("structured", Answer::json, structured()),
    ] {
        let chunks = chunks(&body);
        group
            .throughput(Throughput::Bytes(body.len() as u64))
            .bench_function(name, |b| {
                b.iter(|| {
                    let mut answer = kind();
                    for chunk in &chunks {
                        black_box(answer.push(black_box(chunk.clone()), |_, _| Some(PIN)));
                    }
                });
            });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let state = call().replacen(
        "\"params\":{",
        &format!(
            "\"params\":{{\"requestState\":\"{}-aaaabbbbccccddddeeeeffffgggghhhh\",",
            "s".repeat(400)
        ),
        1,
    );
    for (name, body) in [("ordinary call", call()), ("with requestState", state)] {
        let body = Bytes::from(body);
        group
            .throughput(Throughput::Bytes(body.len() as u64))
            .bench_function(name, |b| {
                b.iter(|| {
                    Request::read(black_box(body.clone()))
                        .strip(|found| found.string.len().checked_sub(PIN.len()))
                });
            });
    }
    group.finish();
}

criterion_group!(benches, answers, requests);
criterion_main!(benches);
