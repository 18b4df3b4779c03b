//! The command line: what it prints, and the exit code that tells how it went.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use crate::support::{Backend, Client, Pinring, eventually, listing};

/// A process that is killed when dropped.
struct Process(Child);

impl Process {
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinring"));
        // Another test's process may listen at the default address.
        command.env("PINRING_ADMIN", "unix:/nowhere/admin.sock");
        command.args(args).envs(env.iter().copied());
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What a command that ends has told.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    error: String,
}

fn run_with(args: &[&str], env: &[(&str, &str)]) -> Told {
    let mut process = Process::start(args, env);
    let mut code = None;
    eventually(&format!("{args:?} ends"), || {
        code = process.0.try_wait().unwrap();
        code.is_some()
    });
    let (mut out, mut error) = (String::new(), String::new());
    process
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    process
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    let code = code.unwrap().code();
    Told { code, out, error }
}

fn run(args: &[&str]) -> Told {
    run_with(args, &[])
}

/// Writes a file, and gives it with the folder that holds it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pinring.toml");
    fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

const BACKEND: &str = "[[backends]]\nname = \"a\"\nurl = \"http://127.0.0.1:9001\"\n";

#[test]
fn check_says_that_a_good_file_is_good() {
    let (_folder, path) = file(BACKEND);
    let told = run(&["check", &path]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.out.starts_with("good: 1 pool(s), 1 backend(s)"),
        "{told:?}"
    );
    for example in ["config/pinring.toml", "config/minimal.toml"] {
        assert_eq!(run(&["check", example]).code, Some(0), "{example}");
    }
}

#[test]
fn check_tells_every_fault_with_its_line_key_and_value() {
    let (_folder, path) = file(
        "[server]\nlisten = \"localhost\"\nadmin = \"localhost:9901\"\n[timeouts]\ndrain = 20\n\
         connekt = \"1s\"\n[[backends]]\nurl = \"https:/x\"\nweight = 0\n",
    );
    let told = run(&["check", &path]);
    assert_eq!((told.code, &*told.out), (Some(64), ""), "{told:?}");
    for (line, text) in [
        (2, "server.listen = \"localhost\": no address"),
        (3, "server.admin = \"localhost:9901\": write IP and port"),
        (5, "timeouts.drain = 20: "),
        (
            6,
            "timeouts.connekt: unknown key; the nearest known one is \"connect\"",
        ),
        (8, "backends[0].url = \"https:/x\": "),
        (9, "backends[0].weight = 0: "),
    ] {
        let fault = format!("{path}:{line}: {text}");
        assert!(told.error.contains(&fault), "{fault} in:\n{}", told.error);
    }
    assert_eq!(told.error.matches(&path).count(), 6, "{}", told.error);
    for line in told.error.lines() {
        assert!(line.starts_with(&path), "editors read file:line: {line}");
    }
}

#[test]
fn check_takes_its_file_as_serving_does() {
    let (_folder, path) = file(BACKEND);
    for args in [&["check", &*path][..], &["check", "--config", &path]] {
        assert_eq!(run(args).code, Some(0), "{args:?}");
    }
    for args in [&["check"][..], &["check", &path, "--config", &path]] {
        assert_eq!(run(args).code, Some(64), "{args:?}");
    }
    let told = run(&[&path]);
    assert_eq!(told.code, Some(64), "{told:?}");
    let right = format!("pinring --config {path}");
    assert!(told.error.contains(&right), "{told:?}");
}

#[test]
fn check_notes_what_is_no_fault() {
    let (_folder, path) = file(&format!(
        "{BACKEND}[[backends]]\nname = \"b\"\nurl = \"http://127.0.0.1:9001\"\n\
         [[backends]]\nname = \"c\"\nurl = \"http://no-such-host.invalid:9001\"\n"
    ));
    let told = run(&["check", &path]);
    assert_eq!((told.code, &*told.error), (Some(0), ""), "{told:?}");
    let notes: Vec<&str> = told.out.lines().skip(1).collect();
    assert!(
        notes.iter().all(|note| note.starts_with("note: ")),
        "{told:?}"
    );
    for words in [
        "no-such-host.invalid does not resolve now",
        "have one address",
        "without a secret",
    ] {
        assert!(notes.iter().any(|note| note.contains(words)), "{told:?}");
    }
    let url = "http://no-such-host.invalid:9001";
    let pinring = launch(&["--listen", "127.0.0.1:0", "--backend", url], &[]);
    pinring.wait_for_log("no-such-host.invalid does not resolve now");
}

