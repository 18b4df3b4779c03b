//! Backends that a DNS name stands for: they come and go as a real DNS server says, and no session is lost by what it
//! does not say.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Answer, Backend, Client, Dns, Pinring, at_one_port, eventually};

const NAME: &str = "mcp.test";

/// Loopback addresses are names only where the file says so.
const NAMED: &str = "name = \"dev-{address}\"\n";

/// A configuration in which `NAME` stands for backends at the port of `backend`.
fn toml(dns: &Dns, backend: &Backend, more: &str) -> String {
    let port = backend.address().port();
    let entry = format!("[[backends]]\n{NAMED}url = \"dns+http://{NAME}:{port}\"\n");
    format!("{entry}{}{more}\n", dns.section())
}

/// From now on the name stands for these.
fn put(dns: &Dns, backends: &[&Backend]) {
    let address = |backend: &&Backend| (NAME, backend.address().ip().to_string());
    dns.put(&backends.iter().map(address).collect::<Vec<_>>());
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason())
}

/// Which backends get new sessions.
fn placed(pinring: &Pinring) -> BTreeSet<char> {
    let first = |_| Client::initialize(pinring.address()).chars().next();
    (0..24).filter_map(first).collect()
}

fn are_placed(pinring: &Pinring, names: &str) {
    let names: BTreeSet<char> = names.chars().collect();
    eventually(&format!("{names:?} get new sessions"), || {
        placed(pinring) == names
    });
}

/// A session of the backend that calls itself `name`.
fn session_of(name: char, pinring: &Pinring) -> String {
    let mut id = String::new();
    eventually(&format!("a session of {name}"), || {
        id = Client::initialize(pinring.address());
        id.starts_with(name)
    });
    id
}

fn serves(pinring: &Pinring, id: &str) {
    let answer = Client::in_session(pinring.address(), id);
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
}

#[test]
fn all_addresses_of_a_name_are_backends_from_the_start() {
    let (dns, all) = (Dns::start(1, &[]), at_one_port(3));
    put(&dns, &all.iter().collect::<Vec<_>>());
    let pinring = Pinring::start(&toml(&dns, &all[0], ""));
    assert_eq!(placed(&pinring), "012".chars().collect());
    let line = pinring.find_log("listen").unwrap();
    assert_eq!(line["backends"], 3, "and they are there when it listens");
}

#[test]
fn who_comes_joins_and_who_goes_keeps_its_sessions() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(3));
    put(&dns, &[&all[0]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\""));
    are_placed(&pinring, "0");
    put(&dns, &all.iter().collect::<Vec<_>>());
    are_placed(&pinring, "012");
    let id = session_of('2', &pinring);
    put(&dns, &[&all[0], &all[1]]);
    are_placed(&pinring, "01");
    serves(&pinring, &id);
    let gone = pinring.find_logs("gone");
    let address = all[2].address().to_string();
    assert!(
        gone.iter()
            .any(|line| line["gone"].as_str().unwrap().contains(&address))
    );
    put(&dns, &all.iter().collect::<Vec<_>>());
    are_placed(&pinring, "012");
    serves(&pinring, &id);
}

#[test]
fn who_joins_gets_new_work_after_twice_the_ttl() {
    let (dns, all) = (Dns::start(2, &[]), at_one_port(2));
    put(&dns, &[&all[0]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], "[affinity]\njoin_delay = \"1s\""));
    put(&dns, &[&all[0], &all[1]]);
    let joined = all[1].address().to_string();
    eventually("it is discovered", || {
        let logs = pinring.find_logs("joined");
        let is_told = |line: &serde_json::Value| line["joined"].to_string().contains(&joined);
        logs.iter().any(is_told)
    });
    let since = Instant::now();
    assert_eq!(placed(&pinring), ['0'].into());
    are_placed(&pinring, "01");
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(3), "{waited:?}"); // of four, and the line may have come late
}

