//! Pools: which one a host and path belong to, and what its backends see of the path.

use crate::support::{Answer, Backend, Client, Pinring};

/// One pool with one backend of the same name.
fn pool(name: &str, keys: &str, backend: &Backend) -> String {
    let url = format!("http://{}", backend.address());
    format!(
        "[[pools]]\nname = \"{name}\"\n{keys}\n[[pools.backends]]\nname = \"{name}-1\"\nurl = \"{url}\"\n"
    )
}

/// A request without a body, as a new session's first or of the session of `id`.
fn ask(pinring: &Pinring, host: &str, target: &str, id: Option<&str>) -> Answer {
    let id = id.map_or(String::new(), |id| format!("mcp-session-id: {id}\r\n"));
    let accept = "accept: application/json, text/event-stream";
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "POST {target} HTTP/1.1\r\nhost: {host}\r\n{accept}\r\n{id}content-length: 0\r\n\r\n"
    ));
    client.answer()
}

/// The name of the backend that answers.
fn answered(pinring: &Pinring, host: &str, target: &str) -> String {
    let answer = ask(pinring, host, target, None);
    if answer.status == 200 {
        answer.text()
    } else {
        answer.reason()
    }
}

#[test]
fn the_longest_path_in_whole_segments_wins_and_a_named_host_before_any_host() {
    let names = ["short", "long", "host", "deep"];
    let [short, long, host, deep] = names.map(Backend::stateful);
    let pinring = Pinring::start(
        &[
            pool("short", "match = { path = \"/files\" }", &short),
            pool("long", "match = { path = \"/files/old\" }", &long),
            pool("host", "match = { host = \"Mcp.Example.com\" }", &host),
            pool(
                "deep",
                "match = { host = \"mcp.example.com\", path = \"/deep\" }",
                &deep,
            ),
        ]
        .concat(),
    );
    for (host, target, expected) in [
        ("x", "/files", "short"),
        ("x", "/files/", "short"),
        ("x", "/files?x=/old", "short"),
        ("x", "/files/older", "short"),
        ("x", "/files/old", "long"),
        ("x", "/files/old/mcp", "long"),
        ("x:8080", "/files/old/mcp", "long"),
        ("mcp.example.com", "/files/old", "host"),
        ("MCP.example.COM:8443", "/", "host"),
        ("mcp.example.com.", "/deeper", "host"),
        ("mcp.example.com", "/deep/er", "deep"),
        ("mcp.example.org", "/deep", "no_pool"),
        ("x", "/filesystem", "no_pool"),
        ("x", "/", "no_pool"),
    ] {
        assert_eq!(
            answered(&pinring, host, target),
            expected,
            "{host} {target}"
        );
    }
}

#[test]
fn the_prefix_is_taken_off_before_a_backend_sees_it() {
    let backend = Backend::stateful("a");
    let keys = "match = { path = \"/team/a\" }\nstrip_prefix = \"/team/a\"";
    let pinring = Pinring::start(&pool("a", keys, &backend));
    for (asked, seen) in [
        ("/team/a/mcp", "/mcp"),
        ("/team/a", "/"),
        ("/team/a/", "/"),
        ("/team/a?x=/team/a&y=%20", "/?x=/team/a&y=%20"),
        ("/team/a/mcp?", "/mcp?"),
        ("/team/a/team/a", "/team/a"),
        (
            "/.well-known/oauth-authorization-server/team/a?x=1",
            "/.well-known/oauth-authorization-server?x=1",
        ),
        (
            "/team/a/.well-known/openid-configuration",
            "/.well-known/openid-configuration",
        ),
        ("/team/a/token", "/token"),
    ] {
        assert_eq!(ask(&pinring, "x", asked, None).status, 200);
        let request = backend.received().pop().unwrap();
        let line = format!("POST {seen} HTTP/1.1");
        assert_eq!(request.head.lines().next(), Some(&*line), "{asked}");
        assert_eq!(request.header("x-forwarded-prefix"), Some("/team/a"));
    }
}

