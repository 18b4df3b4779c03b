//! `listen_streams = "fan-out"`: one `subscriptions/listen` hears every replica, those that join and those that come back.

use std::{
    collections::HashSet,
    net::{Shutdown, SocketAddr},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::support::{
    Answer, Asked, Backend, Chunk, Client, Closed, PATIENCE, Pinring, Received, anywhere,
    eventually, listing, ok, request,
};

const FAN_OUT: &str = "[pool]\nlisten_streams = \"fan-out\"\n";
const JSON: &str = "content-type: application/json\r\n";
const SOON: Duration = Duration::from_millis(100);
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// A server that leaves each `subscriptions/listen` to the test, and answers other calls with a task of its own.
struct Replica {
    backend: Backend,
    listens: Receiver<Listen>,
}

/// One stream of a replica.
struct Listen {
    asked: Asked,
    request: Received,
}

impl Replica {
    fn new(name: &'static str) -> Self {
        Self::at(anywhere(), name)
    }

    fn at(address: SocketAddr, name: &'static str) -> Self {
        let (sender, listens) = mpsc::channel();
        let sender = Mutex::new(sender);
        let backend = Backend::on(address, move |request, stream| {
            if request.header("mcp-method") == Some("subscriptions/listen") {
                let (asked, request) = (Asked::of(stream), request.clone());
                let _unwanted = sender.lock().unwrap().send(Listen { asked, request });
                return false;
            }
            if request.line().starts_with("DELETE ") {
                return std::io::Write::write_all(stream, &ok("", "")).is_ok();
            }
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let kind = body["params"]["arguments"]["kind"].as_str().unwrap();
            let task = json!({ "resultType": "task", "taskId": format!("{kind} of {name}") });
            let answer = ok(JSON, &json!({ "id": 1, "result": task }).to_string());
            std::io::Write::write_all(stream, &answer).is_ok()
        });
        Self { backend, listens }
    }

    /// The next request to listen, unanswered.
    fn listen(&self) -> Listen {
        let next = self.listens.recv_timeout(PATIENCE);
        next.expect("a request reaches the replica")
    }

    /// The next stream, which has begun.
    fn stream(&self) -> Listen {
        let mut listen = self.listen();
        listen.asked.begin_stream();
        listen.acknowledge(&json!({ "toolsListChanged": true }));
        listen
    }

    fn is_left_alone(&self) -> bool {
        self.listens.try_recv().is_err()
    }

    /// It is gone with its streams, as if killed; gives its address.
    fn kill(self, listen: Listen) -> SocketAddr {
        let address = self.backend.address();
        let _gone = listen.asked.stream.shutdown(Shutdown::Both);
        drop(self.backend);
        address
    }
}

impl Listen {
    fn say(&mut self, message: &Value) -> &mut Self {
        self.asked.chunk(&event(message));
        self
    }

    fn acknowledge(&mut self, agreed: &Value) -> &mut Self {
        self.say(&acknowledgement(agreed))
    }

    /// The stream ends, and its connection, on which nobody would hear another request.
    fn end(&mut self, message: &Value) {
        self.say(message).asked.send("0\r\n\r\n");
        let _closed_by_now = self.asked.stream.shutdown(Shutdown::Both);
    }

    fn body(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap()
    }

    fn task_ids(&self) -> Value {
        self.body()["params"]["notifications"]["taskIds"].clone()
    }
}

fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn acknowledgement(agreed: &Value) -> Value {
    json!({ "method": ACKNOWLEDGED, "params": { "notifications": agreed } })
}

fn news(name: &str) -> Value {
    json!({ "method": "notifications/tools/list_changed", "params": { "by": name } })
}

fn result(name: &str) -> Value {
    json!({ "id": 1, "result": { "resultType": "complete", "by": name } })
}

fn headers(method: &str) -> String {
    format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n")
}

fn body(notifications: &Value) -> String {
    let params = json!({ "notifications": notifications });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params })
        .to_string()
}

fn ask(pinring: &Pinring, notifications: &Value) -> Client {
    let mut client = Client::connect(pinring.address());
    let headers = headers("subscriptions/listen");
    client.send(request("POST", &headers, &body(notifications)));
    client
}