#[test]
fn whatever_the_dns_fails_to_say_the_last_list_stays() {
    let (mut dns, all) = (Dns::start(0, &[]), at_one_port(2));
    put(&dns, &[&all[0], &all[1]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\""));
    let id = session_of('1', &pinring);
    let stays = |reason: &str| {
        pinring.wait_for_log(&format!("\"reason\":\"{reason}\""));
        serves(&pinring, &id);
        assert_eq!(placed(&pinring), ['0', '1'].into(), "{reason}");
    };
    dns.put(&[]);
    stays("no_such_name");
    dns.put(&[(NAME, "::ffff".to_owned())]); // no address of the family that was found first
    stays("empty");
    dns.fall_silent();
    stays("silent");
    dns.wake();
    put(&dns, &[&all[0], &all[1]]);
    pinring.wait_for_log("discovered again");
    dns.end();
    eventually("nobody is there to be asked", || {
        let logs = pinring.find_logs("service");
        let last = logs.last().unwrap()["reason"].as_str().map(str::to_owned);
        last.is_some_and(|reason| reason == "unasked" || reason == "silent")
    });
    serves(&pinring, &id);
    dns.restart(&[]);
    put(&dns, &[&all[1]]);
    are_placed(&pinring, "1");
    serves(&pinring, &id);
}

#[test]
fn a_server_that_refuses_is_no_reason_to_lose_anybody() {
    let (mut dns, all) = (Dns::start(0, &[]), at_one_port(1));
    put(&dns, &[&all[0]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], ""));
    let id = Client::initialize(pinring.address());
    dns.put(&[]);
    dns.refuse();
    pinring.wait_for_log("\"reason\":\"server_failure\"");
    serves(&pinring, &id);
}

#[test]
fn flapping_names_cost_no_session() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(3));
    let everybody: Vec<&Backend> = all.iter().collect();
    put(&dns, &everybody);
    let pinring = Pinring::start(&toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\""));
    let sessions: Vec<String> = "012"
        .chars()
        .map(|name| session_of(name, &pinring))
        .collect();
    for round in 0..12 {
        match round % 4 {
            0 => put(&dns, &everybody[..1]),
            1 => dns.put(&[]),
            2 => put(&dns, &everybody[1..]),
            _ => put(&dns, &everybody),
        }
        let until = Instant::now() + Duration::from_millis(250); // longer than the interval
        while Instant::now() < until {
            for id in &sessions {
                serves(&pinring, id);
            }
            Client::initialize(pinring.address());
        }
    }
    are_placed(&pinring, "012");
}

#[test]
fn a_long_answer_comes_over_tcp() {
    let (dns, all) = (Dns::start(0, &["--edns-packet-max=512"]), at_one_port(1));
    // More than go into 512 bytes; all but one are of nobody.
    let mut records: Vec<(&str, String)> = (1..=60)
        .map(|last| (NAME, format!("198.18.77.{last}")))
        .collect();
    records.push((NAME, all[0].address().ip().to_string()));
    dns.put(&records);
    let pinring = Pinring::start(&toml(&dns, &all[0], ""));
    let line = pinring.find_log("listen").unwrap();
    assert_eq!(line["backends"], 61);
}

#[test]
fn one_family_is_taken_unless_both_are_asked_for() {
    let mut v4 = crate::support::anywhere();
    let v6 = Backend::stateful_at("[::1]:0".parse().unwrap(), "6");
    v4.set_port(v6.address().port());
    let v4 = Backend::stateful_at(v4, "4");
    let dns = Dns::start(0, &[]);
    let start = |family: &str| {
        let toml = toml(&dns, &v4, "").replace("[discovery]", &format!("{family}[discovery]"));
        Pinring::start(&toml)
    };
    put(&dns, &[&v6]);
    assert_eq!(placed(&start("")), ['6'].into());
    put(&dns, &[&v4, &v6]);
    assert_eq!(placed(&start("")), ['4'].into());
    assert_eq!(placed(&start("family = \"ipv6\"\n")), ['6'].into());
    assert_eq!(placed(&start("family = \"both\"\n")), ['4', '6'].into());
}

#[test]
fn srv_records_have_the_ports_and_the_lowest_priority_is_taken() {
    let all = [
        Backend::stateful("0"),
        Backend::stateful("1"),
        Backend::stateful("2"),
    ];
    let record = |index: usize, priority: u8| {
        let port = all[index].address().port();
        format!("--srv-host=_mcp._tcp.mcp.test,{index}.test,{port},{priority},1")
    };
    let (first, second, spare) = (record(0, 1), record(1, 1), record(2, 9));
    let hosts: Vec<(&str, String)> = ["0.test", "1.test", "2.test"]
        .into_iter()
        .zip(&all)
        .map(|(name, backend)| (name, backend.address().ip().to_string()))
        .collect();
    let mut dns = Dns::start(0, &[&first, &second, &spare]);
    dns.put(&hosts);
    let toml = format!(
        "[[backends]]\n{NAMED}url = \"srv+http://_mcp._tcp.{NAME}\"\n{}[affinity]\njoin_delay = \"0s\"\n",
        dns.section()
    );
    let pinring = Pinring::start(&toml);
    assert_eq!(placed(&pinring), ['0', '1'].into());
    let id = session_of('0', &pinring);
    dns.restart(&[&second, &spare]);
    are_placed(&pinring, "1");
    serves(&pinring, &id);
    dns.restart(&[&spare]);
    are_placed(&pinring, "2");
    serves(&pinring, &id);
    dns.restart(&[&first]);
    dns.put(&hosts[1..]); // the record is older than the address that it names
    pinring.wait_for_log("\"reason\":\"empty\"");
    serves(&pinring, &id);
}

