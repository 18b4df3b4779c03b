//! The admin address: who may read, who may change, and what becomes of it where two want it.

use std::fs;

use serde_json::Value;

use crate::support::{
    Backend, Chunk, Client, Pinring, administrated_by_tcp, ask, eventually, socket_in,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const RIGHT: &str = "authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
const DRAIN: &str = r#"{"backend":"a"}"#;

/// One that takes changes by the token of TEST_SECRET, which is [`TOKEN`].
fn with_token(backend: &Backend) -> Pinring {
    let backends = Pinring::backends(&[backend]);
    administrated_by_tcp(&backends, "admin_token = \"env:TEST_SECRET\"")
}

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    let reason = answer.1["error"]["reason"].as_str();
    (answer.0, reason.unwrap_or_default())
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_reads_nothing() {
    let backend = Backend::stateful("a");
    let pinring = with_token(&backend);
    let read = |headers: &str| pinring.ask_by_tcp("GET", "/status", headers, "");
    assert_eq!(read("").0, 200);
    assert_eq!(read("host: localhost:1\r\n").0, 200);
    let rebound = read("host: evil.example:9901\r\n");
    assert_eq!(reason(&rebound), (403, "host_not_allowed"));
    let foreign = read("host: localhost\r\norigin: https://evil.example\r\n");
    assert_eq!(reason(&foreign), (403, "origin_not_allowed"));
    let told = rebound.1.to_string() + &foreign.1.to_string();
    assert!(!told.contains("127.0.0.1:"), "nothing else is told: {told}");
    assert_eq!(read(&format!("host: pinring.svc:9901\r\n{RIGHT}")).0, 200);
}

#[test]
fn a_change_needs_the_token_and_leaves_a_line() {
    let backend = Backend::stateful("a");
    let pinring = with_token(&backend);
    let drain = |headers: &str| pinring.ask_by_tcp("POST", "/drain", headers, DRAIN);
    assert_eq!(reason(&drain("")), (401, "token_missing"));
    let wrong = RIGHT.replace("bcdef\r\n", "bcdeg\r\n");
    assert_eq!(reason(&drain(&wrong)), (401, "token_wrong"));
    let page = format!("{RIGHT}origin: https://evil.example\r\n");
    assert_eq!(reason(&drain(&page)), (403, "origin_not_allowed"));
    let state = || pinring.ask_by_tcp("GET", "/backends", "", "").1["backends"][0]["state"].clone();
    assert_eq!(state(), "open");
    assert!(pinring.find_log("action").is_none(), "nothing was changed");
    assert_eq!(drain(RIGHT).0, 200);
    assert_eq!(state(), "draining");
    eventually("the change is in the log", || {
        pinring.find_log("action").is_some()
    });
    let line = pinring.find_log("action").unwrap();
    assert_eq!(
        (&line["action"], &line["backend"]),
        (&"drain".into(), &"a".into())
    );
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
    assert!(!pinring.log().join("\n").contains(TOKEN));
}

#[test]
fn a_reload_brings_another_token() {
    let backend = Backend::stateful("a");
    let pinring = with_token(&backend);
    let toml = fs::read_to_string(pinring.file()).unwrap();
    let token = "another-token-of-more-than-16";
    fs::write(pinring.file().with_file_name("token"), format!("{token}\n")).unwrap();
    let admin = pinring.admin_address();
    let toml = toml.replace("env:TEST_SECRET", "file:token");
    let reload = |headers: &str| pinring.ask_by_tcp("POST", "/reload", headers, "");
    pinring.write(&toml);
    // By the watcher, or by this: whoever is first.
    let told = reload(RIGHT);
    assert!([200, 401].contains(&told.0), "{told:?}");
    eventually("the new token holds", || {
        reload(&format!("authorization: Bearer {token}\r\n")).0 == 200
    });
    assert_eq!(reason(&reload(RIGHT)), (401, "token_wrong"));
    assert_eq!(pinring.admin_address(), admin);
}

#[test]
fn without_a_token_changes_are_for_the_socket_alone() {
    let backend = Backend::stateful("a");
    let folder = tempfile::tempdir().unwrap();
    let socket = socket_in(folder.path());
    let toml = format!(
        "{}\n[server]\nlisten = \"127.0.0.1:0\"\nadmin = [\"127.0.0.1:0\", \"unix:{}\"]\n",
        Pinring::backends(&[&backend]),
        socket.display()
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    for headers in ["", RIGHT] {
        let told = pinring.ask_by_tcp("POST", "/drain", headers, DRAIN);
        assert_eq!(reason(&told), (403, "changes_refused"));
        let message = told.1["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("unix:/") && message.contains("admin_token"),
            "{message}"
        );
    }
    let told = pinring.ask_by_tcp("POST", "/take-over", "", "");
    assert_eq!(told.0, 403);
    assert_eq!(ask(&socket, "POST", "/drain", DRAIN).0, 200);
    let both = pinring.find_log("admin").unwrap()["admin"].to_string();
    assert!(
        both.contains("unix:/") && both.contains("127.0.0.1:"),
        "{both}"
    );
}

#[test]
fn an_address_that_is_named_and_taken_is_a_failed_start() {
    let backend = Backend::stateful("a");
    let pinring = with_token(&backend);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pinring.toml");
    let backends = Pinring::backends(&[&backend]);
    let admin = pinring.admin_address();
    let toml = format!("{backends}\n[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"{admin}\"\n");
    fs::write(&file, toml).unwrap();
    let (code, told) = super::failed_start(&file);
    let says = told.contains(&format!("cannot listen on {admin}, the admin listener"));
    assert!(
        code == Some(1) && says && told.contains("server.admin"),
        "{told}"
    );
}

#[test]
fn a_default_address_that_is_taken_is_done_without() {
    let backend = Backend::stateful("a");
    // Another test may have it already; then both of these do without.
    let pinrings =
        [(); 2].map(|()| Pinring::before(&[&backend], "[server]\nlisten = \"127.0.0.1:0\"\n"));
    let places: Vec<String> = pinrings
        .iter()
        .map(|pinring| {
            pinring.find_log("admin").unwrap()["admin"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(places.contains(&"none".to_owned()), "{places:?}");
    let without = pinrings
        .iter()
        .zip(&places)
        .filter(|(_, place)| *place == "none");
    for (pinring, _) in without {
        pinring.wait_for_log("no admin listener");
    }
}

#[test]
fn the_dashboard_is_a_page_of_its_own_and_told_each_second() {
    let backend = Backend::stateful("a");
    let pinring = with_token(&backend);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut client = Client::connect(pinring.admin_address());
    let page = client.send(get("/")).answer();
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for part in ["dashboard.css", "dashboard.js"] {
        assert!(page.text().contains(part));
        assert_eq!(client.send(get(&format!("/{part}"))).answer().status, 200);
    }
    Client::initialize(pinring.address());
    let head = client.send(get("/events")).head();
    assert!(head.contains("text/event-stream"), "{head}");
    for _ in 0..2 {
        let Chunk::Data(event) = client.chunk() else {
            panic!("the stream goes on");
        };
        let event = String::from_utf8(event).unwrap();
        let data = event.strip_prefix("event: status\ndata: ").unwrap();
        let told: Value = serde_json::from_str(data).unwrap();
        assert_eq!(told["pools"][0]["backends"][0]["name"], "a");
        assert_eq!(told["traffic"][0]["requests"], 1);
    }
    let (status, ring) = pinring.ask_by_tcp("GET", "/ring?pool=default", "", "");
    assert_eq!((status, &ring["backends"][0]), (200, &"a".into()));
    assert_eq!(ring["slices"].as_array().unwrap().len(), 2048);
    let nobodys = pinring.ask_by_tcp("GET", "/ring", "", "");
    assert_eq!(reason(&nobodys), (404, "no_pool"));
}