#[test]
fn a_proxy_that_would_be_its_own_backend_does_not_start() {
    let told = run(&[
        "--listen",
        "127.0.0.1:9001",
        "--backend",
        "http://127.0.0.1:9001",
    ]);
    assert_eq!(told.code, Some(64), "{told:?}");
    let words = "this is where pinring itself listens";
    assert!(told.error.contains(words), "{told:?}");
}

#[test]
fn a_misspelt_level_in_the_environment_is_refused() {
    let serve = [
        "--listen",
        "127.0.0.1:0",
        "--backend",
        "http://127.0.0.1:9001",
    ];
    let told = run_with(&serve, &[("RUST_LOG", "inof")]);
    assert_eq!(told.code, Some(64), "{told:?}");
    for words in ["pinring: RUST_LOG \"inof\"", "neither a level", "\"info\""] {
        assert!(told.error.contains(words), "{words} in {told:?}");
    }
}

#[test]
fn serving_refuses_what_check_refuses() {
    let (_folder, path) = file("[timeouts]\ndrain = 20\n[[backends]]\nurl = \"x\"\n");
    let (checked, served) = (run(&["check", &path]), run(&["--config", &path]));
    assert_eq!((served.code, &served.error), (Some(64), &checked.error));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");
    let path = path.to_str().unwrap();
    for args in [
        &["--config", path][..],
        &["check", path],
        &["ring", "-c", path],
    ] {
        let told = run(args);
        assert_eq!(told.code, Some(64), "{told:?}");
        let named = format!("{path}: cannot be read: ");
        assert!(told.error.contains(&named), "{told:?}");
    }
}

#[test]
fn nothing_to_serve_is_told_with_what_to_do() {
    let told = run(&[]);
    assert_eq!(told.code, Some(64), "{told:?}");
    for word in ["--config", "--backend", "pinring demo"] {
        assert!(told.error.contains(word), "{told:?}");
    }
}

/// Starts it with these arguments and no file.
fn launch(args: &[&str], env: &[(&str, &str)]) -> Pinring {
    Pinring::launch(tempfile::tempdir().unwrap(), args, env)
}

fn coordinate(id: &str, config: &str) -> String {
    let told = run(&["explain", id, "--config", config]);
    told.out
        .lines()
        .find(|line| line.starts_with("backend"))
        .unwrap()
        .to_owned()
}

#[test]
fn backends_on_the_command_line_need_no_file_and_may_be_named() {
    let backend = Backend::stateful("a");
    let url = format!("http://{}", backend.address());
    let named = format!("x={url}");
    let (_folder, config) = file(&listing(&[("x", &backend, "")]));
    for (given, found) in [(&named, true), (&url, false)] {
        let pinring = launch(&["--listen", "127.0.0.1:0", "--backend", given], &[]);
        let id = Client::initialize(pinring.address());
        assert_eq!(Client::in_session(pinring.address(), &id).status, 200);
        let backend = coordinate(&id, &config);
        assert_eq!(backend.contains(" x ("), found, "{given}: {backend}");
    }
}

#[test]
fn the_environment_stands_in_for_flags_and_for_the_file() {
    let [one, two] = ["a", "b"].map(Backend::stateful);
    let backends = format!("x=http://{},http://{}", one.address(), two.address());
    let secret = "s".repeat(32);
    let pinring = launch(
        &[],
        &[
            ("PINRING_LISTEN", "127.0.0.1:0"),
            ("PINRING_BACKENDS", &backends),
            ("PINRING_SECRET", &secret),
        ],
    );
    let serving = pinring.find_log("listen").unwrap();
    assert_eq!(serving["backends"], 2);
    assert_eq!(serving["unprotected"], "none", "it has a secret");
    Client::initialize(pinring.address());

    let (folder, path) = file(&listing(&[("x", &one, "")]));
    let env = [
        ("PINRING_CONFIG", &*path),
        ("PINRING_LISTEN", "127.0.0.1:0"),
    ];
    let pinring = Pinring::launch(folder, &[], &env);
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
}

