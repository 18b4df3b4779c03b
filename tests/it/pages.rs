//! Web pages: whose may ask, and what lets a browser show them the answers.

use crate::support::{Answer, Backend, Client, Pinring, listing, ok};

const APP: &str = "https://app.example.com";
const CORS: &str = "[cors]\norigins = [\"https://app.example.com\"]";

fn preflight(pinring: &Pinring, origin: &str) -> Answer {
    let headers = format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,mcp-param-tenant,mcp-session-id\r\n"
    );
    Client::once(pinring.address(), "OPTIONS", &headers, "")
}

fn from(pinring: &Pinring, origin: &str, headers: &str) -> Answer {
    let headers = format!("origin: {origin}\r\n{headers}");
    Client::once(pinring.address(), "POST", &headers, "{}")
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_gets_403_and_no_backend_sees_it() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    for origin in ["http://evil.example:8080", "null", "http://a, http://b"] {
        for answer in [from(&pinring, origin, ""), preflight(&pinring, origin)] {
            assert_eq!(
                (answer.status, &*answer.reason()),
                (403, "origin_not_allowed")
            );
        }
    }
    assert!(backend.received().is_empty());
    assert_eq!(from(&pinring, "http://localhost:6274", "").status, 200);
    let request = backend.received().pop().unwrap();
    assert_eq!(request.header("origin"), Some("http://localhost:6274"));
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        200
    );
}

#[test]
fn a_reload_changes_whose_pages_may_ask_and_read() {
    let backend = Backend::stateful("a");
    let config = |list: &str| {
        let backends = Pinring::backends(&[&backend]);
        format!("{backends}\n[server]\nlisten = \"127.0.0.1:0\"\nallowed_origins = [{list}]\n")
    };
    let pinring = Pinring::start(&config("\"https://other.example\""));
    assert_eq!(from(&pinring, APP, "").status, 403);
    pinring.reload(&config(&format!("\"{APP}\"")));
    let answer = from(&pinring, APP, "");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    pinring.reload(&format!("{}{CORS}\n", config("")));
    assert_eq!(
        from(&pinring, APP, "").header("access-control-allow-origin"),
        Some(APP)
    );
}

#[test]
fn preflights_are_answered_without_a_backend_and_in_the_log() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], CORS);
    let answer = preflight(&pinring, APP);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    let allowed = answer.headers("access-control-allow-headers").join(", ");
    assert!(allowed.contains("Mcp-Session-Id") && allowed.contains("mcp-param-tenant"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    pinring.wait_for_log("\"method\":\"OPTIONS\"");
    assert!(backend.received().is_empty());
}

#[test]
fn preflights_reach_the_home_backend_where_pinring_is_not_asked_to_answer() {
    let backend = Backend::answering(ok("access-control-allow-origin: *\r\n", ""));
    let pinring = Pinring::before(&[&backend], "");
    let answer = preflight(&pinring, "http://localhost:1");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("vary"), None);
    assert!(backend.received()[0].line().starts_with("OPTIONS /mcp "));
}

#[test]
fn a_page_reads_its_session_and_why_it_is_gone() {
    let backend = Backend::stateful("a");
    let config = |more: &str| format!("{}{CORS}\n", listing(&[("a", &backend, more)]));
    let pinring = Pinring::start(&config(""));
    let opened = from(&pinring, APP, "");
    let id = opened.header("mcp-session-id").unwrap();
    let altered = format!("mcp-session-id: x{id}\r\n");
    for answer in [&opened, &from(&pinring, APP, &altered)] {
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        let exposed = answer.headers("access-control-expose-headers").join(", ");
        for name in ["Mcp-Session-Id", "WWW-Authenticate", "Pinring-Session"] {
            assert!(exposed.contains(name), "{name}: {exposed}");
        }
    }
    assert_eq!(from(&pinring, APP, &altered).reason(), "tag_invalid");
    let clients = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(clients.header("access-control-allow-origin"), None);
    assert_eq!(clients.header("vary"), Some("Origin"));
}

#[test]
fn where_a_login_begins_passes_unchanged() {
    let challenge = "Bearer error=\"invalid_token\", resource_metadata=\"https://h/.well-known/oauth-protected-resource/mcp\"";
    let answer = format!(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let backend = Backend::answering(answer);
    let pinring = Pinring::before(&[&backend], "");
    for (method, headers) in [
        ("POST", ""),
        ("POST", "mcp-protocol-version: 2026-07-28\r\n"),
        ("GET", ""),
        ("POST", "authorization: Bearer x\r\n"),
    ] {
        let answer = Client::once(pinring.address(), method, headers, "");
        assert_eq!((answer.status, answer.text().as_str()), (401, "{}"));
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
}