fn listen(pinring: &Pinring) -> Client {
    ask(pinring, &json!({ "toolsListChanged": true }))
}

/// The next event, which comes in a chunk of its own.
fn heard(client: &mut Client) -> String {
    match client.chunk() {
        Chunk::Data(data) => String::from_utf8(data).unwrap(),
        end => panic!("the stream ended: {end:?}"),
    }
}

/// A proxy before replicas of these names.
fn before<const N: usize>(names: [&'static str; N], toml: &str) -> (Pinring, [Replica; N]) {
    let replicas = names.map(Replica::new);
    let backends = replicas.each_ref().map(|replica| &replica.backend);
    (Pinring::before(&backends, toml), replicas)
}

/// A proxy, three replicas, and the client of a stream that they all have acknowledged.
fn three(toml: &str) -> (Pinring, [Replica; 3], Client, [Listen; 3]) {
    let (pinring, replicas) = before(["a", "b", "c"], &format!("{FAN_OUT}{toml}"));
    let mut client = listen(&pinring);
    let listens = replicas.each_ref().map(Replica::stream);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    let all = acknowledgement(&json!({ "toolsListChanged": true }));
    assert_eq!(heard(&mut client), event(&all));
    (pinring, replicas, client, listens)
}

/// A task of the replica that calls itself `name`.
fn task_of(name: &str, kind: &str, pinring: &Pinring) -> String {
    let params = json!({ "name": "work", "arguments": { "kind": kind } });
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let mut id = String::new();
    eventually(&format!("a task of {name}"), || {
        let answer = Client::once(pinring.address(), "POST", &headers("tools/call"), &body);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        id = answer["result"]["taskId"].as_str().unwrap().to_owned();
        id.starts_with(&format!("{kind} of {name}-"))
    });
    id
}

#[test]
fn news_of_every_replica_reach_the_client_and_one_acknowledgement() {
    let (pinring, _replicas, mut client, mut listens) = three("");
    for _ in 0..3 {
        for (name, listen) in ["a", "b", "c"].into_iter().zip(&mut listens) {
            listen.say(&news(name));
            assert_eq!(heard(&mut client), event(&news(name)));
        }
    }
    for listen in &listens {
        assert_eq!(
            listen.request.body,
            body(&json!({ "toolsListChanged": true })).as_bytes()
        );
        assert_eq!(listen.request.header("accept-encoding"), Some("identity"));
    }
    drop(client);
    pinring.wait_for_log("\"route\":\"fan-out\"");
    pinring.wait_for_log("\"end\":\"client_left\"");
}

#[test]
fn without_fan_out_one_replica_is_asked() {
    let (pinring, replicas) = before(["a", "b", "c"], "");
    let mut client = listen(&pinring);
    eventually("it is asked", || {
        replicas
            .iter()
            .any(|replica| !replica.backend.received().is_empty())
    });
    let asked = replicas
        .iter()
        .find(|replica| !replica.backend.received().is_empty());
    asked.unwrap().stream();
    client.head();
    heard(&mut client);
    let asked: usize = replicas
        .iter()
        .map(|replica| replica.backend.received().len())
        .sum();
    assert_eq!(asked, 1);
}

#[test]
fn what_the_replicas_agree_to_is_acknowledged_as_one() {
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    let [mut a, mut b] = replicas.each_ref().map(Replica::listen);
    a.asked.begin_stream();
    a.acknowledge(&json!({ "toolsListChanged": true }))
        .say(&news("a"));
    client.head();
    assert!(client.is_quiet_for(SOON), "the other has not spoken");
    b.asked.begin_stream();
    b.acknowledge(&json!({ "promptsListChanged": true }));
    let first = heard(&mut client);
    let data = first.strip_prefix("event: message\ndata: ").unwrap();
    let said: Value = serde_json::from_str(data).unwrap();
    let both = json!({ "toolsListChanged": true, "promptsListChanged": true });
    assert_eq!(said, acknowledgement(&both));
    assert_eq!(heard(&mut client), event(&news("a")), "held until then");
}

#[test]
fn a_replica_that_hangs_holds_nobody_up() {
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    let (mut a, mut b) = (replicas[0].listen(), replicas[1].stream());
    client.head();
    let all = json!({ "toolsListChanged": true });
    assert_eq!(heard(&mut client), event(&acknowledgement(&all)));
    b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
    // It wakes up, and its late acknowledgement is nobody's business.
    a.asked.begin_stream();
    a.acknowledge(&all).say(&news("a"));
    assert_eq!(heard(&mut client), event(&news("a")));
}

#[test]
fn a_task_goes_to_the_replica_that_holds_it_alone() {
    let (pinring, replicas) = before(["a", "b", "c"], FAN_OUT);
    let (of_a, of_b) = (task_of("a", "x", &pinring), task_of("b", "x", &pinring));
    let other = task_of("b", "y", &pinring);
    let ids = [&*of_b, "nobody's", &of_a, &other];
    let mut client = ask(
        &pinring,
        &json!({ "taskIds": ids, "toolsListChanged": true }),
    );
    let mut listens = replicas.each_ref().map(Replica::listen);
    // What names none goes where all would go without fan-out: to the replica of the first that names one.
    let asked = listens.each_ref().map(Listen::task_ids);
    assert_eq!(
        asked,
        [
            json!(["x of a"]),
            json!(["x of b", "nobody's", "y of b"]),
            json!([])
        ]
    );
    for (listen, ids) in listens.iter_mut().zip(asked) {
        listen.asked.begin_stream();
        listen.acknowledge(&json!({ "taskIds": ids }));
    }
    client.head();
    let said = heard(&mut client);
    let said: Value = serde_json::from_str(said.split_once("data: ").unwrap().1).unwrap();
    let agreed: Vec<&str> = said["params"]["notifications"]["taskIds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let agreed: HashSet<&str> = agreed
        .into_iter()
        .filter(|id| !id.starts_with("nobody's"))
        .collect();
    assert_eq!(
        agreed,
        HashSet::from([&*of_a, &*of_b, &*other]),
        "as the client knows them"
    );
    let about = |id: &str| json!({ "method": "notifications/tasks", "params": { "taskId": id } });
    for (listen, own, id) in [
        (0, "x of a", &of_a),
        (1, "y of b", &other),
        (1, "x of b", &of_b),
    ] {
        listens[listen].say(&about(own));
        assert_eq!(heard(&mut client), event(&about(id)));
    }
}

const BOUND: &str = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\nbind = \"jwt:sub\"\n";

/// The header line of a token of `sub`.
fn token_of(sub: &str) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let (header, claims) = (part(json!({})), part(json!({ "iss": "i", "sub": sub })));
    format!("authorization: Bearer {header}.{claims}.s\r\n")
}

/// Asks with further header lines.
fn ask_as(whose: &str, method: &str, pinring: &Pinring, body: &str) -> Client {
    let mut client = Client::connect(pinring.address());
    let headers = format!("{}{whose}", headers(method));
    client.send(request("POST", &headers, body));
    client
}

#[test]
fn a_session_that_listening_opens_is_ended_where_sessions_are_bound_or_counted() {
    let counted = "[limits]\nsessions_per_backend = 9\n";
    for (toml, is_ended) in [(BOUND, true), (counted, true), ("", false)] {
        let (pinring, replicas) = before(["a", "b"], &format!("{FAN_OUT}{toml}"));
        let mut client = ask(&pinring, &json!({ "toolsListChanged": true }));
        let _listens = replicas.each_ref().map(|replica| {
            let mut listen = replica.listen();
            listen.asked.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nmcp-session-id: id\r\n\
                 transfer-encoding: chunked\r\n\r\n",
            );
            listen.acknowledge(&json!({ "toolsListChanged": true }));
            listen
        });
        assert!(
            !client
                .head()
                .to_ascii_lowercase()
                .contains("mcp-session-id")
        );
        heard(&mut client);
        let ended = |replica: &Replica| {
            let mut received = replica.backend.received().into_iter();
            received.any(|request| {
                request.line().starts_with("DELETE ")
                    && request.header("mcp-session-id") == Some("id")
            })
        };
        if is_ended {
            eventually("both are ended", || replicas.iter().all(ended));
        } else {
            assert!(!replicas.iter().any(ended));
        }
    }
}

