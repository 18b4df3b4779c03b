//! What is logged changes while the process runs: by an operator, for a while, and by the file.

use std::process::Command;

use serde_json::Value;

use crate::support::{Backend, Client, Pinring, administrated, ask, eventually, server_with_admin};

/// A line of level `debug` for this request, if the process writes such lines at the moment.
fn is_verbose(pinring: &Pinring) -> bool {
    let count = |text: &str| {
        let lines = pinring.log();
        lines.iter().filter(|line| line.contains(text)).count()
    };
    let (before, lines) = (count("\"refused\""), count("/misdirected"));
    let mut client = Client::connect(pinring.address());
    client.send("POST /misdirected HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    eventually("its access line", || count("/misdirected") > lines);
    count("\"refused\"") > before // it is written first
}

fn backend() -> Backend {
    Backend::stateful("a")
}

fn set(pinring: &Pinring, body: &str) -> (u16, Value) {
    ask(&pinring.admin(), "POST", "/log", body)
}

/// The command of the binary itself, with its output.
fn log(pinring: &Pinring, arguments: &[&str]) -> (bool, String) {
    let admin = format!("unix:{}", pinring.admin().display());
    let output = Command::new(env!("CARGO_BIN_EXE_pinring"))
        .args(["log", "--admin", &admin])
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn an_operator_changes_what_is_logged_and_takes_it_back() {
    let backend = backend();
    let toml = Pinring::backends(&[&backend]) + "\n[log]\nfilter = \"info\"\n";
    let pinring = administrated(&toml);
    assert!(!is_verbose(&pinring));
    let (good, text) = log(&pinring, &["debug"]);
    assert!(
        good && text.contains("debug (until the next reload"),
        "{text}"
    );
    assert!(is_verbose(&pinring));
    let mut audits = pinring.find_logs("action").into_iter();
    let audit = audits
        .find(|line| line["target"] == "pinring::audit")
        .unwrap();
    assert_eq!(
        (&audit["action"], &audit["filter"]),
        (&"log".into(), &"debug".into())
    );
    let (good, text) = log(&pinring, &[]);
    assert!(good && text.starts_with("debug"), "{text}");
    let (good, text) = log(&pinring, &["--reset"]);
    assert!(good && text.contains("info (as configured)"), "{text}");
    assert!(!is_verbose(&pinring));
}

#[test]
fn a_change_for_a_while_ends_by_itself() {
    let backend = backend();
    let toml = Pinring::backends(&[&backend]) + "\n[log]\nfilter = \"info\"\n";
    let pinring = administrated(&toml);
    let (status, answer) = set(&pinring, r#"{"filter":"debug","for":"300ms"}"#);
    assert_eq!((status, &answer["reset_in_s"]), (200, &1.into()));
    eventually("it is over", || {
        let (_, answer) = ask(&pinring.admin(), "GET", "/log", "");
        answer["filter"] == "info" && answer["reset_in_s"].is_null()
    });
    assert!(!is_verbose(&pinring));
    // The end of one change is not that of a later one.
    set(&pinring, r#"{"filter":"debug","for":"200ms"}"#);
    set(&pinring, r#"{"filter":"trace","for":"1h"}"#);
    set(&pinring, r#"{"filter":"debug","for":"200ms"}"#);
    set(&pinring, r#"{"filter":"debug"}"#);
    std::thread::sleep(std::time::Duration::from_millis(500)); // nothing may happen
    assert!(is_verbose(&pinring));
}

#[test]
fn a_reload_changes_the_filter_and_takes_an_operator_s_back() {
    let backend = backend();
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_admin(folder.path());
    let with = |filter: &str| {
        format!(
            "{}\n{server}watch = false\n[log]\nfilter = \"{filter}\"\n",
            Pinring::backends(&[&backend])
        )
    };
    let pinring = Pinring::start_in(folder, &with("info"), &[]);
    pinring.reload(&with("debug"));
    pinring.wait_for_log("\"reloaded\"");
    assert!(is_verbose(&pinring));
    set(&pinring, r#"{"filter":"trace"}"#);
    pinring.reload(&with("info"));
    eventually("the file counts again", || {
        ask(&pinring.admin(), "GET", "/log", "").1["filter"] == "info"
    });
    assert!(!is_verbose(&pinring));
}

#[test]
fn what_is_no_filter_changes_nothing_and_is_told() {
    let backend = backend();
    let toml = Pinring::backends(&[&backend]) + "\n[log]\nfilter = \"info\"\n";
    let pinring = administrated(&toml);
    for body in [
        r#"{"filter":"loud"}"#,
        r#"{"filter":"pinring=loud"}"#,
        r#"{"filter":"debug","for":"soon"}"#,
        r#"{"level":"debug"}"#,
    ] {
        assert_eq!(set(&pinring, body).0, 400, "{body}");
    }
    let (good, text) = log(&pinring, &["inof"]);
    assert!(!good && text.contains("neither a level"), "{text}");
    assert!(!is_verbose(&pinring));
}
