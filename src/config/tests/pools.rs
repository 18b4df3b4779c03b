use super::*;

const TWO_POOLS: &str = "\
[affinity]
departed = \"1m\"

[[pools]]
name = \"files\"
match = { host = \"MCP.Example.com.\", path = \"/files\" }
strip_prefix = \"/files\"
departed = \"2m\"
[[pools.backends]]
name = \"f1\"
url = \"http://127.0.0.1:9001\"
weight = 3
draining = true

[[pools]]
name = \"rest\"
host = \"rewrite\"
backends = [{ url = \"http://10.0.0.1\" }]
";

#[test]
fn several_pools_have_their_own_options() {
    let config = checked(TWO_POOLS).unwrap_or_else(|errors| panic!("{errors}"));
    let [files, rest] = &config.pools[..] else {
        panic!("two pools");
    };
    assert_eq!(files.name, "files");
    assert_eq!(files.matcher.host.as_deref(), Some("mcp.example.com"));
    assert_eq!(files.matcher.path.as_str(), "/files");
    assert_eq!(files.strip_prefix, Some(files.matcher.path.clone()));
    assert_eq!(files.departed, Duration::from_secs(120));
    assert_eq!(files.backends[0].weight.0.get(), 3);
    assert_eq!(files.backends[0].admission, Admission::Draining);
    assert_eq!(rest.host, HostHeader::Rewrite);
    assert_eq!(rest.departed, Duration::from_secs(60));
    assert_eq!(rest.matcher.host, None);
    assert_eq!(rest.matcher.path, PathPrefix::root());
    assert_eq!(rest.backends[0].name.as_str(), "10.0.0.1:80");
}

/// The faults of `TWO_POOLS` with one text replaced.
fn with(old: &str, new: &str) -> Vec<String> {
    assert!(TWO_POOLS.contains(old));
    faults(&TWO_POOLS.replacen(old, new, 1))
}

#[test]
fn pools_are_told_apart() {
    for (old, new, expected) in [
        (
            "\"rest\"",
            "\"files\"",
            "16: pools[1].name = \"files\": the name is taken by pools[0].name (line 5); give another",
        ),
        (
            "\"rest\"",
            "\"a b\"",
            "16: pools[1].name = \"a b\": a pool's name is ASCII letters",
        ),
        (
            "\"rest\"",
            "\"\"",
            "16: pools[1].name = \"\": a pool's name is ASCII letters",
        ),
        (
            "name = \"rest\"\n",
            "",
            "15: pools[1].name: is missing; write name = \"…\"",
        ),
        (
            "host = \"rewrite\"",
            "match = { host = \"mcp.example.com\", path = \"/files\" }",
            "17: pools[1].match: matches the same requests as pools[0].match (line 6) (mcp.example.com, /files)",
        ),
        (
            "{ url = \"http://10.0.0.1\" }",
            "",
            "15: pools[1].backends: the pool has none; write [[pools.backends]]",
        ),
        (
            "backends = [{ url = \"http://10.0.0.1\" }]",
            "",
            "15: pools[1].backends: the pool has none",
        ),
        (
            "{ url = \"http://10.0.0.1\" }",
            "{ name = \"f1\", url = \"http://10.0.0.1\" }",
            "18: pools[1].backends[0].name = \"f1\": the name \"f1\" is taken by pools[0].backends[0].name (line 10); names are unique over all pools",
        ),
    ] {
        let faults = with(old, new);
        assert_eq!(faults.len(), 1, "{new}: {faults:#?}");
        assert!(faults[0].starts_with(expected), "{}", faults[0]);
    }
}

#[test]
fn what_could_never_match_is_refused() {
    for host in [
        "*.example.com",
        "example.com:80",
        "http://example.com",
        "a b",
        "",
        "::1:80x",
        "h/",
        "[::1]:80",
    ] {
        let faults = with("MCP.Example.com.", host);
        assert_eq!(faults.len(), 1, "{host}: {faults:#?}");
        assert!(faults[0].contains("pools[0].match.host = "), "{faults:?}");
        assert!(
            faults[0].contains("write one host name or IP address"),
            "{faults:?}"
        );
    }
    let faults = with("path = \"/files\"", "path = \"files/\"");
    assert!(
        faults[0].contains("pools[0].match.path = \"files/\": a path begins with \"/\""),
        "{faults:?}"
    );
    let faults = with("strip_prefix = \"/files\"", "strip_prefix = \"/file\"");
    assert_eq!(
        faults,
        [
            "7: pools[0].strip_prefix = \"/file\": no path of this pool begins with it: they begin with \"/files\""
        ]
    );
    assert!(with("strip_prefix = \"/files\"", "strip_prefix = \"/files/v1\"").is_empty());
}

#[test]
fn hosts_are_compared_in_one_form() {
    for (written, canonical) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[0:0::1]", "[::1]"),
        ("LOCALHOST", "localhost"),
    ] {
        let config = checked(&TWO_POOLS.replacen("MCP.Example.com.", written, 1)).unwrap();
        assert_eq!(config.pools[0].matcher.host.as_deref(), Some(canonical));
    }
}

#[test]
fn one_pool_and_several_are_not_mixed() {
    assert_eq!(
        faults(&format!("{BACKEND}{TWO_POOLS}").replace(":9001\"\nweight", ":9002\"\nweight")),
        ["1: backends: stands beside [[pools]]; move each entry to [[pools.backends]] of its pool"]
    );
    assert_eq!(
        faults(&format!("[pool]\nhost = \"pass\"\n{TWO_POOLS}")),
        ["1: pool: stands beside [[pools]]; move its keys to the pools that they are for"]
    );
}

#[test]
fn flags_alone_are_a_configuration() {
    let overrides = Overrides {
        listen: given("--listen", &["127.0.0.1:0"]),
        backends: given("--backend", &["http://127.0.0.1:1", "http://[::1]:2"]),
        ..Overrides::default()
    };
    let config = check("", &overrides, &TestWorld::default()).unwrap();
    let backends = config.pools[0].backends.iter();
    let names: Vec<&str> = backends.map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:1", "[::1]:2"]);
    let text = "[pool]\nhost = \"rewrite\"";
    let config = check(text, &overrides, &TestWorld::default()).unwrap();
    assert_eq!(config.pools[0].host, HostHeader::Rewrite);
}

#[test]
fn flags_and_file_do_not_both_give_backends() {
    let overrides = Overrides {
        backends: given(
            "--backend",
            &["http://127.0.0.1:1", "ftp://h", "http://127.0.0.1:1"],
        ),
        ..Overrides::default()
    };
    let faults = |text: &str| lines(check(text, &overrides, &TestWorld::default()));
    assert_eq!(
        faults(BACKEND),
        [
            "--backend \"ftp://h\": a backend's URL begins with http:// or https://, as in \"http://127.0.0.1:9001\"",
            "--backend \"http://127.0.0.1:1\": the name \"127.0.0.1:1\" is taken by --backend; names are unique over all pools, give one of the two another name",
            "1: backends: --backend gives backends too; remove one of the two",
        ]
    );
    assert_eq!(
        faults(TWO_POOLS),
        ["4: pools: --backend gives backends too; remove one of the two"]
    );
}

#[test]
fn without_backends_the_lines_to_write_are_shown() {
    for text in ["", "backends = []", "pools = []", "[pool]\nhost = \"pass\""] {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{text:?}: {faults:#?}");
        assert!(
            faults[0].contains(
                "\n    [[backends]]\n    name = \"a\"\n    url = \"http://127.0.0.1:9001\""
            )
        );
    }
}

#[test]
fn entries_of_the_wrong_form_show_the_right_one() {
    for (text, expected) in [
        (
            "[backends]\nurl = \"http://h\"",
            "1: backends: write [[backends]] and its keys below, with two pairs of brackets",
        ),
        (
            "backends = [\"http://h\"]",
            "1: backends[0] = \"http://h\": write [[backends]] and its keys below, or { url = \"http://…\" } in the list",
        ),
        (
            "[[backends]]\nname = \"a\"",
            "1: backends[0].url: is missing; write url = \"http://HOST:PORT\"",
        ),
        (
            "[[backends]]\nname = \"a b\"\nurl = \"http://h\"",
            "2: backends[0].name = \"a b\": a backend's name is 1 to 255 visible ASCII",
        ),
        (
            "[[backends]]\nurl = \"http://h\"\nweight = 0",
            "3: backends[0].weight = 0: write a whole number from 1 to 65535",
        ),
        (
            "[[backends]]\nurl = \"http://h\"\ndraining = \"no\"",
            "3: backends[0].draining = \"no\": write true or false",
        ),
        (
            "[[backends]]\nurl = \"http://h\"\nfamily = \"ipv4\"",
            "3: backends[0].family: is for URLs with dns+ or srv+",
        ),
        (
            "[[backends]]\nurl = \"dns+http://h\"\nfamily = \"4\"",
            "3: backends[0].family = \"4\": write \"auto\" or \"ipv4\" or \"ipv6\" or \"both\"",
        ),
        (
            "[[backends]]\nname = \"a\"\nurl = \"dns+http://h\"",
            "2: backends[0].name = \"a\": the url stands for several backends, which are named by their addresses",
        ),
        (
            "[[backends]]\nname = \"ä{address}\"\nurl = \"dns+http://h\"",
            "2: backends[0].name = \"ä{address}\": a backend's name is 1 to 255 visible ASCII",
        ),
        (
            "[[backends]]\nurl = \"dns+http://10.0.0.1:1\"",
            "2: backends[0].url = \"dns+http://10.0.0.1:1\": an IP address is one backend",
        ),
        (
            "[[backends]]\nurl = \"dns+http://h:1\"\n[[backends]]\nurl = \"dns+https://H:1\"",
            "4: backends[1].url = \"dns+https://H:1\": backends[0].url (line 2) stands for the same backends",
        ),
        (
            "[[backends]]\nurl = \"dns+http://h:1\"\n[[backends]]\nurl = \"http://127.0.0.1:1\"",
            "4: backends[1].url = \"http://127.0.0.1:1\": beside backends that are discovered, a loopback address is no name",
        ),
        (
            "[[backends]]\nurl = \"http://h\"\n[[backends]]\nurl = \"http://H:80\"",
            "4: backends[1].url = \"http://H:80\": the name \"h:80\" is taken by backends[0].url (line 2)",
        ),
    ] {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
        assert!(faults[0].starts_with(expected), "{}", faults[0]);
    }
}

#[test]
fn a_pool_may_drain_as_a_whole() {
    assert!(faults(&format!("{BACKEND}draining = true")).is_empty());
}

#[test]
fn both_names_and_urls_are_reported() {
    for bad in ["name = \"a\"\nurl = \"x\"", "url = \"x\"\nname = \"a\""] {
        let good = "name = \"a\"\nurl = \"http://127.0.0.1:9001\"";
        for (one, two) in [(good, bad), (bad, good), (bad, bad)] {
            let faults = faults(&format!("[[backends]]\n{one}\n[[backends]]\n{two}"));
            let taken = "the name \"a\" is taken by backends[0].name";
            assert_eq!(
                faults.iter().filter(|fault| fault.contains(taken)).count(),
                1,
                "{faults:#?}"
            );
            let urls = faults.iter().filter(|fault| fault.contains("].url = "));
            assert_eq!(urls.count(), faults.len() - 1, "{faults:#?}");
        }
    }
    let overrides = Overrides {
        backends: given("--backend", &["a=x", "a=http://127.0.0.1:1"]),
        ..Overrides::default()
    };
    let faults = lines(check("", &overrides, &TestWorld::default()));
    assert_eq!(faults.len(), 2, "{faults:#?}");
}

/// Once, a proxy that was its own backend forwarded each request to itself until no descriptor was left.
#[test]
fn pinring_is_not_its_own_backend() {
    let faults = |listen: &str, backend: &str| {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:1\", \"{listen}\"]\n[[backends]]\nurl = \"http://{backend}\""
        );
        let world = TestWorld {
            hosts: [("this", vec!["10.0.0.1"]), ("mcp", vec!["10.0.0.2"])].into(),
            ..TestWorld::default()
        };
        lines(check(&text, &Overrides::default(), &world))
    };
    for (listen, backend) in [
        ("127.0.0.1:80", "127.0.0.1"),
        ("10.0.0.1:80", "10.0.0.1"),
        ("10.0.0.1:80", "this"),
        ("0.0.0.0:80", "127.0.0.1"),
        ("0.0.0.0:80", "127.1.2.3"),
        ("0.0.0.0:80", "localhost"),
        ("0.0.0.0:80", "0.0.0.0"),
        ("127.0.0.1:80", "localhost"),
        ("127.0.0.1:80", "0.0.0.0"),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]"),
        ("[::]:80", "127.0.0.1"),
        ("[::]:80", "[::1]"),
        ("[::1]:80", "localhost"),
    ] {
        let faults = faults(listen, backend);
        assert_eq!(faults.len(), 1, "{listen} {backend}: {faults:#?}");
        let expected = format!(
            "4: backends[0].url = \"http://{backend}\": this is where pinring itself listens ({listen}): "
        );
        assert!(faults[0].starts_with(&expected), "{}", faults[0]);
    }
    for (listen, backend) in [
        ("127.0.0.1:80", "127.0.0.1:81"),
        ("127.0.0.1:80", "127.0.0.2"),
        ("0.0.0.0:80", "10.0.0.1"),
        ("0.0.0.0:80", "mcp"),
        ("0.0.0.0:80", "[::1]"),
        ("10.0.0.1:80", "mcp"),
        ("10.0.0.1:80", "localhost"),
        ("127.0.0.1:0", "127.0.0.1"),
    ] {
        assert!(faults(listen, backend).is_empty(), "{listen} {backend}");
    }
}

#[test]
fn pinring_is_not_its_own_backend_by_flags_either() {
    let overrides = Overrides {
        listen: given("--listen", &["0.0.0.0:1"]),
        backends: given("--backend", &["a=http://127.0.0.1:1", "http://127.0.0.1:2"]),
        ..Overrides::default()
    };
    let faults = lines(check("", &overrides, &TestWorld::default()));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let expected =
        "--backend \"a=http://127.0.0.1:1\": this is where pinring itself listens (0.0.0.0:1)";
    assert!(faults[0].starts_with(expected), "{}", faults[0]);
}

#[test]
fn what_is_no_fault_may_be_worth_a_note() {
    let notes = |text: &str, secret: Option<u8>| {
        let overrides = Overrides {
            secret: secret.map(|byte| Given {
                label: "PINRING_SECRET",
                value: String::from_utf8(vec![byte; 32]).unwrap().into(),
            }),
            ..Overrides::default()
        };
        let checked = check(text, &overrides, &resolving());
        checked.unwrap_or_else(|errors| panic!("{errors}")).notes
    };
    assert!(notes(BACKEND, Some(b'k')).is_empty());
    let [unsigned] = &notes(BACKEND, None)[..] else {
        panic!("one note")
    };
    assert!(
        unsigned.starts_with("pins without a secret are accepted"),
        "{unsigned}"
    );
    let unknown = "backends = [{ url = \"http://gone:1\" }, { url = \"http://gone:2\" }, { url = \"http://localhost:3\" }]";
    assert_eq!(
        notes(unknown, Some(b'k')),
        [
            "backends[0].url (line 1): the host name gone does not resolve now; until it does, the backend cannot be reached"
        ]
    );
    let twice = format!("{BACKEND}{BACKEND}name = \"x\"");
    assert_eq!(
        notes(&twice, Some(b'k')),
        [
            "backends \"127.0.0.1:9001\" and \"x\" of pool default have one address, 127.0.0.1:9001: it gets the new work of both"
        ]
    );
}

fn resolving() -> TestWorld {
    TestWorld {
        hosts: [
            ("localhost", vec!["127.0.0.1", "::1", "127.0.0.1"]),
            ("mcp", vec!["10.0.0.2", "10.0.0.1", "10.0.0.2"]),
        ]
        .into(),
        ..TestWorld::default()
    }
}

#[test]
fn a_host_name_with_several_addresses_is_refused_with_the_lines_to_paste() {
    let text = "[[backends]]\nname = \"a\"\nurl = \"http://mcp:9001\"\n";
    let faults = lines(check(text, &Overrides::default(), &resolving()));
    assert_eq!(
        faults,
        [
            "3: backends[0].url = \"http://mcp:9001\": mcp resolves to 2 addresses: 10.0.0.1, 10.0.0.2; a backend is one replica. \
          Let pinring find them, and follow the changes:\n    [[backends]]\n    url = \"dns+http://mcp:9001\"\
          \nor write one entry for each address:\
          \n    [[backends]]\n    url = \"http://10.0.0.1:9001\"\n    [[backends]]\n    url = \"http://10.0.0.2:9001\""
        ]
    );
    let overrides = Overrides {
        backends: given("--backend", &["http://mcp:9001"]),
        ..Overrides::default()
    };
    let faults = lines(check("", &overrides, &resolving()));
    assert!(
        faults[0]
            .ends_with("\n    --backend http://10.0.0.1:9001\n    --backend http://10.0.0.2:9001")
    );
}

#[test]
fn one_address_of_each_family_is_one_replica_and_none_may_come_later() {
    for host in ["localhost", "not-yet-there"] {
        let text = format!("[[backends]]\nurl = \"http://{host}:9001\"\n");
        let config = check(&text, &Overrides::default(), &resolving()).unwrap();
        assert_eq!(config.pools[0].backends.len(), 1);
    }
}

fn with_pod(address: &str, text: &str) -> Result<Config, ConfigErrors> {
    let world = TestWorld {
        env: [("POD_IP", address.to_owned())].into(),
        ..TestWorld::default()
    };
    check(text, &Overrides::default(), &world)
}

#[test]
fn the_local_backend_is_found_by_name_or_host() {
    let backends = "backends = [\
        { name = \"a\", url = \"http://10.0.0.1:80\" }, { url = \"http://10.0.0.2:80\" }, \
        { name = \"v6\", url = \"http://[fd00::1]:80\" }, { name = \"d\", url = \"http://Pod-7.mcp:80\" }]";
    for (local, expected) in [
        ("a", "a"),
        ("10.0.0.1", "a"),
        ("10.0.0.2", "10.0.0.2:80"),
        ("10.0.0.2:80", "10.0.0.2:80"),
        ("FD00:0::1", "v6"),
        ("::ffff:10.0.0.1", "a"),
        ("pod-7.mcp", "d"),
        ("env:POD_IP", "v6"),
    ] {
        let text = format!("{backends}\n[pool]\nplacement = \"local-first\"\nlocal = \"{local}\"");
        let config = with_pod("fd00::1", &text).unwrap_or_else(|errors| panic!("{errors}"));
        let pool = &config.pools[0];
        let found = pool.local.as_ref().unwrap();
        let found: Vec<&str> = pool
            .backends
            .iter()
            .filter(|backend| found.is(backend))
            .map(|backend| backend.name.as_str())
            .collect();
        assert_eq!(found, [expected], "{local}");
        assert!(!config.notes.iter().any(|note| note.contains("`local`")));
    }
}

#[test]
fn local_first_without_a_local_backend_says_what_to_write() {
    assert!(fault("[pool]\nplacement = \"local-first\"").starts_with(
        "2: pool.placement: which backend is the local one? Write local = \"env:POD_IP\" beside it"
    ));
    let text = format!("[pool]\nplacement = \"local-first\"\nlocal = \"env:POD_IP\"\n{BACKEND}");
    for faults in [lines(checked(&text)), lines(with_pod("", &text))] {
        let [fault] = &faults[..] else {
            panic!("{faults:?}");
        };
        assert!(fault.starts_with(
            "3: pool.local = \"env:POD_IP\": the variable POD_IP is not set, or empty; give it"
        ));
    }
    assert!(fault("[pool]\nlocal = \"env:\"").contains("as \"env:POD_IP\""));
    assert!(fault("[pool]\nlocal = \"a b\"").contains("write a backend's name or IP address"));
}

#[test]
fn a_local_backend_that_is_not_there_yet_is_worth_a_note() {
    let text = format!("{BACKEND}\n[pool]\nlocal = \"env:POD_IP\"");
    let config = with_pod("10.0.0.9", &text).unwrap();
    assert_eq!(
        config.notes[0],
        "no backend of pool default has the name or the host of `local`, which is \"10.0.0.9\": none is local"
    );
    assert_eq!(config.pools[0].placement, Placement::TwoChoices);
}

#[test]
fn stateless_affinity_is_a_list_of_what_a_request_may_have() {
    let pool = config(
        "[limits]\nprincipal = \"jwt:sub\"\n[pool]\nstateless_affinity = [\"param:Tenant\", \"header:X-Tenant\", \
         \"principal\", \"client-ip\"]",
    );
    let keys: Vec<String> = pool.pools[0]
        .stateless_affinity
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        keys,
        [
            "param:tenant",
            "header:x-tenant",
            "principal (jwt:sub)",
            "client-ip"
        ]
    );
    assert!(pool.notes.iter().all(|note| !note.contains("principal")));
    for (key, right) in [
        (
            "tenant",
            "write \"param:NAME\", \"header:NAME\", \"principal\" or \"client-ip\"",
        ),
        ("jwt:sub", "write \"param:NAME\""),
        ("param:", "write \"param:NAME\""),
        ("param:a b", "write the name that `x-mcp-header` gives"),
        ("header:", "no header has such a name"),
        ("principal", "Write principal = \"jwt:sub\" under [limits]"),
    ] {
        let fault = fault(&format!(
            "[pool]\nstateless_affinity = [\"client-ip\", \"{key}\"]"
        ));
        assert!(
            fault.starts_with("2: pool.stateless_affinity[1] = ") && fault.contains(right),
            "{fault}"
        );
    }
}