#[test]
fn a_task_is_heard_of_by_its_owner_where_it_is_bound() {
    let (pinring, [a, b]) = before(["a", "b"], &format!("{FAN_OUT}{BOUND}"));
    let ann = token_of("ann");
    let call = json!({ "id": 1, "params": { "name": "x", "arguments": { "kind": "x" } } });
    let answer = ask_as(&ann, "tools/call", &pinring, &call.to_string()).answer();
    let result: Value = serde_json::from_slice(&answer.body).unwrap();
    let id = result["result"]["taskId"].as_str().unwrap().to_owned();
    let (home, other) = if id.starts_with("x of a-") {
        (a, b)
    } else {
        (b, a)
    };
    let own = id.rsplit_once('-').unwrap().0;
    let wanted = body(&json!({ "taskIds": [id] }));
    let _anns = ask_as(&ann, "subscriptions/listen", &pinring, &wanted);
    assert_eq!(home.stream().task_ids(), json!([own]));
    assert!(other.is_left_alone());
    // To anybody else it is a string like any other.
    let _bobs = ask_as(&token_of("bob"), "subscriptions/listen", &pinring, &wanted);
    let mut asked = None;
    eventually("somebody is asked", || {
        let listens = [&home, &other].map(|replica| replica.listens.try_recv().ok());
        asked = listens.into_iter().flatten().next();
        asked.is_some()
    });
    assert_eq!(asked.unwrap().task_ids(), json!([id]));
}

