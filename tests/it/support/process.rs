//! The pinring process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{Backend, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_pinring");

/// A running pinring with a configuration file of its own. Killed when dropped.
pub(crate) struct Pinring {
    child: Child,
    folder: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Pinring {
    /// Starts it with `toml`, to which a free port to listen on is added where `[server]` is absent.
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), toml, &[])
    }

    /// The same in a folder that may hold secrets already, and with further variables of the environment.
    pub(crate) fn start_in(folder: tempfile::TempDir, toml: &str, env: &[(&str, &str)]) -> Self {
        let file = folder.path().join("pinring.toml");
        std::fs::write(&file, with_server(toml)).unwrap();
        Self::launch(folder, &["--config", file.to_str().unwrap()], env)
    }

    /// Starts it by a program that runs what its arguments end in, such as `ip netns exec`.
    pub(crate) fn start_by(prefix: &[&str], toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pinring.toml");
        std::fs::write(&file, with_server(toml)).unwrap();
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg(BINARY);
        Self::spawn(command, folder, &["--config", file.to_str().unwrap()], &[])
    }

    /// Starts it with these arguments.
    pub(crate) fn launch(folder: tempfile::TempDir, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(BINARY), folder, args, env)
    }

    fn spawn(
        mut command: Command,
        folder: tempfile::TempDir,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args(["--log-format", "json"])
            .args(args)
            .env("RUST_LOG", "debug")
            .env("TEST_SECRET", "0123456789abcdef0123456789abcdef")
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let mut pinring = Self {
            child,
            folder,
            lines,
        };
        eventually("pinring listens", || {
            let ended = pinring.child.try_wait().unwrap();
            assert!(ended.is_none(), "pinring did not start");
            pinring.find_log("listen").is_some()
        });
        pinring
    }

    /// Starts it in front of `backends`, named a, b, c …, with nothing else configured but `toml`.
    pub(crate) fn before(backends: &[&Backend], toml: &str) -> Self {
        Self::start(&format!("{}\n{toml}", Self::backends(backends)))
    }

    /// The `backends` key for `backends`, named a, b, c …
    pub(crate) fn backends(backends: &[&Backend]) -> String {
        let entry = |(name, backend): (char, &&Backend)| {
            format!(
                "{{ name = \"{name}\", url = \"http://{}\" }}",
                backend.address()
            )
        };
        let entries: Vec<String> = ('a'..).zip(backends).map(entry).collect();
        format!("backends = [{}]", entries.join(", "))
    }

    /// Where it listens: at the first address, with TLS or without.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// All addresses where it listens.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let line = self.find_log("listen").unwrap();
        let listed = line["listen"].as_str().unwrap().split(", ");
        listed
            .map(|text| text.trim_start_matches("https://").parse().unwrap())
            .collect()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the configuration file, keeping the port, and does not reload.
    pub(crate) fn write(&self, toml: &str) {
        std::fs::write(self.file(), with_server(toml)).unwrap();
    }

    /// Replaces the configuration file, sends SIGHUP, and waits until the file was read.
    pub(crate) fn reload(&self, toml: &str) {
        let read = || {
            let logs = self.find_logs("reason").into_iter();
            logs.filter(|line| line["reason"] == "SIGHUP").count()
        };
        let before = read();
        self.write(toml);
        self.signal("HUP");
        eventually("the file is read again", || read() > before);
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("pinring.toml")
    }

    /// Sends a signal by name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        self.memory_kib() / 1024
    }

    /// Its resident memory, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("pinring ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first log line that has the field `key`.
    pub(crate) fn find_log(&self, key: &str) -> Option<Value> {
        self.find_logs(key).into_iter().next()
    }

    /// All log lines that have the field `key`.
    pub(crate) fn find_logs(&self, key: &str) -> Vec<Value> {
        let lines = self.log();
        let parsed = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line.get(key).is_some()).collect()
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(text, || self.log().iter().any(|line| line.contains(text)));
    }
}

fn with_server(toml: &str) -> String {
    let server = if toml.contains("[server]") {
        ""
    } else {
        // Without an admin listener: at its default address one of many that run side by side would answer for another.
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\n"
    };
    format!("{toml}\n{server}")
}

impl Drop for Pinring {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of pinring:\n{}", self.log().join("\n"));
        }
    }
}