#[test]
fn a_proxy_that_is_behind_asks_again_when_a_pin_tells_it_to() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(2));
    put(&dns, &[&all[0]]);
    let slow = dns
        .section()
        .replace("min_interval = \"100ms\"", "min_interval = \"1h\"");
    let text = toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\"");
    let behind =
        Pinring::start(&text.replace(&dns.section(), &format!("{slow}max_interval = \"1h\"\n")));
    let ahead = Pinring::start(&text);
    put(&dns, &[&all[0], &all[1]]);
    let id = session_of('1', &ahead);
    serves(&behind, &id);
}

#[test]
fn a_pin_that_no_question_explains_is_answered_503_and_never_404_while_it_may_be_known_elsewhere() {
    let (dns, other, all) = (Dns::start(0, &[]), Dns::start(0, &[]), at_one_port(2));
    put(&dns, &[&all[0]]);
    put(&other, &[&all[0], &all[1]]);
    let affinity = "[affinity]\njoin_delay = \"0s\"";
    let behind = Pinring::start(&toml(&dns, &all[0], affinity));
    let ahead = Pinring::start(&toml(&other, &all[0], affinity));
    let id = session_of('1', &ahead);
    let answer = Client::in_session(behind.address(), &id);
    assert_eq!(told(&answer), (503, "unknown_coordinate".to_owned()));
    put(&dns, &[&all[1]]);
    serves(&behind, &id);
}

#[test]
fn a_name_that_does_not_resolve_at_the_start_costs_no_session() {
    let (dns, other, all) = (Dns::start(0, &[]), Dns::start(0, &[]), at_one_port(1));
    put(&other, &[&all[0]]);
    let ahead = Pinring::start(&toml(&other, &all[0], ""));
    let id = Client::initialize(ahead.address());
    let began = Instant::now();
    let pinring = Pinring::start(&toml(&dns, &all[0], "[affinity]\nunknown_grace = \"0s\""));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it serves all the same"
    );
    for headers in [
        String::new(),
        format!("Mcp-Session-Id: {id}\r\n"),
        "Mcp-Session-Id: x\r\n".to_owned(),
    ] {
        for _ in 0..2 {
            let answer = Client::once(pinring.address(), "POST", &headers, "{}");
            assert_eq!(told(&answer), (503, "undiscovered".to_owned()), "{headers}");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
    }
    put(&dns, &[&all[0]]);
    eventually("it is discovered", || {
        Client::in_session(pinring.address(), &id).status == 200
    });
    assert!(Client::initialize(pinring.address()).starts_with('0'));
}

#[test]
fn who_never_answered_and_is_taken_out_of_the_file_is_not_waited_for() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(1));
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nprobes = \"127.0.0.1:0\"\nhealth_path = \"/up\"\n";
    let pinring = Pinring::start(&toml(&dns, &all[0], server));
    let line = pinring.find_log("probes").unwrap();
    let probes = line["probes"].as_str().unwrap().parse().unwrap();
    let get = |address, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        Client::connect(address).send(request).answer().status
    };
    let readiness = || (get(probes, "/readyz"), get(pinring.address(), "/up"));
    assert_eq!(readiness(), (503, 503));
    pinring.reload(&format!("{}\n{server}", Pinring::backends(&[&all[0]])));
    assert_eq!(readiness(), (200, 200));
}