#[test]
fn a_weak_secret_of_the_environment_is_refused_and_not_shown() {
    let env = [("PINRING_SECRET", "hush-hush")];
    let told = run_with(&["--backend", "http://127.0.0.1:9001"], &env);
    assert_eq!(told.code, Some(64), "{told:?}");
    assert!(told.error.contains("PINRING_SECRET"), "{told:?}");
    assert!(!told.error.contains("hush-hush"), "{told:?}");
}

#[test]
fn a_port_in_use_is_told_and_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = ["--listen", &address, "--backend", "http://127.0.0.1:9001"];
    for args in [&serve[..], &["demo", "--listen", &address]] {
        let told = run(args);
        assert_eq!(told.code, Some(1), "{told:?}");
        for words in [&*address, "another process listens there", "--listen"] {
            assert!(told.error.contains(words), "{words} in {told:?}");
        }
        let of_a_file = told.error.contains("server.listen");
        assert_eq!(
            of_a_file,
            args != ["demo", "--listen", &address],
            "{told:?}"
        );
        assert_eq!(told.out, "", "nothing to paste where nothing serves");
    }
}

#[test]
fn a_port_that_another_pinring_serves_is_in_use() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let address = pinring.address().to_string();
    let told = run(&["--listen", &address, "--backend", "http://127.0.0.1:9001"]);
    assert_eq!(told.code, Some(1), "{told:?}");
}

#[test]
fn explain_tells_good_pins_from_others() {
    let [one, two] = ["a", "b"].map(Backend::stateful);
    let pinring = Pinring::before(&[&one], "");
    let id = Client::initialize(pinring.address());
    let here = pinring.file();
    let (_folder, elsewhere) = file(&listing(&[("b", &two, "")]));
    let (_folder, signed) = file(&format!(
        "{}[affinity]\nsecrets = [\"env:HUSH\"]\n",
        listing(&[("a", &one, "")])
    ));
    let forged = id.replace("a-1-", "a-2-");
    let here = here.to_str().unwrap();
    for (id, config, code, words) in [
        (&*id, None, 0, &["a-1", "verifies", "--config"][..]),
        (&id, Some(here), 0, &["verifies", "a (127.", "pool default"]),
        (
            &id,
            Some(&*elsewhere),
            1,
            &[
                "none of this configuration",
                "503, reason unknown_coordinate",
            ],
        ),
        (
            &id,
            Some(&*signed),
            1,
            &["cannot be verified", "not configured here"],
        ),
        (&forged, None, 1, &["does not verify"]),
        (&forged, Some(here), 1, &["does not verify"]),
        ("0193c2e6", None, 1, &["no pin", "depends"]),
        (
            "0193c2e6",
            Some(here),
            1,
            &["no pin", "pool default it goes to backend a (127."],
        ),
        (
            "0193c2e6",
            Some(&*signed),
            1,
            &["pool default it is answered 404, reason unpinned"],
        ),
    ] {
        let mut args = vec!["explain", id];
        args.extend(config.iter().flat_map(|config| ["--config", *config]));
        let told = run_with(&args, &[("HUSH", &"s".repeat(32))]);
        assert_eq!(told.code, Some(code), "{args:?} {told:?}");
        for word in words {
            assert!(told.out.contains(word), "{word} in {args:?} {told:?}");
        }
    }
    let told = run(&["explain", &id, "--config", "missing.toml"]);
    assert_eq!(told.code, Some(64), "{told:?}");
}