#[test]
fn who_asks_about_tasks_alone_is_no_stream_at_the_others() {
    let (pinring, replicas) = before(["a", "b", "c"], FAN_OUT);
    let id = task_of("b", "x", &pinring);
    let mut client = ask(&pinring, &json!({ "taskIds": [id] }));
    let mut b = replicas[1].stream();
    client.head();
    heard(&mut client);
    b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
    assert!(replicas[0].is_left_alone() && replicas[2].is_left_alone());
}

#[test]
fn when_the_client_leaves_every_replica_knows_at_once() {
    let (_pinring, _replicas, client, mut listens) = three("");
    let left = Instant::now();
    drop(client);
    for listen in &mut listens {
        assert!(listen.asked.is_closed_within(PATIENCE));
    }
    assert!(left.elapsed() <= SOON, "{:?}", left.elapsed());
}

#[test]
fn a_replica_that_is_killed_is_heard_again_when_it_is_back() {
    let (_pinring, [a, _b, _c], mut client, [at_a, mut at_b, _at_c]) = three("");
    let first = at_a.request.body.clone();
    let address = a.kill(at_a);
    at_b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")), "nobody else noticed");
    let again = Replica::at(address, "a");
    let mut at_a = again.stream();
    assert_eq!(at_a.request.body, first);
    at_a.say(&news("a"));
    assert_eq!(
        heard(&mut client),
        event(&news("a")),
        "without another acknowledgement"
    );
}

#[test]
fn a_replica_that_cuts_its_stream_gets_another_request() {
    let (_pinring, [a, ..], mut client, [mut at_a, ..]) = three("");
    at_a.asked.chunk("event: message\ndata: {\"method\":");
    drop(at_a);
    let mut at_a = a.stream();
    at_a.say(&news("a"));
    assert_eq!(
        heard(&mut client),
        event(&news("a")),
        "without the half of an event"
    );
}

#[test]
fn a_replica_that_was_down_at_first_is_heard_when_it_is_there() {
    let (a, closed) = (Replica::new("a"), Closed::new());
    let entries = format!(
        "backends = [{{ name = \"a\", url = \"http://{}\" }}, {{ name = \"b\", url = \"http://{}\" }}]\n{FAN_OUT}",
        a.backend.address(),
        closed.address()
    );
    let pinring = Pinring::start(&entries);
    let mut client = listen(&pinring);
    a.stream();
    client.head();
    heard(&mut client);
    let address = closed.address();
    drop(closed);
    let b = Replica::at(address, "b");
    let mut at_b = b.stream();
    at_b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
}

