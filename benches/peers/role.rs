//! What a benchmark has this program do in processes of its own: it makes load, or answers as replicas do.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    str::FromStr,
};

use crate::{
    backend,
    load::{self, Outcome, Plan},
};

/// Plays the role that `words` name; `None` where they name none.
pub(crate) fn play(words: &[&str]) -> Option<io::Result<()>> {
    match words {
        ["--role", "backend"] => Some(backend::serve()),
        ["--role", "calls", address, plan] => {
            let plan = serde_json::from_str(plan).expect("what this program gave itself");
            Some(load::calls(parsed(address), plan))
        }
        ["--role", "streams", address, count, every, seconds] => Some(load::streams(
            parsed(address),
            parsed(count),
            parsed(every),
            parsed(seconds),
        )),
        _ => None,
    }
}

/// How a role ended, for whoever waits for the process.
pub(crate) fn exit_code(played: io::Result<()>) -> ExitCode {
    played.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// A word that this program gave itself.
pub(crate) fn parsed<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("what this program gave itself")
}

/// A process that makes load. It ends with this value.
pub(crate) struct Load {
    child: Child,
    lines: Lines,
}

impl Load {
    pub(crate) fn calls(address: SocketAddr, plan: Plan) -> Self {
        let plan = serde_json::to_string(&plan).expect("plain data");
        Self::start(&["calls", &address.to_string(), &plan])
    }

    pub(crate) fn streams(address: SocketAddr, count: usize, every: u64, seconds: f64) -> Self {
        let [count, every, seconds] = [count.to_string(), every.to_string(), seconds.to_string()];
        Self::start(&["streams", &address.to_string(), &count, &every, &seconds])
    }

    /// Returns when it is ready to begin.
    fn start(role: &[&str]) -> Self {
        let mut child = spawn(role);
        let mut lines = Lines::of(&mut child);
        assert_eq!(lines.next(), "ready\n", "the load did not begin");
        Self { child, lines }
    }

    /// Lets it begin, and waits for what comes of it.
    pub(crate) fn run(&mut self) -> Outcome {
        self.begin();
        self.outcome()
    }

    pub(crate) fn begin(&mut self) {
        self.lines.ask();
    }

    /// What came of it, once it is over.
    pub(crate) fn outcome(&mut self) -> Outcome {
        serde_json::from_str(&self.lines.next()).expect("an outcome")
    }

    pub(crate) fn result(mut self) -> Outcome {
        self.run()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The replicas, which end with the first value, and where they listen.
pub(crate) fn backends() -> (Replicas, Vec<SocketAddr>) {
    let mut child = spawn(&["backend"]);
    let line = Lines::of(&mut child).next();
    let addresses = line.split_whitespace().map(parsed).collect();
    (Replicas(child), addresses)
}

pub(crate) struct Replicas(Child);

impl Drop for Replicas {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What is said between this process and one that it started.
pub(crate) struct Lines {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Lines {
    /// Those of `child`, once.
    pub(crate) fn of(child: &mut Child) -> Self {
        Self {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(child.stdout.take().expect("it is piped")),
        }
    }

    /// Says that the next line is waited for.
    pub(crate) fn ask(&mut self) {
        self.input.write_all(b"\n").expect("it reads");
    }

    pub(crate) fn next(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes");
        line
    }
}

/// Starts this program in a role, which is spoken with by lines.
pub(crate) fn spawn(role: &[&str]) -> Child {
    let this = std::env::current_exe().expect("this program");
    Command::new("taskset")
        .args(["-c", crate::CORES_OF_LOAD])
        .arg(this)
        .arg("--role")
        .args(role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("taskset, of util-linux")
}