#[test]
fn the_document_about_a_resource_is_asked_for_where_its_public_url_says() {
    let backend = Backend::stateful("a");
    let keys = "match = { path = \"/team/a\" }\nstrip_prefix = \"/team/a\"";
    let pinring = Pinring::start(&pool("a", keys, &backend));
    let target = "/.well-known/oauth-protected-resource/team/a/mcp";
    assert_eq!(ask(&pinring, "x", target, None).status, 200);
    let request = backend.received().pop().unwrap();
    assert_eq!(request.line(), format!("POST {target} HTTP/1.1"));
    assert_eq!(request.header("x-forwarded-prefix"), None);
}

#[test]
fn a_prefix_that_was_not_there_is_not_told() {
    let backend = Backend::stateful("a");
    let keys = "match = { path = \"/team\" }\nstrip_prefix = \"/team/a\"";
    let pinring = Pinring::start(&pool("a", keys, &backend));
    for (asked, prefix) in [("/team/a/mcp", Some("/team/a")), ("/team/b", None)] {
        assert_eq!(ask(&pinring, "x", asked, None).status, 200);
        let request = backend.received().pop().unwrap();
        assert_eq!(request.header("x-forwarded-prefix"), prefix, "{asked}");
    }
}

#[test]
fn a_document_about_a_path_comes_from_the_pool_of_that_path() {
    let [files, rest] = ["files", "rest"].map(Backend::stateful);
    let pinring = Pinring::start(
        &[
            pool("files", "match = { path = \"/files\" }", &files),
            pool("rest", "", &rest),
        ]
        .concat(),
    );
    for (target, expected) in [
        ("/.well-known/oauth-protected-resource/files/mcp", "files"),
        ("/.well-known/oauth-authorization-server/files", "files"),
        ("/.well-known/oauth-protected-resource/other", "rest"),
        ("/.well-known/oauth-protected-resource", "rest"),
    ] {
        assert_eq!(answered(&pinring, "x", target), expected, "{target}");
        let request = [&files, &rest].map(|backend| backend.received().pop());
        let heads = request.into_iter().flatten().map(|request| request.head);
        assert!(
            heads
                .into_iter()
                .any(|head| head.contains(&format!("POST {target} ")))
        );
    }
}

#[test]
fn a_request_that_matches_no_pool_answers_404_and_the_log_says_which() {
    let backend = Backend::stateful("files");
    let pinring = Pinring::start(&pool("files", "match = { path = \"/files\" }", &backend));
    let answer = ask(&pinring, "mcp.example.com", "/flies/mcp?token=x", None);
    assert_eq!((answer.status, &*answer.reason()), (404, "no_pool"));
    pinring.wait_for_log("matches no pool");
    let logs = pinring.find_logs("host");
    let warning = logs.iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!(
        (&warning["host"], &warning["path"]),
        (&"mcp.example.com".into(), &"/flies/mcp".into())
    );
}

#[test]
fn a_session_of_one_pool_is_not_found_in_another() {
    let [one, two] = ["one", "two"].map(Backend::stateful);
    let pinring = Pinring::start(
        &[
            pool("one", "match = { path = \"/one\" }", &one),
            pool("two", "match = { path = \"/two\" }", &two),
        ]
        .concat(),
    );
    let id = ask(&pinring, "x", "/one", None);
    let id = id.header("mcp-session-id").unwrap();
    assert_eq!(ask(&pinring, "x", "/one", Some(id)).text(), "one");
    let answer = ask(&pinring, "x", "/two", Some(id));
    assert_eq!((answer.status, &*answer.reason()), (404, "wrong_pool"));
    assert!(two.received().is_empty());
}

#[test]
fn a_reload_adds_and_removes_pools() {
    let [one, two] = ["one", "two"].map(Backend::stateful);
    let first = pool("one", "match = { path = \"/one\" }", &one);
    let second = pool("two", "match = { path = \"/two\" }", &two);
    let pinring = Pinring::start(&first);
    assert_eq!(answered(&pinring, "x", "/two"), "no_pool");
    pinring.reload(&format!("{first}{second}"));
    assert_eq!(answered(&pinring, "x", "/two"), "two");
    pinring.reload(&second);
    assert_eq!(answered(&pinring, "x", "/one"), "no_pool");
    assert_eq!(answered(&pinring, "x", "/two"), "two");
}
