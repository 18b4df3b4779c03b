//! What one look at a process tells.

use crate::support::{Backend, Client, Pinring, administrated_by_tcp, eventually, listing};

fn status(pinring: &Pinring) -> serde_json::Value {
    let (code, status) = pinring.ask_by_tcp("GET", "/status", "", "");
    assert_eq!(code, 200, "{status}");
    status
}

#[test]
fn it_tells_how_everything_stands() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let toml = listing(&[("a", &a, ""), ("b", &b, ", weight = 3, draining = true")]);
    let pinring = administrated_by_tcp(&toml, "");
    for _ in 0..4 {
        Client::initialize(pinring.address());
    }
    let told = status(&pinring);
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&told["phase"], &told["ready"]),
        (&"running".into(), &true.into())
    );
    assert_eq!(told["pid"], pinring.pid());
    assert_eq!(
        told["listeners"]["traffic"][0],
        pinring.address().to_string()
    );
    assert_eq!(
        told["listeners"]["admin"][0],
        pinring.admin_address().to_string()
    );
    assert_eq!(told["unprotected"][0], "pins without a secret");
    assert_eq!(
        (&told["sessions"], &told["sessions_complete"]),
        (&4.into(), &false.into())
    );
    assert!(told["last_reload"].is_null(), "{told}");
    let pool = &told["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["home"]),
        (&"default".into(), &"a".into())
    );
    let [first, second] = [0, 1].map(|index| &pool["backends"][index]);
    assert_eq!(
        (&first["state"], &first["why"], &first["sessions"]),
        (&"open".into(), &"".into(), &4.into())
    );
    assert_eq!(first["url"], format!("http://{}", a.address()));
    assert_eq!(
        (&second["state"], &second["weight"]),
        (&"draining".into(), &3.into())
    );
    assert_eq!(second["why"], "draining = true in the file");
    let shares = [first, second].map(|backend| backend["ring_share"].as_f64().unwrap());
    assert!(
        (shares[0] + shares[1] - 1.0).abs() < 1e-9 && shares[0] > 0.2,
        "{shares:?}"
    );
}

#[test]
fn it_tells_why_a_backend_gets_no_work_and_since_when() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let toml = listing(&[("a", &a, ""), ("b", &b, "")]);
    let pinring = administrated_by_tcp(&toml, "");
    drop(b);
    eventually("b is found out", || {
        Client::once(pinring.address(), "POST", "", "{}");
        status(&pinring)["pools"][0]["backends"][1]["state"] == "suspect"
    });
    let told = status(&pinring)["pools"][0]["backends"][1].clone();
    assert_eq!(told["why"], "it refuses connections");
    assert!(told["since_s"].as_u64().unwrap() < 30, "{told}");
}

#[test]
fn proxies_that_agree_have_the_same_digests() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let secret = "[affinity]\nsecrets = [\"env:TEST_SECRET\"]\n";
    let both = listing(&[("a", &a, ""), ("b", &b, "")]);
    let swapped = listing(&[("b", &b, ", weight = 2"), ("a", &a, "")]);
    let [one, other, alone] = [both + secret, swapped + secret, listing(&[("a", &a, "")])]
        .map(|toml| status(&administrated_by_tcp(&toml, "")));
    assert_eq!(
        (&one["ring"], &one["keys"]),
        (&other["ring"], &other["keys"])
    );
    assert_ne!(one["ring"], alone["ring"]);
    assert_ne!(one["keys"], alone["keys"]);
}

fn run(pinring: &Pinring, arguments: &[&str]) -> (Option<i32>, String) {
    let place = format!("--admin={}", pinring.admin_address());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pinring"))
        .args(arguments)
        .arg(place)
        .env("PINRING_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

#[test]
fn the_commands_ask_the_process_that_runs() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let toml = listing(&[("a", &a, ""), ("b", &b, "")]);
    let pinring = administrated_by_tcp(&toml, "admin_token = \"env:TEST_SECRET\"");
    let id = Client::initialize(pinring.address());
    let (name, _) = id.split_at(1);
    let (code, told) = run(&pinring, &["status"]);
    assert_eq!(code, Some(0), "{told}");
    for words in [
        "running, ready",
        "pins without a secret",
        "pool default",
        "1 live",
        "open",
    ] {
        assert!(told.contains(words), "{words} in:\n{told}");
    }
    let (_, told) = run(&pinring, &["status", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["sessions"], 1);
    let (code, told) = run(&pinring, &["explain", &id]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("goes to {name} (pinned)")), "{told}");
    assert!(told.contains(&format!("{name} is open for")), "{told}");
    assert_eq!(run(&pinring, &["drain", name, "--now"]).0, Some(0));
    let (code, told) = run(&pinring, &["explain", &id]);
    assert_eq!(code, Some(1), "{told}");
    for words in ["answered 404, reason backend_lost", "is drained"] {
        assert!(told.contains(words), "{words} in:\n{told}");
    }
    assert_eq!(run(&pinring, &["undrain", name]).0, Some(0));
    let (code, told) = run(&pinring, &["reload"]);
    assert!(
        code == Some(0) && told.starts_with("reloaded: nothing"),
        "{told}"
    );
    assert_eq!(
        run(&pinring, &["health", "--backends"]),
        (Some(0), "ready\n".to_owned())
    );
    drop(pinring);
}

#[test]
fn the_configuration_in_force_is_shown_without_its_secrets() {
    let backend = Backend::stateful("a");
    let toml = format!(
        "{}\n[affinity]\nsecrets = [\"env:TEST_SECRET\"]\n",
        Pinring::backends(&[&backend])
    );
    let pinring = administrated_by_tcp(&toml, "admin_token = \"env:TEST_SECRET\"");
    let (code, told) = pinring.ask_by_tcp("GET", "/config", "", "");
    assert_eq!((code, &told["timeouts"]["drain"]), (200, &"20s".into()));
    assert_eq!(told["pools"][0]["backends"][0]["name"], "a");
    assert!(!told.to_string().contains("0123456789"), "{told}");
}

#[test]
fn the_last_reload_and_its_faults_are_told() {
    let backend = Backend::stateful("a");
    let toml = |more: &str| format!("{}\n{more}\n", Pinring::backends(&[&backend]));
    let server = "watch = false\nadmin_token = \"env:TEST_SECRET\"";
    let pinring = administrated_by_tcp(&toml(""), server);
    let file = std::fs::read_to_string(pinring.file()).unwrap();
    let token = "authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    let reload = |text: &str| {
        pinring.write(text);
        pinring.ask_by_tcp("POST", "/reload", token, "")
    };
    let (code, told) = reload(&format!("colour = 1\n{file}"));
    assert_eq!((code, &told["result"]), (200, &"refused".into()));
    let fault = told["details"][0].as_str().unwrap();
    assert!(fault.contains("colour: unknown key"), "{fault}");
    assert_eq!(status(&pinring)["last_reload"]["details"][0], fault);
    let (_, told) = reload(&format!("{file}\n[timeouts]\ndrain = \"7s\"\n"));
    assert_eq!(told["result"], "changed");
    assert!(
        told["details"][0]
            .as_str()
            .unwrap()
            .contains("timeouts.drain 20s"),
        "{told}"
    );
    let last = status(&pinring)["last_reload"].clone();
    assert_eq!(
        (&last["reason"], &last["result"]),
        (&"an operator asks".into(), &"changed".into())
    );
}