#[test]
fn a_request_that_waits_is_served_by_the_first_answer() {
    let (dns, other, all) = (Dns::start(0, &[]), Dns::start(0, &[]), at_one_port(1));
    put(&other, &[&all[0]]);
    let ahead = Pinring::start(&toml(&other, &all[0], ""));
    let id = Client::initialize(ahead.address());
    let pinring = Pinring::start(&toml(&dns, &all[0], ""));
    let mut client = Client::connect(pinring.address());
    client.send(crate::support::request(
        "POST",
        &format!("mcp-session-id: {id}\r\n"),
        "{}",
    ));
    put(&dns, &[&all[0]]);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn the_file_may_name_others_and_keeps_what_was_discovered() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(2));
    dns.put(&[
        (NAME, all[0].address().ip().to_string()),
        ("other.test", all[1].address().ip().to_string()),
    ]);
    let text = toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\"");
    let pinring = Pinring::start(&text);
    let id = Client::initialize(pinring.address());
    dns.fall_silent();
    pinring.reload(&format!("{text}[timeouts]\ndrain = \"1s\"\n"));
    assert_eq!(
        placed(&pinring),
        ['0'].into(),
        "a reload asks for nothing anew"
    );
    dns.wake();
    pinring.reload(&text.replace(NAME, "other.test"));
    are_placed(&pinring, "1");
    serves(&pinring, &id);
}

#[test]
fn the_pod_s_own_server_is_found_by_its_address() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(3));
    put(&dns, &all.iter().collect::<Vec<_>>());
    let pool = "[pool]\nplacement = \"local-first\"\nlocal = \"env:POD_IP\"";
    let ip = all[1].address().ip().to_string();
    let folder = tempfile::tempdir().unwrap();
    let pinring = Pinring::start_in(folder, &toml(&dns, &all[0], pool), &[("POD_IP", &ip)]);
    assert_eq!(placed(&pinring), ['1'].into());
}

#[test]
fn loopback_addresses_are_refused_as_names() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(1));
    put(&dns, &[&all[0]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], "").replace(NAMED, ""));
    pinring.wait_for_log("a loopback address is another backend on each machine");
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(told(&answer), (503, "no_backend".to_owned()));
}

#[test]
fn backends_are_told_the_name_where_host_is_rewritten() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(1));
    put(&dns, &[&all[0]]);
    let pinring = Pinring::start(&toml(&dns, &all[0], "[pool]\nhost = \"rewrite\""));
    Client::initialize(pinring.address());
    let port = all[0].address().port();
    let host = format!("{NAME}:{port}");
    assert_eq!(all[0].received()[0].header("host"), Some(&*host));
}

#[test]
fn check_and_ring_tell_what_a_name_stands_for() {
    let (dns, all) = (Dns::start(7, &[]), at_one_port(2));
    put(&dns, &[&all[0], &all[1]]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml(&dns, &all[0], "")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinring"));
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = file.path().to_str().unwrap();
    let checked = run(&["check", path]);
    assert!(
        checked.contains("1 name(s) that stand for backends"),
        "{checked}"
    );
    assert!(checked.contains("stands for 2 backends now"), "{checked}");
    let ring = run(&["ring", "--config", path]);
    assert!(
        ring.contains(&format!("dev-{}", all[1].address())),
        "{ring}"
    );
    dns.put(&[]);
    eventually("check says that there is nobody", || {
        run(&["check", path]).contains("no such name (NXDOMAIN)")
    });
}

/// As in config/kubernetes/gateway.yaml: the first name has who is ready, the second everybody who exists.
#[test]
fn an_address_of_two_names_belongs_to_the_first() {
    let (dns, all) = (Dns::start(0, &[]), at_one_port(3));
    let put = |ready: &[usize], existing: &[usize]| {
        let records = |name, which: &[usize]| {
            let address = |&index: &usize| (name, all[index].address().ip().to_string());
            which.iter().map(address).collect::<Vec<_>>()
        };
        dns.put(&[records("ready.test", ready), records("all.test", existing)].concat());
    };
    let ready = toml(&dns, &all[0], "[affinity]\njoin_delay = \"0s\"").replace(NAME, "ready.test");
    let port = all[0].address().port();
    let existing =
        format!("[[backends]]\n{NAMED}url = \"dns+http://all.test:{port}\"\ndraining = true\n");
    let text = ready + &existing;
    put(&[0, 1], &[0, 1, 2]);
    let pinring = Pinring::start(&text);
    assert_eq!(placed(&pinring), ['0', '1'].into());
    let id = session_of('1', &pinring);
    put(&[0], &[0, 1, 2]);
    are_placed(&pinring, "0");
    serves(&pinring, &id);
    let late = Pinring::start(&text);
    assert_eq!(placed(&late), ['0'].into());
    serves(&late, &id);
    put(&[0, 2], &[0, 2]);
    are_placed(&pinring, "02");
    serves(&pinring, &id);
    let complaints = pinring
        .log()
        .into_iter()
        .filter(|line| line.contains("not taken"));
    assert_eq!(complaints.count(), 0, "two names are no fault");
}
