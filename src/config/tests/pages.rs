//! `server.allowed_origins` and `[cors]`.

use super::*;

fn allowed(text: &str) -> String {
    config(text).server.allowed_origins.to_string()
}

fn cors(text: &str) -> Arc<Cors> {
    config(&format!("[cors]\n{text}")).cors.unwrap()
}

#[test]
fn pages_of_other_machines_may_ask_only_where_other_machines_can_connect() {
    assert_eq!(allowed(""), "[\"loopback\"]");
    for listen in ["\"[::1]:1\"", "[\"127.0.0.1:1\", \"[::ffff:127.0.0.1]:2\"]"] {
        let config = config(&format!("[server]\nlisten = {listen}"));
        assert_eq!(config.server.allowed_origins, Origins::loopback());
    }
    let open = config("[server]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:2\"]");
    assert!(open.server.allowed_origins.is_any());
    let note = &open.notes[0];
    assert!(note.contains("0.0.0.0:2") && note.contains("server.allowed_origins"));
}

#[test]
fn the_list_of_the_file_replaces_the_default_and_is_noted_nowhere() {
    let text = "[server]\nlisten = \"0.0.0.0:2\"\nallowed_origins = ";
    for list in ["[\"https://app.example.com\"]", "[\"*\"]"] {
        let config = config(&format!("{text}{list}"));
        assert_eq!(config.server.allowed_origins.to_string(), list);
        assert!(!config.notes[0].contains("allowed_origins"));
    }
    let fault = fault("[server]\nallowed_origins = [\"https://a\", \"app.example.com\"]");
    assert!(
        fault.starts_with(
            "2: server.allowed_origins[1] = \"app.example.com\": write scheme and host, and"
        ),
        "{fault}"
    );
}

#[test]
fn who_may_read_answers_may_ask() {
    let text = "[server]\nallowed_origins = [\"https://a\"]\n[cors]\norigins = [\"https://b\", \"https://a\"]";
    assert_eq!(allowed(text), "[\"https://a\", \"https://b\"]");
}

#[test]
fn who_may_ask_may_read_answers_unless_that_is_everybody() {
    let origins = |text: &str| {
        let cors = config(&format!("{text}\n[cors]")).cors.unwrap();
        cors.origins.to_string()
    };
    assert_eq!(
        origins("[server]\nallowed_origins = [\"https://a\"]"),
        "[\"https://a\"]"
    );
    assert_eq!(
        origins("[server]\nallowed_origins = [\"*\"]"),
        "[\"loopback\"]"
    );
    assert_eq!(origins(""), "[\"loopback\"]");
    assert!(config("").cors.is_none());
}

#[test]
fn names_of_the_file_stand_behind_those_of_all_revisions() {
    let default = cors("");
    for name in [
        crate::mcp::era::SESSION_ID,
        crate::mcp::era::PROTOCOL_VERSION,
        crate::mcp::era::METHOD,
        crate::mcp::era::NAME,
        crate::mcp::era::LAST_EVENT_ID,
        http::header::AUTHORIZATION,
    ] {
        let headers = default.headers.to_str().unwrap().to_ascii_lowercase();
        assert!(headers.split(", ").any(|known| known == name), "{name}");
    }
    assert_eq!(default.max_age, "7200");
    let more = cors(
        "methods = [\"PUT\", \"GET\"]\nheaders = [\"X-Tenant\", \"accept\"]\nmax_age = \"0s\"",
    );
    assert_eq!(more.methods, "GET, POST, DELETE, PUT");
    assert_eq!(more.max_age, "0");
    let expected = format!("{}, X-Tenant", default.headers.to_str().unwrap());
    assert_eq!(more.headers, expected);
}

#[test]
fn what_would_be_no_header_is_refused() {
    for (text, expected) in [
        (
            "methods = [\"put\"]",
            "2: cors.methods[0] = \"put\": write a method, such as \"PUT\"",
        ),
        (
            "headers = [\"X Tenant\"]",
            "2: cors.headers[0] = \"X Tenant\": write a header's name, such as \"X-Tenant\"",
        ),
        (
            "exposed_headers = [\"\"]",
            "2: cors.exposed_headers[0] = \"\": write a header's name, such as \"X-Tenant\"",
        ),
    ] {
        assert_eq!(fault(&format!("[cors]\n{text}")), expected);
    }
    let fault = fault("[cors]\norigins = [\"*\"]\ncredentials = true");
    assert!(
        fault.starts_with("3: cors.credentials: with origins"),
        "{fault}"
    );
}
