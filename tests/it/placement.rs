//! What has no pin: where it goes, and that two proxies agree on it. And which ids get a pin.

use std::{collections::HashSet, io::Write as _};

use crate::support::{Backend, Client, Pinring, ok};

const SECRET: &str = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\n";

/// A backend that answers everything with its name.
fn named(name: &'static str) -> Backend {
    Backend::answering(ok("", name))
}

fn with_id(pinring: &Pinring, id: &str) -> crate::support::Answer {
    Client::once(
        pinring.address(),
        "POST",
        &format!("mcp-session-id: {id}\r\n"),
        "{}",
    )
}

#[test]
fn ids_without_a_pin_stay_on_their_place_of_the_ring_in_every_proxy() {
    let backends = [named("a"), named("b"), named("c")];
    let (one, other) = (
        Pinring::before(&backends.each_ref(), ""),
        Pinring::before(&backends.each_ref(), ""),
    );
    let mut owners = HashSet::new();
    for number in 0..20 {
        let id = format!("unpinned-{number}");
        let owner = with_id(&one, &id).text();
        assert_eq!(
            [with_id(&one, &id).text(), with_id(&other, &id).text()],
            [&*owner; 2]
        );
        owners.insert(owner);
    }
    assert_eq!(owners.len(), 3);
    let seen = backends.iter().flat_map(Backend::received);
    assert!(seen.into_iter().all(|seen| {
        seen.header("mcp-session-id")
            .unwrap()
            .starts_with("unpinned-")
    }));
}

#[test]
fn with_a_secret_ids_without_a_pin_answer_404() {
    let backend = named("a");
    let pinring = Pinring::before(&[&backend], SECRET);
    let answer = with_id(&pinring, "unpinned");
    assert_eq!((answer.status, &*answer.reason()), (404, "unpinned"));
    assert!(answer.text().contains("-32001"));
    assert!(backend.received().is_empty());
}

#[test]
fn an_id_that_no_server_can_have_issued_answers_404() {
    let backend = named("a");
    let pinring = Pinring::before(&[&backend], "");
    for id in ["a b", "\u{e4}", &"x".repeat(5000)] {
        let answer = with_id(&pinring, id);
        assert_eq!(
            (answer.status, &*answer.reason()),
            (404, "session_id_invalid")
        );
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_modern_request_is_placed_whatever_session_id_it_carries() {
    let issuing = Backend::stateful("s");
    let pinring = Pinring::before(&[&issuing], SECRET);
    let good = Client::initialize(pinring.address());
    let backend = named("a");
    let elsewhere = Pinring::before(&[&backend], SECRET);
    let ids = [
        "unpinned",
        "a b",
        &good.replace("s-1", "s-2"),
        &good.replace("-1-", "-11-"),
    ];
    for id in ids {
        let headers = format!("mcp-protocol-version: 2026-07-28\r\nmcp-session-id: {id}\r\n");
        let answer = Client::once(elsewhere.address(), "POST", &headers, "{}");
        assert_eq!((answer.status, answer.text()), (200, "a".into()), "{id}");
    }
    assert!(
        backend
            .received()
            .iter()
            .all(|seen| seen.header("mcp-session-id").is_none())
    );
    let headers = format!("mcp-protocol-version: 2026-07-28\r\nmcp-session-id: {good}\r\n");
    let answer = Client::once(pinring.address(), "POST", &headers, "{}");
    assert_eq!(
        answer.header("mcp-session-id"),
        Some(&*good),
        "a good pin is followed"
    );
}

#[test]
fn metadata_and_oauth_have_one_home_in_every_proxy() {
    let backends = [named("a"), named("b"), named("c")];
    let proxies = [(); 2].map(|()| Pinring::before(&backends.each_ref(), ""));
    let requests = [
        "GET /.well-known/oauth-protected-resource",
        "GET /.well-known/oauth-authorization-server/mcp",
        "POST /register",
        "GET /authorize?state=1",
        "POST /token",
        "OPTIONS /mcp",
    ];
    let mut homes = HashSet::new();
    for (proxy, line) in proxies
        .iter()
        .flat_map(|proxy| requests.map(|line| (proxy, line)))
    {
        let mut client = Client::connect(proxy.address());
        client.send(format!(
            "{line} HTTP/1.1\r\nhost: a\r\naccept: */*\r\ncontent-length: 0\r\n\r\n"
        ));
        homes.insert(client.answer().text());
    }
    assert_eq!(homes.len(), 1, "{homes:?}");
}

#[test]
fn the_id_is_pinned_in_error_answers_too() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "500 Oops",
        "202 Accepted",
    ] {
        let backend = Backend::answering(format!(
            "HTTP/1.1 {status}\r\nmcp-session-id: abc\r\ncontent-length: 0\r\n\r\n"
        ));
        let pinring = Pinring::before(&[&backend], "");
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        let id = answer.header("mcp-session-id").unwrap();
        assert!(id.starts_with("abc-") && id.len() == 36, "{status}: {id}");
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("Mcp-Session-Id")
        );
        assert_eq!(
            with_id(&pinring, id).header("mcp-session-id"),
            Some(id),
            "{status}"
        );
    }
}

