use super::*;

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_lines() {
    let text = "\
[timeouts]
drain = \"20\"
drian = \"20s\"
connect = \"0s\"

[server]
listen = \"localhost:8080\"
threads = \"4\"
watch = 1

[[backends]]
url = \"127.0.0.1:9001\"
";
    let expected = [
        "2: timeouts.drain = \"20\": no unit; write a duration such as \"20s\" (0s to 1d)",
        "3: timeouts.drian: unknown key; the nearest known one is \"drain\"",
        "4: timeouts.connect = \"0s\": out of range; write a duration such as \"20s\" (1ms to 7d)",
        "7: server.listen = \"localhost:8080\": no address; write IP and port, such as \"127.0.0.1:8080\", or \"[::]:8080\" for all, with https:// before it for TLS",
        "8: server.threads = \"4\": write a whole number from 1 to 256, without quotes",
        "9: server.watch = 1: write true or false, without quotes",
        "12: backends[0].url = \"127.0.0.1:9001\": a backend's URL begins with http:// or https://, as in \"http://127.0.0.1:9001\"",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn errors_name_their_file() {
    let errors = checked("[timeouts]\ndrain = 20\n").unwrap_err();
    let text = errors.named("pinring.toml").to_string();
    let (first, rest) = text.split_once('\n').unwrap();
    assert_eq!(
        first,
        "pinring.toml:2: timeouts.drain = 20: no unit; write a duration such as \"20s\" (0s to 1d)"
    );
    assert!(rest.starts_with("pinring.toml: backends: there are none; give --backend http://"));
    assert!(rest.ends_with("[[backends]]\n    name = \"a\"\n    url = \"http://127.0.0.1:9001\""));
}

#[test]
fn text_that_is_no_toml_says_line_and_column() {
    for (text, place) in [
        (
            "[server]\nlisten = 127.0.0.1:8080\n",
            "2: column 15: invalid float; whatever is no plain number stands in quotes",
        ),
        ("[server]\nlisten =\n", "2: column 9: "),
        ("[server\n", "1: column 8: "),
        ("a = 1\na = 2\n", "2: column 1: duplicate key"),
        ("a = \"x\n", "1: column "),
    ] {
        let faults = faults(text);
        assert!(faults[0].starts_with(place), "{text:?}: {faults:?}");
        assert_eq!(faults.len(), 1, "{text:?}: {faults:?}");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = config("");
    let seconds = Duration::from_secs;
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.server.threads.get(), 4);
    assert!(config.server.watch);
    let timeouts = &config.timeouts;
    assert_eq!(timeouts.response_head, seconds(600));
    assert_eq!(timeouts.stream_idle, None);
    assert_eq!(timeouts.keep_alive, seconds(620));
    assert_eq!(timeouts.upstream_keep_alive, seconds(4));
    assert_eq!(timeouts.tcp_keep_alive, Some(seconds(30)));
    assert_eq!(config.limits.header_bytes, 65_536);
    assert_eq!(config.limits.connections, 20_000);
    assert!(config.log.access);
    let [pool] = &config.pools[..] else {
        panic!("one pool");
    };
    assert_eq!(pool.name, "default");
    assert_eq!(pool.unpinned, Unpinned::Ring);
    assert_eq!(pool.host, HostHeader::Pass);
    assert_eq!(pool.departed, seconds(900));
    assert_eq!(pool.backends[0].name.as_str(), "127.0.0.1:9001");
    assert_eq!(pool.backends[0].admission, Admission::Open);
}

#[test]
fn zero_switches_off_what_can_be_switched_off() {
    let config = config(
        "[timeouts]\nstream_idle = \"5m\"\ntcp_keep_alive = \"0s\"\ntcp_user_timeout = \"0s\"\nupstream_keep_alive = \"0s\"",
    );
    let timeouts = config.timeouts;
    assert_eq!(timeouts.stream_idle, Some(Duration::from_secs(300)));
    assert_eq!(timeouts.tcp_keep_alive, None);
    assert_eq!(timeouts.tcp_user_timeout, None);
    assert_eq!(timeouts.upstream_keep_alive, Duration::ZERO);
    // The kernel counts whole seconds.
    assert_eq!(
        fault("[timeouts]\ntcp_keep_alive = \"500ms\""),
        "2: timeouts.tcp_keep_alive = \"500ms\": out of range; write a duration such as \"20s\" (1s to 9h), or \"0s\" for never"
    );
}

#[test]
fn quantities_carry_units_and_stay_in_range() {
    for (text, expected) in [
        (
            "[limits]\nheader_bytes = 65536",
            "no unit; write a size such as \"64KiB\" (8KiB to 1MiB)",
        ),
        (
            "[limits]\nheader_bytes = \"64KB\"",
            "\"KB\" is no unit here (units: B, KiB, MiB, GiB); write",
        ),
        ("[limits]\nheader_bytes = \"4KiB\"", "out of range; write"),
        (
            "[limits]\nheaders = 0",
            "write a whole number from 1 to 1000",
        ),
        (
            "[limits]\nheaders = 10.5",
            "write a whole number from 1 to 1000",
        ),
        (
            "[limits]\nconnections = 99999999999",
            "write a whole number from 1 to 1000000",
        ),
        ("[timeouts]\nresponse_head = \"8d\"", "out of range; write"),
        (
            "[timeouts]\nresponse_head = \"ten\"",
            "not a whole number with its unit; write",
        ),
        (
            "[timeouts]\nresponse_head = true",
            "not a whole number with its unit; write",
        ),
        (
            "[log]\nformat = \"xml\"",
            "write \"auto\" or \"text\" or \"json\"",
        ),
        (
            "[log]\nfilter = \"pinring=loud\"",
            "no filter; write levels as RUST_LOG has them",
        ),
        (
            "[log]\nfilter = \"inof\"",
            "log.filter = \"inof\": \"inof\" is neither a level (off, error, warn, info, debug, trace) nor a part of pinring; write for example \"info\"",
        ),
    ] {
        let fault = fault(text);
        assert!(
            fault.starts_with("2: ") && fault.contains(expected),
            "{fault}"
        );
    }
}

#[test]
fn listening_addresses_are_one_or_a_list() {
    let listen = |text: &str| config(&format!("[server]\nlisten = {text}")).server.listen;
    assert_eq!(listen("\"[::]:80\""), ["[::]:80".parse().unwrap()]);
    assert_eq!(listen("[\"0.0.0.0:1\", \"0.0.0.0:2\"]").len(), 2);
    assert_eq!(listen("[\"127.0.0.1:0\", \"127.0.0.1:0\"]").len(), 2);
    for (bad, expected) in [
        ("[]", "server.listen = []: write at least one address"),
        (
            "8080",
            "server.listen = 8080: write a string in quotes, or a list of them",
        ),
        (
            "[\"0.0.0.0:1\", 2]",
            "server.listen[1] = 2: write a string in quotes",
        ),
        (
            "[\"0.0.0.0:1\", \"0.0.0.0:1\"]",
            "server.listen[1] = \"0.0.0.0:1\": the address is in the list twice",
        ),
    ] {
        let fault = fault(&format!("[server]\nlisten = {bad}"));
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn flags_replace_the_listening_addresses_of_the_file() {
    let overrides = Overrides {
        listen: given("--listen", &["127.0.0.1:1", "127.0.0.1:2"]),
        ..Overrides::default()
    };
    let text = format!("[server]\nlisten = \"0.0.0.0:80\"\n{BACKEND}");
    let config = check(&text, &overrides, &TestWorld::default()).unwrap();
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.listen[0].address.port(), 1);
    let overrides = Overrides {
        listen: given("PINRING_LISTEN", &["8080"]),
        ..Overrides::default()
    };
    let faults = lines(check(&text, &overrides, &TestWorld::default()));
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("PINRING_LISTEN \"8080\": no address; write IP and port"));
}

#[test]
fn unknown_keys_are_refused_and_the_right_one_named() {
    for (text, expected) in [
        (
            "[timeout]\ndrain = \"1s\"",
            "1: timeout: unknown key; the nearest known one is \"timeouts\"",
        ),
        (
            "\n[server]\ndrain = \"1s\"",
            "3: server.drain: unknown key here; it belongs in [timeouts]",
        ),
        (
            "\n[server]\nweight = 1",
            "3: server.weight: unknown key here; it belongs in [[backends]]",
        ),
        (
            "\n[log]\ncolour = 1",
            "3: log.colour: unknown key; known here: access, access_sample, access_slow, filter, format, request_id",
        ),
        (
            "listn = \"127.0.0.1:1\"",
            "1: listn: unknown key; the nearest known one is \"listen\", which belongs in [server]",
        ),
    ] {
        assert_eq!(fault(text), expected);
    }
    let faults = faults(&format!("{BACKEND}wieght = 1\n"));
    assert_eq!(
        faults,
        ["3: backends[0].wieght: unknown key; the nearest known one is \"weight\""]
    );
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_or_with_all_that_are_known() {
    for (text, expected) in [
        (
            "[server]\nzzz = 1",
            "2: server.zzz: unknown key; known here: admin, admin_token, allowed_origins, health_path, listen, probes, probes_drain, proxy_protocol, threads, trusted_proxies, watch",
        ),
        (
            "zzz = 1",
            "1: zzz: unknown key; known here: affinity, backends, cors, discovery, limits, log, pool, pools, server, store, timeouts, tls, tracing",
        ),
        (
            "[server]\nadmn = 1",
            "2: server.admn: unknown key; the nearest known one is \"admin\"",
        ),
        (
            "\n[tsl]",
            "2: tsl: unknown key; the nearest known one is \"tls\"",
        ),
        (
            "health_path = \"\"",
            "1: health_path: unknown key here; it belongs in [server]",
        ),
    ] {
        assert_eq!(fault(text), expected);
    }
    config("[store]");
}

#[test]
fn probes_are_asked_at_an_address_and_a_path_of_their_own() {
    let probes = config("[server]\nprobes = \"[::]:9902\"\nhealth_path = \"/up\"")
        .server
        .probes;
    assert_eq!(probes.address, Some("[::]:9902".parse().unwrap()));
    assert_eq!(
        probes.health_path.as_ref().map(PathPrefix::as_str),
        Some("/up")
    );
    for (text, told) in [
        ("probes = \"9902\"", "write IP and port"),
        ("health_path = \"up\"", "write a whole path"),
        ("health_path = \"/\"", "write a whole path"),
        ("probes_drain = true", "where? Write probes"),
    ] {
        let fault = fault(&format!("[server]\n{text}"));
        assert!(fault.contains(told), "{fault}");
    }
    let drains = "[server]\nprobes = \"0.0.0.0:9902\"\nprobes_drain = true\n";
    let notes = |more: &str| config(&format!("{drains}{more}")).notes.join("\n");
    assert!(notes("").contains("nothing to drain"));
    assert!(!notes("[pool]\nlocal = \"a\"").contains("nothing to drain"));
}

#[test]
fn the_store_is_in_memory_or_at_a_redis() {
    assert_eq!(config("").store.url, StoreUrl::Memory);
    let text = "[store]\nurl = \"redis://user:sesame@h:7000/3\"\nsessions = 5";
    let store = config(text).store;
    let url = "redis://user:sesame@h:7000/3".to_owned();
    assert_eq!((&store.url, store.sessions), (&StoreUrl::Redis(url), 5));
    assert!(!format!("{store:?}").contains("sesame"));
    for (url, problem) in [
        (
            "rediss://h",
            "TLS to the store is not yet supported by this version",
        ),
        ("redis+unix:///run/redis", "no store"),
        ("localhost:6379", "no store"),
        ("", "no store"),
        ("redis://h:port", "no address of a Redis server"),
        ("redis:///", "no address of a Redis server"),
    ] {
        let expected = format!(
            "2: store.url = \"{url}\": {problem}; write \"memory\", or a URL such as \"redis://127.0.0.1:6379\""
        );
        assert_eq!(fault(&format!("[store]\nurl = \"{url}\"")), expected);
    }
}

#[test]
fn a_section_that_is_no_table_is_refused() {
    assert_eq!(
        fault("timeouts = 5"),
        "1: timeouts = 5: write a table: [timeouts]"
    );
}

#[test]
fn sessions_are_limited_by_backend_and_by_whom_the_file_says() {
    let limits = config("").limits;
    assert_eq!(limits.sessions_per_backend, None);
    assert_eq!(limits.sessions_per_principal, None);
    let limits = config(
        "[limits]\nsessions_per_backend = 500\nsessions_per_principal = 3\nprincipal = \"jwt:sub\"",
    )
    .limits;
    assert_eq!(limits.sessions_per_backend, NonZeroU32::new(500));
    let limit = limits.sessions_per_principal.unwrap();
    assert_eq!((limit.most.get(), &*limit.by.to_string()), (3, "jwt:sub"));
}

#[test]
fn a_limit_by_nobody_says_what_to_write() {
    assert_eq!(
        fault("[limits]\nsessions_per_principal = 3"),
        "2: limits.sessions_per_principal: counts whose sessions? Write principal = \"jwt:sub\" beside it (or another \
         claim of the client's token), or principal = \"address\""
    );
    let of = |principal: &str| {
        fault(&format!(
            "[limits]\nsessions_per_principal = 3\nprincipal = \"{principal}\""
        ))
    };
    assert!(of("header:X-User").contains("whose word is it? Write trusted_proxies = ["));
    assert!(
        of("sub")
            .contains("write \"jwt:CLAIM\", such as \"jwt:sub\", \"header:NAME\" or \"address\"")
    );
    let unused = config("[limits]\nprincipal = \"address\"");
    assert_eq!(unused.limits.sessions_per_principal, None);
    assert!(
        unused.notes[0].contains("nothing is counted by it"),
        "{:?}",
        unused.notes
    );
}

#[test]
fn streams_of_changes_are_merged_where_bodies_may_be_read() {
    let streams = |text: &str| config(text).pools[0].listen_streams;
    assert_eq!(streams(""), ListenStreams::One);
    assert_eq!(
        streams("[pool]\nlisten_streams = \"fan-out\""),
        ListenStreams::FanOut
    );
    assert_eq!(
        fault("[pool]\nlisten_streams = \"fan-out\"\nread_bodies = false"),
        "2: pool.listen_streams: merges streams message by message, which read_bodies = false forbids; remove that, \
         or write listen_streams = \"one\""
    );
    assert!(fault("[pool]\nlisten_streams = \"all\"").ends_with("write \"one\" or \"fan-out\""));
}

#[test]
fn all_bodies_together_have_room_for_one() {
    let total = |text: &str| config(text).limits.body_bytes_total >> 20;
    assert_eq!(total(""), 256);
    assert_eq!(total("[limits]\nbody_bytes = \"512MiB\""), 512);
    assert_eq!(total("[limits]\nbody_bytes_total = \"16MiB\""), 16);
    assert_eq!(
        fault("[limits]\nbody_bytes_total = \"8MiB\""),
        "2: limits.body_bytes_total: is less than one request's body may have; write \"16MiB\" or more, or a smaller \
         limits.body_bytes"
    );
}
