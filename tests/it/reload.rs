//! A configuration read again: on SIGHUP and when a watched file changes; all of it or nothing.

use std::{
    fs,
    io::Write as _,
    path::Path,
    sync::{
        Mutex,
        mpsc::{self, Sender},
    },
};

use crate::support::{Backend, Chunk, Client, Pinring, eventually, listing, ok};

/// Read again on SIGHUP and at no other time.
const UNWATCHED: &str = "[server]\nlisten = \"127.0.0.1:0\"\nwatch = false\n";

/// Waits for the log of a reload of which each field is as told.
fn reloaded(pinring: &Pinring, fields: &[(&str, &str)]) {
    eventually(&format!("a reload with {fields:?}"), || {
        let lines = pinring.find_logs("message").into_iter();
        lines
            .filter(|line| line["message"] == "reloaded")
            .any(|line| {
                let field = |(key, value): &(&str, &str)| {
                    line[*key].as_str().is_some_and(|text| text.contains(value))
                };
                fields.iter().all(field)
            })
    });
}

fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

/// A backend whose POST answers and GET streams begin at once and go on for as long as it is told what to send.
fn told() -> (Backend, Sender<&'static str>) {
    let (tell, told) = mpsc::channel::<&str>();
    let told = Mutex::new(told);
    let backend = Backend::start(move |request, stream| {
        if request.header("mcp-session-id").is_none() {
            let issued = ok("mcp-session-id: abc\r\n", "");
            return stream.write_all(&issued).is_ok();
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let told = told.lock().unwrap();
        for data in told.iter() {
            write!(stream, "{:x}\r\n{data}\r\n", data.len()).unwrap();
            if data.is_empty() {
                break;
            }
        }
        true
    });
    (backend, tell)
}

#[test]
fn a_signal_brings_what_the_file_says_now() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let none = "[affinity]\njoin_delay = \"0s\"\n";
    let pinring = Pinring::start(&format!("{}{none}{UNWATCHED}", listing(&[("a", &a, "")])));
    pinring.reload(&format!("{}{none}{UNWATCHED}", listing(&[("b", &b, "")])));
    reloaded(
        &pinring,
        &[
            ("reason", "SIGHUP"),
            ("changes", "backends added: b"),
            ("changes", "backends removed: a"),
        ],
    );
    assert!(Client::initialize(pinring.address()).starts_with("b-"));
}

#[test]
fn a_faulty_file_changes_nothing_and_every_fault_is_logged() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let pinring = Pinring::before(&[&a], UNWATCHED);
    let id = Client::initialize(pinring.address());
    let bad = "[timeouts]\ndrain = \"soon\"\nconect = \"1s\"\n";
    pinring.reload(&format!("{}{bad}{UNWATCHED}", listing(&[("b", &b, "")])));
    eventually("both faults", || pinring.find_logs("fault").len() >= 2);
    let faults = pinring.find_logs("fault");
    for (line, key) in [
        ("pinring.toml:3: ", "drain"),
        ("pinring.toml:4: ", "connect"),
    ] {
        let named = |fault: &str| fault.contains(line) && fault.contains(key);
        assert!(
            faults
                .iter()
                .any(|fault| named(fault["fault"].as_str().unwrap())),
            "{line}{key} in {faults:?}"
        );
    }
    assert!(faults.iter().all(|fault| fault["level"] == "ERROR"));
    assert_eq!(Client::in_session(pinring.address(), &id).status, 200);
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
    assert!(b.received().is_empty());
}

#[test]
fn a_vanished_file_changes_nothing_and_says_so() {
    let a = Backend::stateful("a");
    let pinring = Pinring::before(&[&a], UNWATCHED);
    fs::remove_file(pinring.file()).unwrap();
    pinring.signal("HUP");
    pinring.wait_for_log("cannot be read");
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
}