#[test]
fn equal_ids_of_one_answer_leave_as_one() {
    let backend = Backend::answering(ok("mcp-session-id: abc\r\nMcp-Session-Id: abc\r\n", ""));
    let pinring = Pinring::before(&[&backend], "");
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert!(
        answer
            .header("mcp-session-id")
            .is_some_and(|id| id.starts_with("abc-"))
    );
}

#[test]
fn a_new_id_for_an_old_session_gets_a_pin_of_its_own() {
    let backend = Backend::start(|request, stream| {
        let id = if request.header("mcp-session-id").is_some() {
            "new"
        } else {
            "old"
        };
        stream
            .write_all(&ok(&format!("mcp-session-id: {id}\r\n"), ""))
            .is_ok()
    });
    let pinring = Pinring::before(&[&backend], "");
    let old = Client::initialize(pinring.address());
    let answer = with_id(&pinring, &old);
    let new = answer.header("mcp-session-id").unwrap();
    assert!(new.starts_with("new-") && new.len() == 36, "{new}");
    assert_ne!(
        old.rsplit_once('-').unwrap().1,
        new.rsplit_once('-').unwrap().1
    );
    assert_eq!(with_id(&pinring, new).status, 200);
    let seen: Vec<_> = backend
        .received()
        .iter()
        .map(|seen| seen.header("mcp-session-id").map(str::to_owned))
        .collect();
    assert_eq!(seen, [None, Some("old".into()), Some("new".into())]);
}

#[test]
fn the_backends_own_list_of_exposed_headers_is_kept() {
    let cases = [
        ("X-A, mcp-session-id", vec!["X-A, mcp-session-id"]),
        ("X-A", vec!["X-A", "Mcp-Session-Id"]),
    ];
    for (own, expected) in cases {
        let backend = Backend::answering(ok(
            &format!("mcp-session-id: a\r\naccess-control-expose-headers: {own}\r\n"),
            "",
        ));
        let pinring = Pinring::before(&[&backend], "");
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!(answer.headers("access-control-expose-headers"), expected);
    }
}

#[test]
fn a_session_and_its_stream_outlive_a_reload_that_adds_backends() {
    let backend = Backend::stateful("a");
    let others = [Backend::stateful("b"), Backend::stateful("c")];
    let pinring = Pinring::before(&[&backend], "");
    let ids: Vec<String> = (0..10)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let mut kept = Client::connect(pinring.address());
    kept.call("POST", &format!("mcp-session-id: {}\r\n", ids[0]), "{}");
    pinring.write(&Pinring::backends(&[&backend, &others[0], &others[1]]));
    pinring.signal("HUP");
    pinring.wait_for_log("\"reloaded");
    for id in &ids {
        assert_eq!(with_id(&pinring, id).text(), "a");
    }
    assert_eq!(
        kept.call("POST", &format!("mcp-session-id: {}\r\n", ids[0]), "{}")
            .text(),
        "a"
    );
}

#[test]
fn sessions_spread_evenly_and_count_until_they_end() {
    let backends = ["a", "b", "c", "d"].map(Backend::stateful);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let ids: Vec<String> = (0..200)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let held = |name: &str| ids.iter().filter(|id| id.starts_with(name)).count();
    let counts = ["a", "b", "c", "d"].map(held);
    assert!(
        counts.iter().all(|count| (44..=56).contains(count)),
        "{counts:?}"
    );

    // What ends at one makes room there: the next ones go where the fewest are.
    for id in ids.iter().filter(|id| id.starts_with('a')) {
        Client::once(
            pinring.address(),
            "DELETE",
            &format!("mcp-session-id: {id}\r\n"),
            "",
        );
    }
    let next: Vec<String> = (0..200)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let at_a = next.iter().filter(|id| id.starts_with('a')).count();
    assert!(at_a >= 75, "{at_a} of 200; chance alone gives 50");
}

