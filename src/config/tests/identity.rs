use super::*;
use crate::identity::Source;

const SECRET: &str = "secrets = [\"env:KEY\"]";

fn with_secret(text: &str) -> Result<Config, ConfigErrors> {
    let world = TestWorld {
        env: [("KEY", "e".repeat(32))].into(),
        ..TestWorld::default()
    };
    check(&format!("{text}\n{BACKEND}"), &Overrides::default(), &world)
}

/// The one fault of a text that may name a secret.
fn refused(text: &str) -> String {
    let mut faults = lines(with_secret(text));
    assert_eq!(faults.len(), 1, "{text:?}: {faults:#?}");
    faults.remove(0)
}

#[test]
fn sessions_are_bound_by_what_the_file_says_and_each_pool_may_say_otherwise() {
    let text = format!("[affinity]\n{SECRET}\nbind = \"jwt:sub\"\n[pool]\naccept_unbound = true");
    let config = with_secret(&text).unwrap();
    let pool = &config.pools[0];
    assert_eq!(pool.bind, Some("jwt:sub".parse::<Source>().unwrap()));
    assert_eq!(
        (pool.unpinned, pool.accept_unbound),
        (Unpinned::Reject, true)
    );
    assert!(
        config.notes[0].contains("accept_unbound is on in pool default"),
        "{:?}",
        config.notes
    );
    let with = |rest: &str| {
        let text = format!("[affinity]\n{SECRET}\nbind = \"jwt:sub\"\n[pool]\n{rest}");
        with_secret(&text).unwrap().pools[0].clone()
    };
    assert_eq!(with("bind = \"\"").bind, None);
    assert_eq!(
        with("bind = \"jwt:email\"").bind.unwrap().to_string(),
        "jwt:email"
    );
    assert_eq!(
        with("bind = \"\"\nunpinned = \"ring\"").unpinned,
        Unpinned::Ring
    );
    assert_eq!(super::config("").pools[0].bind, None);
}

#[test]
fn sessions_are_bound_by_a_secret_that_not_everybody_has() {
    assert_eq!(
        refused("[affinity]\nbind = \"jwt:sub\""),
        "2: affinity.bind = \"jwt:sub\": needs a secret: without one anybody can make a pin, also for himself. Make one \
         with: head -c 32 /dev/urandom | base64 > pinring.secret, and write secrets = [\"file:pinring.secret\"] under [affinity]"
    );
    assert!(
        refused("[affinity]\nsecrets = [\"env:KEY\", \"none\"]\nbind = \"jwt:sub\"")
            .ends_with("remove \"none\" from affinity.secrets")
    );
    assert!(refused("[pool]\nbind = \"jwt:sub\"").starts_with("2: pool.bind = "));
    // A secret that cannot be read has a fault of its own, and one is enough.
    let absent = refused("[affinity]\nsecrets = [\"env:ABSENT\"]\nbind = \"jwt:sub\"");
    assert!(absent.contains("ABSENT is not set"), "{absent}");
}

#[test]
fn what_binds_to_nobody_is_refused() {
    for bind in ["address", "jwt", "jwt:", "sub", "header:", "header:a b"] {
        let fault = refused(&format!("[affinity]\n{SECRET}\nbind = \"{bind}\""));
        assert!(
            fault.contains("write \"jwt:CLAIM\", such as \"jwt:sub\", or \"header:NAME\""),
            "{fault}"
        );
    }
    let header = format!("[affinity]\n{SECRET}\nbind = \"header:X-User\"");
    assert!(refused(&header).contains("whose word is it? Write trusted_proxies = ["));
    with_secret(&format!(
        "[server]\ntrusted_proxies = [\"10.0.0.1\"]\n{header}"
    ))
    .unwrap();
}

#[test]
fn ids_without_a_pin_are_no_way_around_the_binding() {
    let fault = |text: &str| refused(&text.replace("SECRET", SECRET));
    for (text, key) in [
        (
            "[affinity]\nSECRET\nbind = \"jwt:sub\"\nunpinned = \"ring\"",
            "4: affinity.unpinned: ",
        ),
        (
            "[affinity]\nSECRET\nbind = \"jwt:sub\"\n[pool]\nunpinned = \"ring\"",
            "5: pool.unpinned: ",
        ),
        (
            "[affinity]\nSECRET\nunpinned = \"ring\"\n[pool]\nbind = \"jwt:sub\"",
            "5: pool.bind: ",
        ),
    ] {
        let fault = fault(text);
        assert!(
            fault.starts_with(key) && fault.contains("would be a way around bind"),
            "{fault}"
        );
    }
}

#[test]
fn proxies_are_trusted_by_address_and_network() {
    let trusted = |list: &str| {
        config(&format!("[server]\ntrusted_proxies = [{list}]"))
            .server
            .trusted_proxies
    };
    let found = trusted("\"192.0.2.1\", \"10.1.2.3/8\", \"fd00::/8\", \"::1\"");
    let networks: Vec<String> = found.networks().iter().map(ToString::to_string).collect();
    assert_eq!(
        networks,
        ["192.0.2.1/32", "10.0.0.0/8", "fd00::/8", "::1/128"]
    );
    let mapped =
        trusted("\"::ffff:10.1.2.3/104\", \"::ffff:192.0.2.1\", \"::ffff:0:0/96\", \"::/0\"");
    let networks: Vec<String> = mapped.networks().iter().map(ToString::to_string).collect();
    assert_eq!(
        networks,
        ["10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "::/0"],
        "clients of IPv4 are looked at as such"
    );
    for entry in ["", "localhost", "10.0.0.0/33", "10.0.0", "10.0.0.1:80", "*"] {
        let told = fault(&format!("[server]\ntrusted_proxies = [\"{entry}\"]"));
        assert!(
            told.contains("write an address, such as \"192.0.2.1\", or a network"),
            "{told}"
        );
    }
    let everybody = config("[server]\ntrusted_proxies = [\"0.0.0.0/0\"]").notes;
    assert!(
        everybody[1].contains("list your proxies alone"),
        "{everybody:?}"
    );
}

#[test]
fn the_proxy_protocol_is_spoken_with_those_who_are_trusted() {
    assert_eq!(
        fault("[server]\nproxy_protocol = true"),
        "2: server.proxy_protocol: whose headers are believed? Write trusted_proxies = [\"10.0.0.0/8\"], or whatever \
         addresses your balancers have, beside it"
    );
    let server =
        config("[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]").server;
    assert!(server.proxy_protocol);
}