#[test]
fn what_needs_a_restart_is_refused_by_name_with_all_that_came_along() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let pinring = Pinring::before(&[&a], UNWATCHED);
    let moved = UNWATCHED
        .replace(":0\"", ":1\"")
        .replace("watch", "threads = 3\nwatch");
    pinring.reload(&format!("{}{moved}", listing(&[("b", &b, "")])));
    let refused = pinring.find_log("keys").unwrap();
    assert_eq!(
        (&refused["keys"], &refused["level"]),
        (&"server.listen, server.threads".into(), &"ERROR".into())
    );
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
}

#[test]
fn an_open_stream_and_a_running_call_outlive_the_reload_that_removes_their_backend() {
    for method in ["GET", "POST"] {
        let (backend, tell) = told();
        let other = Backend::stateful("b");
        let toml = "[affinity]\ndeparted = \"0s\"\n";
        let pinring = Pinring::before(&[&backend], &format!("{toml}{UNWATCHED}"));
        let id = Client::initialize(pinring.address());
        let mut client = Client::connect(pinring.address());
        client.send(crate::support::request(
            method,
            &format!("mcp-session-id: {id}\r\n"),
            "",
        ));
        client.head();
        tell.send("data: 1\n\n").unwrap();
        assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
        pinring.reload(&format!(
            "{}{toml}{UNWATCHED}",
            listing(&[("b", &other, "")])
        ));
        pinring.wait_for_log("its sessions are lost from now on");
        let answer = Client::in_session(pinring.address(), &id);
        assert_eq!(answer.reason(), "backend_lost", "for new requests");
        tell.send("data: 2\n\n").unwrap();
        assert_eq!(
            client.chunk(),
            Chunk::Data(b"data: 2\n\n".to_vec()),
            "{method}"
        );
        tell.send("").unwrap();
        assert_eq!(client.chunk(), Chunk::Last, "{method}");
    }
}

#[test]
fn a_watched_file_is_read_again_when_rewritten_in_place_or_replaced_by_another() {
    let (a, b, c) = (
        Backend::stateful("a"),
        Backend::stateful("b"),
        Backend::stateful("c"),
    );
    let pinring = Pinring::before(&[&a], "");
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\n";
    pinring.write(&listing(&[("a", &a, ""), ("b", &b, "")]));
    reloaded(
        &pinring,
        &[
            ("reason", "a file changed"),
            ("changes", "backends added: b"),
        ],
    );
    let three = listing(&[("a", &a, ""), ("b", &b, ""), ("c", &c, "")]);
    replace(&pinring.file(), &format!("{three}{server}"));
    reloaded(
        &pinring,
        &[
            ("reason", "a file changed"),
            ("changes", "backends added: c"),
        ],
    );
}

/// A mounted ConfigMap: `FILE -> ..data/FILE`, `..data -> ..1`; an update makes `..2` and renames another
/// link over `..data`.
struct ConfigMap(tempfile::TempDir);

