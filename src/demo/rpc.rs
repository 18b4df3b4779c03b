//! The MCP server itself: one JSON-RPC message and the session it belongs to, in; the answer, out.
//!
//! Pure: no socket, no clock. An answer that takes its time is the list of its messages; whoever
//! sends them keeps the pace. One message per POST: batches, which 2025-03-26 alone had, are
//! refused with 400.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::reply::Refusal;
use super::sessions::Session;

/// The revisions with sessions over Streamable HTTP, newest first.
pub(super) const REVISIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// The longest countdown, in seconds; it bounds what one call prepares.
const COUNTDOWN_MAX: u64 = 60;
const COUNTDOWN_DEFAULT: u64 = 3;

/// What a POST holds.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Request(Request),
    /// A notification or a response: taken and not answered.
    OneWay,
}

/// A call that wants an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    id: Value,
    method: String,
    params: Value,
}

/// What a call is answered with.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    One(Value),
    /// To be sent one after the other, the response last.
    Paced(Vec<Value>),
}

/// An error inside a 200: code and message.
type Fault = (i32, String);

impl Request {
    pub(super) fn is_initialize(&self) -> bool {
        self.method == "initialize"
    }

    fn result(&self, result: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.id, "result": result })
    }

    fn text(&self, text: &str) -> Value {
        self.result(json!({ "content": [{ "type": "text", "text": text }] }))
    }

    fn fault(&self, (code, message): Fault) -> Value {
        let error = json!({ "code": code, "message": message });
        json!({ "jsonrpc": "2.0", "id": self.id, "error": error })
    }
}

/// Reads the body of a POST.
pub(super) fn parse(body: &[u8]) -> Result<Message, Refusal> {
    let value = serde_json::from_slice(body).map_err(|_| Refusal::BROKEN_JSON)?;
    let Value::Object(mut fields) = value else {
        return Err(Refusal::NO_MESSAGE);
    };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(Refusal::NO_MESSAGE);
    }
    match (fields.remove("method"), fields.remove("id")) {
        (Some(Value::String(_)), None) => Ok(Message::OneWay),
        (Some(Value::String(method)), Some(id)) if id.is_string() || id.is_number() => {
            let params = fields.remove("params").unwrap_or_default();
            Ok(Message::Request(Request { id, method, params }))
        }
        (None, Some(_)) if is_response(&fields) => Ok(Message::OneWay),
        _ => Err(Refusal::NO_MESSAGE),
    }
}

fn is_response(fields: &Map<String, Value>) -> bool {
    fields.contains_key("result") || fields.contains_key("error")
}

/// The answer to `initialize`: the revision asked for if it is spoken here, else the newest.
pub(super) fn initialize(replica: &str, request: &Request) -> Reply {
    let asked = request.params["protocolVersion"].as_str();
    let revision = REVISIONS
        .into_iter()
        .find(|revision| asked == Some(revision))
        .unwrap_or(REVISIONS[0]);
    Reply::One(request.result(json!({
        "protocolVersion": revision,
        "capabilities": { "tools": {}, "logging": {} },
        "serverInfo": { "name": format!("pinring demo {replica}"), "version": env!("CARGO_PKG_VERSION") },
        "instructions": "Call count a few times: its counter lives in this session, in one replica.",
    })))
}

/// The answer to any other call of a session.
pub(super) fn answer(session: &mut Session, replica: &str, request: &Request) -> Reply {
    match request.method.as_str() {
        // Levels are taken and all messages sent: the few that there are, are the demonstration.
        "ping" | "logging/setLevel" => Reply::One(request.result(json!({}))),
        "tools/list" => Reply::One(request.result(tools())),
        "tools/call" => {
            call(session, replica, request).unwrap_or_else(|fault| Reply::One(request.fault(fault)))
        }
        method => {
            let fault = (METHOD_NOT_FOUND, format!("Method not found: {method}"));
            Reply::One(request.fault(fault))
        }
    }
}

fn call(session: &mut Session, replica: &str, request: &Request) -> Result<Reply, Fault> {
    match request.params["name"].as_str() {
        Some("count") => Ok(Reply::One(count(session.count(), replica, request))),
        Some("where") => Ok(Reply::One(request.text(replica))),
        Some("countdown") => countdown(replica, request),
        Some(name) => Err((INVALID_PARAMS, format!("Unknown tool: {name}"))),
        None => Err((INVALID_PARAMS, "A call needs the name of a tool".into())),
    }
}

fn count(count: u64, replica: &str, request: &Request) -> Value {
    let text = format!("count {count} in this session, answered by replica {replica}");
    request.result(json!({
        "content": [{ "type": "text", "text": text }],
        "structuredContent": { "count": count, "replica": replica },
    }))
}

fn countdown(replica: &str, request: &Request) -> Result<Reply, Fault> {
    let from = match &request.params["arguments"]["from"] {
        Value::Null => COUNTDOWN_DEFAULT,
        given => given
            .as_u64()
            .filter(|from| (1..=COUNTDOWN_MAX).contains(from))
            .ok_or_else(|| {
                let message = format!("from is a whole number from 1 to {COUNTDOWN_MAX}");
                (INVALID_PARAMS, message)
            })?,
    };
    let token = &request.params["_meta"]["progressToken"];
    let end = format!("0, counted down by replica {replica}");
    let messages = (1..=from).map(|done| step(token, done, from));
    Ok(Reply::Paced(messages.chain([request.text(&end)]).collect()))
}

/// One second of a countdown: progress for a client that asked for it, else a log message.
fn step(token: &Value, done: u64, from: u64) -> Value {
    let left = (from - done + 1).to_string();
    if token.is_null() {
        return log("countdown", &left);
    }
    json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": { "progressToken": token, "progress": done, "total": from, "message": left },
    })
}

/// What a GET stream tells, for ever: who speaks, and for how long.
pub(super) fn ticks(replica: String, pace: Duration) -> impl Iterator<Item = Value> {
    (0_u64..).map(move |tick| {
        let seconds = tick * pace.as_secs();
        log("clock", &format!("replica {replica}, {seconds} s"))
    })
}

fn log(logger: &str, data: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": { "level": "info", "logger": logger, "data": data },
    })
}

fn tools() -> Value {
    json!({ "tools": [
        {
            "name": "count",
            "description": "Adds one to this session's counter.",
            "inputSchema": { "type": "object" },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "count": { "type": "integer" },
                    "replica": { "type": "string" },
                },
                "required": ["count", "replica"],
            },
        },
        {
            "name": "countdown",
            "description": "Counts down, a second a step, with progress.",
            "inputSchema": {
                "type": "object",
                "properties": { "from": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": COUNTDOWN_MAX,
                    "default": COUNTDOWN_DEFAULT,
                } },
            },
        },
        {
            "name": "where",
            "description": "Says which replica answers.",
            "inputSchema": { "type": "object" },
        },
    ] })
}