#[test]
fn replicas_that_join_are_heard_and_those_that_leave_are_let_go() {
    let replicas = ["a", "b", "c", "d"].map(Replica::new);
    let [a, b, c, d] = replicas.each_ref().map(|replica| &replica.backend);
    let pinring = Pinring::start(&format!(
        "{}{FAN_OUT}",
        listing(&[("a", a, ""), ("b", b, ""), ("c", c, "")])
    ));
    let mut client = listen(&pinring);
    let [mut at_a, mut at_b, mut at_c] = [0, 1, 2].map(|index: usize| replicas[index].stream());
    client.head();
    heard(&mut client);

    let joined = listing(&[("a", a, ""), ("b", b, ", draining = true"), ("d", d, "")]);
    pinring.reload(&format!("{joined}{FAN_OUT}"));
    let mut at_d = replicas[3].stream(); // long before it gets new work
    at_d.say(&news("d"));
    assert_eq!(heard(&mut client), event(&news("d")));
    assert!(at_b.asked.is_closed_within(PATIENCE), "it drains");
    assert!(at_c.asked.is_closed_within(PATIENCE), "it has left");
    at_a.say(&news("a"));
    assert_eq!(heard(&mut client), event(&news("a")));

    // The last one is not let go: nobody else would be left.
    let draining = listing(&[("a", a, ", draining = true")]);
    pinring.reload(&format!("{draining}{FAN_OUT}"));
    assert!(!at_d.asked.is_closed_within(SOON));
    at_a.say(&news("a"));
    assert_eq!(heard(&mut client), event(&news("a")));
}

#[test]
fn a_task_is_heard_of_while_its_replica_drains() {
    let replicas = ["a", "b"].map(Replica::new);
    let [a, b] = replicas.each_ref().map(|replica| &replica.backend);
    let pinring = Pinring::start(&format!(
        "{}{FAN_OUT}",
        listing(&[("a", a, ""), ("b", b, "")])
    ));
    let id = task_of("b", "x", &pinring);
    let draining = listing(&[("a", a, ""), ("b", b, ", draining = true")]);
    pinring.reload(&format!("{draining}{FAN_OUT}"));
    let mut client = ask(
        &pinring,
        &json!({ "taskIds": [id], "toolsListChanged": true }),
    );
    let (_at_a, mut at_b) = (replicas[0].stream(), replicas[1].stream());
    client.head();
    heard(&mut client);
    at_b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
}

#[test]
fn the_stream_ends_properly_when_all_replicas_have_ended_theirs() {
    let (_pinring, [a, b, _c], mut client, [mut at_a, mut at_b, mut at_c]) = three("");
    at_a.end(&result("a"));
    // It restarts, and is heard again; so the stream goes on.
    let mut at_a = a.stream();
    at_a.say(&news("a"));
    assert_eq!(
        heard(&mut client),
        event(&news("a")),
        "its end was nobody's business"
    );
    b.backend.stop();
    for (name, listen) in [("b", &mut at_b), ("c", &mut at_c)] {
        listen.end(&result(name));
    }
    at_a.end(&result("a"));
    let last = heard(&mut client);
    assert!(
        ["a", "b", "c"]
            .map(|name| event(&result(name)))
            .contains(&last),
        "{last}"
    );
    assert_eq!(client.chunk(), Chunk::Last);
}

#[test]
fn replicas_that_go_down_one_after_the_other_end_the_stream_properly_all_the_same() {
    let (pinring, replicas, mut client, [mut a, mut b, mut c]) = three("");
    for (name, listen, replica) in [("a", &mut a, &replicas[0]), ("b", &mut b, &replicas[1])] {
        replica.backend.stop();
        listen.end(&result(name));
        eventually("it is tried again in vain", || {
            let mut tried = pinring
                .log()
                .into_iter()
                .filter(|line| line.contains("cannot be opened"));
            tried.any(|line| line.contains(&format!("\"backend\":\"{name}\"")))
        });
    }
    replicas[2].backend.stop();
    c.end(&result("c"));
    assert_eq!(heard(&mut client), event(&result("c")));
    assert_eq!(client.chunk(), Chunk::Last);
}

#[test]
fn a_server_that_ends_at_once_is_heard_to_the_end() {
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    for replica in &replicas {
        // As an SDK's server does that has nothing of what is asked for: with a length, for it knows the whole.
        let whole = format!(
            "{}{}",
            event(&acknowledgement(&json!({}))),
            event(&result("it"))
        );
        replica
            .listen()
            .asked
            .send(ok("content-type: text/event-stream\r\n", &whole));
    }
    assert!(client.head().contains("transfer-encoding: chunked"));
    assert_eq!(heard(&mut client), event(&acknowledgement(&json!({}))));
    assert_eq!(heard(&mut client), event(&result("it")));
    assert_eq!(client.chunk(), Chunk::Last);
}