#[test]
fn explain_claims_nothing_about_a_signed_pin_without_its_configuration() {
    let backend = Backend::stateful("a");
    let url = format!("http://{}", backend.address());
    let secret = "s".repeat(32);
    let args = ["--listen", "127.0.0.1:0", "--backend", &url];
    let pinring = launch(&args, &[("PINRING_SECRET", &secret)]);
    let id = Client::initialize(pinring.address());
    let told = run(&["explain", &id]);
    assert_eq!(told.code, Some(1), "{told:?}");
    for name in ["in logs", "tag", "backend"] {
        let line = told.out.lines().find(|line| line.starts_with(name));
        assert!(line.unwrap().contains("--config"), "{name} in {told:?}");
    }
    eventually("the access line", || pinring.find_log("session").is_some());
    let hash = pinring.find_log("session").unwrap()["session"].clone();
    let env = [("PINRING_SECRET", &*secret)];
    for args in [
        &["explain", &id, "--backend", &url][..],
        &["explain", &id], // the secret is enough for all but the backend
    ] {
        let told = run_with(args, &env);
        assert_eq!(told.code, Some(0), "{told:?}");
        let in_logs = format!("in logs     {}", hash.as_str().unwrap());
        assert!(told.out.contains(&in_logs), "{told:?}");
        assert!(told.out.contains("verifies"), "{told:?}");
    }
    let told = run_with(&["explain", &id], &[("PINRING_SECRET", "weak")]);
    assert_eq!(told.code, Some(64), "{told:?}");
}

#[test]
fn ring_shows_the_share_of_each_backend() {
    let (_folder, path) = file(
        "[[pools]]\nname = \"p\"\nbackends = [{ url = \"http://127.0.0.1:1\" }, { name = \"b\", \
         url = \"http://127.0.0.1:2\", weight = 9 }]\n",
    );
    let told = run(&["ring", "--config", &path]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for words in ["pool p", "127.0.0.1:1  (127.0.0.1:1)", "b  (127.0.0.1:2)"] {
        assert!(told.out.contains(words), "{words} in {told:?}");
    }
    let told = run(&["ring", "--json", "--config", &path]);
    let ring: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let backends = ring["pools"][0]["backends"].as_array().unwrap();
    let shares = backends
        .iter()
        .map(|backend| backend["share"].as_f64().unwrap());
    assert!(
        shares.clone().all(|share| (0.3..0.7).contains(&share)),
        "{ring}"
    );
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{ring}");
}

#[test]
fn completions_and_help_show_how_to_use_it() {
    let told = run(&["completions", "bash"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("complete") && told.out.contains("pinring"));
    let told = run(&["--help"]);
    assert_eq!((told.code, &*told.error), (Some(0), ""), "{told:?}");
    for words in [
        "Examples:",
        "pinring demo",
        "PINRING_SECRET",
        "explain",
        "-cftk5pn",
        "kill -HUP PID",
    ] {
        assert!(told.out.contains(words), "{words} in {told:?}");
    }
}

#[test]
fn the_demo_prints_commands_for_the_port_that_it_listens_on() {
    let mut demo = Process::start(&["demo", "--listen", "127.0.0.1:0"], &[]);
    let lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let url = lines.map_while(Result::ok).find_map(|line| {
        Some(
            line.split_once("'http://")?
                .1
                .split_once("/mcp'")?
                .0
                .to_owned(),
        )
    });
    let address: SocketAddr = url.unwrap().parse().unwrap();
    assert_ne!(address.port(), 0);
    let initialize = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\
        \"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"c\",\"version\":\"1\"}}}";
    let mut id = None;
    eventually("the demo's replicas answer", || {
        let json = "content-type: application/json\r\n";
        let answer = Client::once(address, "POST", json, initialize);
        id = answer.header("mcp-session-id").map(str::to_owned);
        answer.status == 200
    });
    assert_eq!(id.unwrap().len(), 69, "a UUID and its pin");
}

#[test]
fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_told() {
    let limited = |limits: &str| {
        let mut pinring = Command::new("sh")
            .args([
                "-c",
                &format!("{limits}; exec \"$@\""),
                "sh",
                env!("CARGO_BIN_EXE_pinring"),
            ])
            .args(["--listen", "127.0.0.1:0", "--backend", "http://127.0.0.1:9"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(pinring.stderr.take().unwrap());
        let before = log.lines().map_while(Result::ok);
        let before: Vec<String> = before.take_while(|line| !line.contains("serves")).collect();
        let limits = fs::read_to_string(format!("/proc/{}/limits", pinring.id())).unwrap();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap()
            .to_owned();
        let told = before
            .iter()
            .any(|line| line.contains("limits.connections is"));
        pinring.kill().unwrap();
        pinring.wait().unwrap();
        (files, told)
    };
    let (raised, _) = limited("ulimit -Sn 256");
    let numbers: Vec<&str> = raised.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "soft and hard");
    assert!(limited("ulimit -n 300").1);
}