impl ConfigMap {
    fn new(files: &[(&str, &str)]) -> Self {
        let map = Self(tempfile::tempdir().unwrap());
        map.update("..1", files);
        for (name, _) in files {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, map.0.path().join(name)).unwrap();
        }
        map
    }

    fn update(&self, version: &str, files: &[(&str, &str)]) {
        let folder = self.0.path();
        fs::create_dir(folder.join(version)).unwrap();
        for (name, text) in files {
            fs::write(folder.join(version).join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    fn start(&self) -> Pinring {
        let file = self.0.path().join("pinring.toml");
        let args = ["--config", file.to_str().unwrap()];
        Pinring::launch(tempfile::tempdir().unwrap(), &args, &[])
    }
}

#[test]
fn a_watched_configmap_is_read_again_whenever_kubernetes_swaps_it() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let server = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let one = format!("{}{server}", listing(&[("a", &a, "")]));
    let two = format!("{}{server}", listing(&[("a", &a, ""), ("b", &b, "")]));
    let map = ConfigMap::new(&[("pinring.toml", &one)]);
    let pinring = map.start();
    map.update("..2", &[("pinring.toml", &two)]);
    reloaded(
        &pinring,
        &[
            ("reason", "a file changed"),
            ("changes", "backends added: b"),
        ],
    );
    map.update("..3", &[("pinring.toml", &one)]);
    reloaded(
        &pinring,
        &[
            ("reason", "a file changed"),
            ("changes", "backends removed: b"),
        ],
    );
}

#[test]
fn a_changed_secret_reloads_also_one_that_a_reload_has_added() {
    let a = Backend::stateful("a");
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("one"), "1".repeat(32)).unwrap();
    let two = elsewhere.path().join("two");
    fs::write(&two, "2".repeat(32)).unwrap();
    let file = |secrets: &str| {
        format!(
            "{}[affinity]\nsecrets = [{secrets}]\n",
            listing(&[("a", &a, "")])
        )
    };
    let pinring = Pinring::start_in(folder, &file("\"file:one\""), &[]);
    let id = Client::initialize(pinring.address());
    fs::write(pinring.file().with_file_name("one"), "3".repeat(32)).unwrap();
    eventually("the key is gone", || {
        Client::in_session(pinring.address(), &id).reason() == "key_removed"
    });

    reloaded(&pinring, &[("reason", "a file changed")]);
    let read = || {
        let logs = pinring.find_logs("reason").into_iter();
        logs.filter(|line| line["reason"] == "a file changed")
            .count()
    };
    let before = read();
    pinring.reload(&file(&format!("\"file:{}\"", two.display())));
    eventually("the watcher has seen that change too", || read() > before);
    let id = Client::initialize(pinring.address());
    assert_eq!(Client::in_session(pinring.address(), &id).status, 200);
    replace(&two, &"4".repeat(32));
    eventually("the added file's key is gone", || {
        Client::in_session(pinring.address(), &id).reason() == "key_removed"
    });
}

#[test]
fn a_change_behind_a_link_to_another_folder_is_seen() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let server = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, real) = (
        folder.path().join("link.toml"),
        elsewhere.path().join("real"),
    );
    fs::write(&real, format!("{}{server}", listing(&[("a", &a, "")]))).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let pinring = Pinring::launch(folder, &["--config", link.to_str().unwrap()], &[]);
    fs::write(&real, format!("{}{server}", listing(&[("b", &b, "")]))).unwrap();
    reloaded(&pinring, &[("changes", "backends added: b")]);
}

#[test]
fn a_file_of_the_same_size_and_age_is_another_all_the_same() {
    let a = Backend::stateful("a");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "1".repeat(32)).unwrap();
    let age = fs::metadata(&secret).unwrap().modified().unwrap();
    let toml = "[affinity]\nsecrets = [\"file:secret\"]\n";
    let toml = format!("{}{toml}", listing(&[("a", &a, "")]));
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let id = Client::initialize(pinring.address());
    let beside = secret.with_extension("new");
    fs::write(&beside, "2".repeat(32)).unwrap();
    fs::File::options()
        .write(true)
        .open(&beside)
        .unwrap()
        .set_modified(age)
        .unwrap();
    fs::rename(&beside, &secret).unwrap();
    eventually("the key is gone", || {
        Client::in_session(pinring.address(), &id).reason() == "key_removed"
    });
}

#[test]
fn watching_goes_on_after_the_folder_was_away() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let outer = tempfile::tempdir().unwrap();
    let (folder, away) = (outer.path().join("here"), outer.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let file = folder.join("pinring.toml");
    fs::write(&file, format!("{}{server}", listing(&[("a", &a, "")]))).unwrap();
    let pinring = Pinring::launch(outer, &["--config", file.to_str().unwrap()], &[]);
    pinring.wait_for_log("nothing has changed"); // it is watching
    fs::rename(&folder, &away).unwrap();
    pinring.wait_for_log("cannot watch");
    fs::rename(&away, &folder).unwrap();
    fs::write(
        &file,
        format!("{}{server}", listing(&[("a", &a, ""), ("b", &b, "")])),
    )
    .unwrap();
    reloaded(&pinring, &[("changes", "backends added: b")]);
}