const NOT_FOUND: &str =
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}";

fn refuse(listen: &mut Listen) {
    let length = NOT_FOUND.len();
    listen.asked.send(format!(
        "HTTP/1.1 404 Not Found\r\nx-own: yes\r\n{JSON}content-length: {length}\r\n\r\n{NOT_FOUND}"
    ));
}

#[test]
fn a_replica_that_refuses_is_not_shown_as_long_as_another_does_not() {
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    refuse(&mut replicas[0].listen());
    pinring.wait_for_log("refuses a stream of changes");
    let mut b = replicas[1].stream();
    client.head();
    heard(&mut client);
    b.say(&news("b")).end(&result("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
    assert_eq!(
        heard(&mut client),
        event(&result("b")),
        "the one that counts"
    );
    assert_eq!(client.chunk(), Chunk::Last);
}

#[test]
fn where_all_refuse_the_first_refusal_passes_unchanged() {
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    refuse(&mut replicas[0].listen());
    pinring.wait_for_log("refuses a stream of changes");
    replicas[1]
        .listen()
        .asked
        .send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.text()), (404, NOT_FOUND));
    assert_eq!(answer.header("x-own"), Some("yes"));
    assert_eq!(
        answer.header("content-length"),
        Some(&*NOT_FOUND.len().to_string())
    );
}

#[test]
fn an_error_in_the_streams_of_all_is_the_client_s_too() {
    let error =
        json!({ "id": 1, "error": { "code": -32603, "message": "Subscription limit reached" } });
    let (pinring, replicas) = before(["a", "b"], FAN_OUT);
    let mut client = listen(&pinring);
    for replica in &replicas {
        let mut listen = replica.listen();
        listen.asked.begin_stream();
        listen.end(&error);
    }
    client.head();
    assert_eq!(heard(&mut client), event(&error));
    assert_eq!(client.chunk(), Chunk::Last);
}

fn answer_of(pinring: &Pinring) -> Answer {
    listen(pinring).answer()
}

