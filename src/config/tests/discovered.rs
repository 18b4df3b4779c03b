//! What a configuration is with the backends that its names stand for.

use std::net::SocketAddr;

use super::*;
use crate::backend::Question;

const SERVICE: &str = "[[backends]]\nurl = \"dns+http://mcp:9001\"\n";

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

/// The names of the backends where each name stands for `list`, and why the others are none.
fn with(text: &str, list: &[&str]) -> (Vec<String>, Vec<WhyUnusable>) {
    let (config, unusable) = found(text, list, 5, false);
    let backends = config.pools.iter().flat_map(|pool| &pool.backends);
    (
        backends.map(|backend| backend.name.to_string()).collect(),
        unusable.into_iter().map(|unusable| unusable.why).collect(),
    )
}

fn found(text: &str, list: &[&str], ttl: u64, at_start: bool) -> (Config, Vec<Unusable>) {
    let list = addresses(list);
    let found = |_: &Question| {
        Some(Found {
            addresses: &list,
            ttl: Duration::from_secs(ttl),
            at_start,
        })
    };
    checked(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .with_found(found)
}

#[test]
fn backends_are_called_by_their_addresses() {
    let (names, unusable) = with(SERVICE, &["10.0.0.1:9001", "[2001:DB8:0::1]:9001"]);
    assert_eq!(names, ["10.0.0.1:9001", "[2001:db8::1]:9001"]);
    assert_eq!(unusable, []);
}

#[test]
fn a_name_may_have_the_address_in_it() {
    let text = "[[backends]]\nname = \"dev-{address}\"\nurl = \"dns+http://mcp\"";
    let (names, unusable) = with(text, &["127.0.0.1:80"]);
    assert_eq!(names, ["dev-127.0.0.1:80"]);
    assert_eq!(unusable, []);
}

#[test]
fn what_can_be_no_backend_is_left_out_and_told() {
    let listen = "server.listen = \"10.0.0.9:9001\"\n";
    let text =
        format!("{listen}{SERVICE}[[backends]]\nname = \"10.0.0.1:9001\"\nurl = \"http://h\"");
    let list = [
        "127.0.0.1:9001",
        "[::]:9001",
        "10.0.0.9:9001",
        "10.0.0.1:9001",
        "10.0.0.2:9001",
    ];
    let (names, unusable) = with(&text, &list);
    assert_eq!(names, ["10.0.0.1:9001", "10.0.0.2:9001"]);
    use WhyUnusable::{Loopback, Own, Taken, Unspecified};
    assert_eq!(unusable, [Loopback, Unspecified, Own, Taken]);
}

#[test]
fn the_keys_of_the_entry_are_for_each_backend() {
    let world = TestWorld {
        files: [("ca.pem", tls::pair().0)].into(),
        ..TestWorld::default()
    };
    let text = "pool.tls.roots = \"ca.pem\"\n[[backends]]\nurl = \"srv+https://_mcp._tcp.a.b\"\nweight = 3\ndraining = true";
    let config = check(text, &Overrides::default(), &world).unwrap();
    let list = addresses(&["10.0.0.1:1", "10.0.0.2:2"]);
    let (config, _) = config.with_found(|_| {
        Some(Found {
            addresses: &list,
            ttl: Duration::ZERO,
            at_start: false,
        })
    });
    for (backend, port) in config.pools[0].backends.iter().zip([1, 2]) {
        assert_eq!(backend.weight.0.get(), 3);
        assert_eq!(backend.admission, Admission::Draining);
        assert_eq!(backend.endpoint.authority(), format!("a.b:{port}"));
        let tls = backend.endpoint.tls.as_ref().unwrap();
        assert_eq!(tls.name().to_str(), "a.b");
    }
}

#[test]
fn who_joins_waits_for_twice_the_ttl_if_that_is_longer() {
    let delay = |ttl, at_start| {
        let (config, _) = found(SERVICE, &["10.0.0.1:9001"], ttl, at_start);
        config.pools[0].backends[0].join_delay.unwrap().as_secs()
    };
    assert_eq!(delay(2, false), 10);
    assert_eq!(delay(30, false), 60);
    assert_eq!(
        delay(30, true),
        0,
        "other proxies know who was there before"
    );
}

#[test]
fn a_pool_is_undiscovered_until_all_of_its_names_are_known() {
    let text = format!("{SERVICE}{}", SERVICE.replace("mcp", "other"));
    let config = checked(&text).unwrap();
    assert!(config.pools[0].undiscovered);
    let list = addresses(&["10.0.0.1:9001"]);
    let one = |question: &Question| {
        (&*question.name == "mcp").then_some(Found {
            addresses: &list,
            ttl: Duration::ZERO,
            at_start: false,
        })
    };
    assert!(config.with_found(one).0.pools[0].undiscovered);
    assert!(!found(SERVICE, &[], 5, false).0.pools[0].undiscovered);
    assert!(!super::config("").pools[0].undiscovered);
}

#[test]
fn the_local_one_is_found_among_them() {
    let world = TestWorld {
        env: [("POD_IP", "10.0.0.2".to_owned())].into(),
        ..TestWorld::default()
    };
    let text = format!("[pool]\nplacement = \"local-first\"\nlocal = \"env:POD_IP\"\n{SERVICE}");
    let config = check(&text, &Overrides::default(), &world).unwrap();
    assert!(!config.notes.iter().any(|note| note.contains("local")));
    let list = addresses(&["10.0.0.1:9001", "10.0.0.2:9001"]);
    let (config, _) = config.with_found(|_| {
        Some(Found {
            addresses: &list,
            ttl: Duration::ZERO,
            at_start: false,
        })
    });
    let local = config.pools[0].local.as_ref().unwrap();
    let is_local = config.pools[0]
        .backends
        .iter()
        .map(|backend| local.is(backend));
    assert_eq!(is_local.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn flags_and_the_environment_may_name_services() {
    let overrides = Overrides {
        backends: given(
            "PINRING_BACKENDS",
            &["dns+http://mcp:1", "x-{address}=dns+http://other:1"],
        ),
        ..Overrides::default()
    };
    let config = check("", &overrides, &TestWorld::default()).unwrap();
    let naming = |index: usize| config.pools[0].services[index].naming.text();
    assert_eq!(
        (naming(0), naming(1)),
        ("{address}".into(), "x-{address}".into())
    );
}

#[test]
fn intervals_are_in_order_and_servers_are_addresses() {
    let discovery = config("[discovery]\nservers = [\"10.96.0.10\", \"[::1]:5353\"]").discovery;
    assert_eq!(
        discovery.servers,
        addresses(&["10.96.0.10:53", "[::1]:5353"])
    );
    let fault = fault("[discovery]\nmin_interval = \"5m\"\nmax_interval = \"1m\"");
    assert!(fault.contains("is less than min_interval"), "{fault}");
    let fault = super::fault("[discovery]\nservers = [\"ns.example\"]");
    assert!(
        fault.contains("write the IP address of a DNS server"),
        "{fault}"
    );
}