#[test]
fn local_first_opens_sessions_here_until_here_is_full_or_gone() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let local = b.address().ip();
    let pinring = Pinring::before(
        &[&a, &b],
        &format!(
            "[limits]\nsessions_per_backend = 5\n[pool]\nplacement = \"local-first\"\nlocal = \"{local}\"\n"
        ),
    );
    let ids: Vec<String> = (0..7)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let here = ids.iter().filter(|id| id.starts_with("b-")).count();
    assert_eq!(here, 5, "{ids:?}");
    assert!(
        ids[5].starts_with("a-") && ids[6].starts_with("a-"),
        "{ids:?}"
    );

    let header = format!("mcp-session-id: {}\r\n", ids[0]);
    Client::once(pinring.address(), "DELETE", &header, "");
    assert!(Client::initialize(pinring.address()).starts_with("b-"));
    Client::once(
        pinring.address(),
        "DELETE",
        &header.replace(&ids[0], &ids[1]),
        "",
    );
    drop(b);
    for _ in 0..3 {
        assert!(Client::initialize(pinring.address()).starts_with("a-"));
    }
}

#[test]
fn the_local_backend_is_named_by_the_environment() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let toml = format!(
        "{}\n[pool]\nplacement = \"local-first\"\nlocal = \"env:POD_IP\"\n",
        Pinring::backends(&[&a, &b])
    );
    let pod = b.address().ip().to_string();
    let pinring = Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &[("POD_IP", &pod)]);
    for _ in 0..10 {
        assert!(Client::initialize(pinring.address()).starts_with("b-"));
    }
}

#[test]
fn stateless_requests_of_one_tenant_go_to_one_replica_in_every_proxy() {
    let backends = [named("a"), named("b"), named("c")];
    let affinity = "[pool]\nstateless_affinity = [\"param:Tenant\", \"header:X-Tenant\"]\n";
    let proxies = [(); 2].map(|()| Pinring::before(&backends.each_ref(), affinity));
    let ask = |pinring: &Pinring, headers: &str| {
        let headers = format!("mcp-protocol-version: 2026-07-28\r\n{headers}");
        Client::once(pinring.address(), "POST", &headers, "{}").text()
    };
    let mut owners = HashSet::new();
    for number in 0..20 {
        let param = format!("mcp-param-tenant: t{number}\r\n");
        let owner = ask(&proxies[0], &param);
        assert_eq!(ask(&proxies[1], &format!("x-tenant: t{number}\r\n")), owner);
        assert_eq!(ask(&proxies[1], &format!("x-tenant: t1\r\n{param}")), owner);
        owners.insert(owner);
    }
    assert_eq!(owners.len(), 3);
    let plain: HashSet<String> = (0..40).map(|_| ask(&proxies[0], "")).collect();
    assert_eq!(plain.len(), 3, "without a key, by load");
    let log = proxies[1].log();
    assert!(
        log.iter()
            .any(|line| line.contains("\"route\":\"affinity\""))
    );

    // Nobody has checked the header of an older revision.
    let legacy: HashSet<String> = (0..40)
        .map(|_| Client::once(proxies[0].address(), "POST", "x-tenant: t1\r\n", "{}").text())
        .collect();
    assert_eq!(legacy.len(), 3);
}

#[test]
fn a_tenant_whose_replica_is_down_is_served_by_the_next() {
    let mut backends = vec![named("a"), named("b"), named("c")];
    let all: Vec<&Backend> = backends.iter().collect();
    let affinity = "[pool]\nstateless_affinity = [\"header:X-Tenant\"]\n";
    let pinring = Pinring::before(&all, affinity);
    let ask = || {
        let headers = "mcp-protocol-version: 2026-07-28\r\nx-tenant: acme\r\n";
        Client::once(pinring.address(), "POST", headers, "{}")
    };
    let owner = ask().text();
    let place = ["a", "b", "c"].iter().position(|name| *name == owner);
    drop(backends.remove(place.unwrap()));
    let next = ask();
    assert_eq!(next.status, 200);
    assert_ne!(next.text(), owner);
    for _ in 0..10 {
        assert_eq!(ask().text(), next.text());
    }
}