#[test]
fn where_nobody_can_be_reached_it_is_answered_as_without_fan_out() {
    let closed = [Closed::new(), Closed::new()];
    let entry = |closed: &Closed| format!("\"http://{}\"", closed.address());
    let backends = closed
        .each_ref()
        .map(entry)
        .map(|url| format!("{{ url = {url} }}"));
    let text = format!(
        "backends = [{}]\ntimeouts = {{ connect = \"200ms\" }}\n",
        backends.join(", ")
    );
    let answers = ["", FAN_OUT].map(|more| answer_of(&Pinring::start(&format!("{text}{more}"))));
    for answer in answers {
        assert_eq!((answer.status, &*answer.reason()), (503, "connect_refused"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[test]
fn where_everybody_is_down_for_a_moment_the_client_waits_and_hears_all() {
    let closed = Closed::new();
    let text = format!(
        "backends = [{{ name = \"a\", url = \"http://{}\" }}]\n{FAN_OUT}",
        closed.address()
    );
    let pinring = Pinring::start(&format!("{text}\n[timeouts]\nconnect = \"20s\"\n"));
    let mut client = listen(&pinring);
    pinring.wait_for_log("a stream of changes cannot be opened");
    let address = closed.address();
    drop(closed);
    let a = Replica::at(address, "a");
    let mut at_a = a.stream();
    client.head();
    heard(&mut client);
    at_a.say(&news("a"));
    assert_eq!(heard(&mut client), event(&news("a")));
}

#[test]
fn a_silent_stream_gets_comments_of_pinring_s_own_alone() {
    let (_pinring, _replicas, mut client, mut listens) =
        three("[timeouts]\nstream_comment = \"1s\"\n");
    for listen in &mut listens {
        listen
            .asked
            .chunk(": ping\n\n")
            .chunk("id: 7\nretry: 5\ndata:\n\n");
    }
    let began = Instant::now();
    assert_eq!(heard(&mut client), ":\n\n");
    assert_eq!(heard(&mut client), ":\n\n");
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "one after each silence"
    );
    listens[2].say(&news("c"));
    assert_eq!(heard(&mut client), event(&news("c")));
}

#[test]
fn a_stream_that_is_silent_for_too_long_is_cut() {
    let (pinring, _replicas, mut client, mut listens) = three("[timeouts]\nstream_idle = \"1s\"\n");
    listens[0].say(&news("a"));
    heard(&mut client);
    assert_eq!(client.chunk(), Chunk::Truncated);
    assert!(
        listens
            .iter_mut()
            .all(|listen| listen.asked.is_closed_within(PATIENCE))
    );
    pinring.wait_for_log("\"end\":\"idle\"");
}

#[test]
fn events_stay_whole_however_they_come() {
    let (_pinring, _replicas, mut client, [mut a, mut b, mut c]) = three("");
    a.asked.chunk("id: 1\r\nda").chunk("ta: {\"method\":\r\n");
    b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
    a.asked.chunk("data: \"notifications/a\"}\r");
    c.asked
        .chunk(&format!("{}{}", event(&news("c")), event(&news("d"))));
    assert_eq!(heard(&mut client), event(&news("c")));
    assert_eq!(heard(&mut client), event(&news("d")));
    a.asked.chunk("\n\r\n");
    let whole = "data: {\"method\":\r\ndata: \"notifications/a\"}\r\n\r\n";
    assert_eq!(heard(&mut client), whole, "but for its id");
}

#[test]
fn garbage_of_one_replica_harms_nobody_else() {
    let (_pinring, [a, ..], mut client, [mut at_a, mut at_b, _at_c]) =
        three("[limits]\nbody_bytes = \"1KiB\"\n");
    // What is no message passes as it does without fan-out; what is no event stream is given up.
    at_a.asked.chunk("data: garbage\n\n");
    assert_eq!(heard(&mut client), "data: garbage\n\n");
    at_a.asked.chunk(&"\0no lines at all".repeat(100));
    assert!(at_a.asked.is_closed_within(PATIENCE));
    at_b.say(&news("b"));
    assert_eq!(heard(&mut client), event(&news("b")));
    let mut at_a = a.stream();
    at_a.say(&news("a"));
    assert_eq!(heard(&mut client), event(&news("a")));
}

#[test]
fn an_end_of_pinring_ends_the_stream_between_two_events() {
    let (mut pinring, _replicas, mut client, [mut a, mut b, _c]) =
        three("[timeouts]\ndrain = \"4s\"\n");
    a.say(&news("a"));
    b.asked.chunk("data: half of an ev");
    assert_eq!(heard(&mut client), event(&news("a")));
    pinring.signal("TERM");
    assert_eq!(client.chunk(), Chunk::Last);
    assert!(a.asked.is_closed_within(PATIENCE) && b.asked.is_closed_within(PATIENCE));
    assert!(pinring.wait().success());
    assert!(
        pinring
            .log()
            .iter()
            .any(|line| line.contains("\"end\":\"drained\""))
    );
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let (pinring, _replicas, mut client, listens) = three("");
    let before = pinring.memory();
    let long = event(&json!({ "method": "notifications/x", "params": "x".repeat(50_000) }));
    let chunk = format!("{:x}\r\n{long}\r\n", long.len()).into_bytes();
    let writers = listens.map(|mut listen| {
        let chunk = chunk.clone();
        std::thread::spawn(move || {
            let stalls = Some(Duration::from_secs(1));
            listen.asked.stream.set_write_timeout(stalls).unwrap();
            let mut written = 0;
            while written < 200_000_000
                && std::io::Write::write_all(&mut listen.asked.stream, &chunk).is_ok()
            {
                written += chunk.len();
            }
            (written, listen)
        })
    });
    let written = writers.map(|writer| writer.join().unwrap());
    assert!(
        written.iter().all(|(written, _)| *written < 200_000_000),
        "pinring reads what nobody takes"
    );
    let more = pinring.memory().saturating_sub(before);
    assert!(more < 8, "{more} MiB more");
    // Who begins to read gets whole events of all.
    for _ in 0..30 {
        assert_eq!(heard(&mut client), long);
    }
}
