//! The admin socket: who may open it, how it comes and goes, and what it tells.

mod network;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    Backend, Client, Pinring, administrated, ask, eventually, ok, server_with_admin, socket_in,
};

/// What a start that fails tells, with its exit code.
fn failed_start(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinring"))
        .arg("--config")
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A configuration with an admin socket in `folder`; where it is.
fn written(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("pinring.toml");
    let server = server_with_admin(folder);
    let toml = format!("backends = [{{ url = \"http://127.0.0.1:9\" }}]\n{server}");
    fs::write(&file, toml).unwrap();
    file
}

#[test]
fn it_is_for_its_owner_alone_and_gone_after_the_end() {
    let backend = Backend::stateful("a");
    let mut pinring = administrated(&Pinring::backends(&[&backend]));
    let found = fs::symlink_metadata(pinring.admin()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let folder = pinring.file().parent().unwrap().to_owned();
    let names = || fs::read_dir(&folder).unwrap().count();
    assert_eq!(names(), 2, "the file and the socket");
    pinring.signal("TERM");
    assert_eq!(pinring.wait().code(), Some(0));
    assert_eq!(names(), 1, "the file alone");
}

#[test]
fn it_tells_how_each_backend_stands() {
    let backends = [Backend::stateful("a"), Backend::stateful("b")];
    let pinring = administrated(&Pinring::backends(&backends.each_ref()));
    let ids: Vec<String> = (0..8)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    for name in ["a", "b"] {
        let own = ids.iter().filter(|id| id.starts_with(name)).count();
        let shown = pinring.standing(name);
        assert_eq!(
            (&shown["pool"], &shown["state"]),
            (&"default".into(), &"open".into())
        );
        assert_eq!(shown["sessions"], own, "{shown}");
        assert_eq!(shown["sessions_complete"], false, "{shown}");
        let left = shown["sessions_complete_in_s"].as_u64().unwrap();
        assert!(
            (3590..=3600).contains(&left),
            "session_idle is an hour: {shown}"
        );
    }
}

#[test]
fn it_says_what_there_is_where_something_else_is_asked_for() {
    let backend = Backend::stateful("a");
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let (status, answer) = ask(&pinring.admin(), "GET", "/backend", "");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        status == 404 && message.contains("GET /backends"),
        "{answer}"
    );
    let (status, answer) = ask(&pinring.admin(), "POST", "/backends", "{}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(status == 405 && message.contains("GET"), "{answer}");
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced() {
    let backend = Backend::answering(ok("", "a"));
    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(socket_in(folder.path())).unwrap());
    let server = server_with_admin(folder.path());
    let toml = format!("{}\n{server}", Pinring::backends(&[&backend]));
    let pinring = Pinring::start_in(folder, &toml, &[]);
    assert_eq!(pinring.standing("a")["state"], "open");
}

#[test]
fn a_socket_that_a_process_serves_is_a_failed_start() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let (code, told) = failed_start(&pinring.file());
    assert_eq!(code, Some(1), "{told}");
    for words in ["unix:/", "another process answers there", "server.admin"] {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert_eq!(
        pinring.standing("a")["state"],
        "open",
        "the one before goes on"
    );
}

#[test]
fn where_no_socket_can_be_the_start_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path());
    fs::create_dir(socket_in(folder.path())).unwrap();
    let (code, told) = failed_start(&file);
    assert!(code == Some(1) && told.contains("no socket"), "{told}");

    let missing = folder.path().join("missing");
    let toml = fs::read_to_string(&file).unwrap();
    let here = folder.path().to_str().unwrap();
    fs::write(&file, toml.replace(here, missing.to_str().unwrap())).unwrap();
    let (code, told) = failed_start(&file);
    assert!(
        code == Some(1) && told.contains("folder does not exist"),
        "{told}"
    );
}

#[test]
fn a_changed_path_needs_a_restart() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let toml = fs::read_to_string(pinring.file()).unwrap();
    pinring.reload(&toml.replace("admin.sock", "other.sock"));
    eventually("the key is named", || {
        let logs = pinring.find_logs("keys");
        logs.iter().any(|line| line["keys"] == "server.admin")
    });
}
