//! Requests that are hostile, or that two servers could read differently.

mod framing;
mod heads;
mod meaning;

use std::{collections::HashMap, io::Write as _};

use super::site::{Ledger, Next, Reader, echo};
use crate::support::{Backend, ONE_THREAD, Pinring, eventually};

/// What a client sends on a connection of its own, and what comes of it: its answers, each `200 <backend> <method> <target>
/// <body>` or the status and reason of an error, and then whether the connection is `closed` or `open` for another
/// request. `~<method> <target>` stands before them if the backend may have received the beginning of that request.
struct Case {
    sent: Vec<u8>,
    told: &'static [&'static str],
}

/// What nobody may ever take for a request.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Refused by the parser.
const BAD: &[&str] = &["400", "closed"];
const BAD_HOST: &[&str] = &["400 host_invalid", "closed"];
const BAD_TARGET: &[&str] = &["400 target_invalid", "closed"];
const AMBIGUOUS: &[&str] = &["400 header_ambiguous", "closed"];
const UPGRADE: &[&str] = &["400 upgrade", "closed"];
const UNKNOWN_CODING: &[&str] = &["501 transfer_coding", "closed"];
/// The body turned out to be none, after its beginning was passed on.
const BAD_BODY: &[&str] = &["~POST /mcp", "400 request_body_invalid", "closed"];
const SERVED: &[&str] = &["200 root POST /mcp", "open"];
const SERVED_AB: &[&str] = &["200 root POST /mcp ab", "open"];
const SERVED_ABC: &[&str] = &["200 root POST /mcp abc", "open"];
const GOT: &[&str] = &["200 root GET /mcp", "open"];

fn case(sent: impl AsRef<[u8]>, told: &'static [&'static str]) -> Case {
    let sent = sent.as_ref().to_vec();
    Case { sent, told }
}

/// A POST with these header lines, each ended, and what follows its head.
fn post(headers: &str, rest: &str, told: &'static [&'static str]) -> Case {
    let head = format!("POST /mcp HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    case(head + rest, told)
}

/// A POST in chunks.
fn chunked(rest: &str, told: &'static [&'static str]) -> Case {
    post("transfer-encoding: chunked\r\n", rest, told)
}

/// A GET of this target.
fn get(target: &str, told: &'static [&'static str]) -> Case {
    case(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"), told)
}

/// A GET with this Host line and others.
fn with_host(lines: &str, told: &'static [&'static str]) -> Case {
    case(format!("GET /mcp HTTP/1.1\r\n{lines}\r\n"), told)
}

fn all() -> Vec<Case> {
    [framing::all(), heads::all(), meaning::all()]
        .into_iter()
        .flatten()
        .collect()
}

fn start(ledger: &Ledger) -> (Pinring, [Backend; 2]) {
    let [root, team] = ["root", "team"].map(|name| {
        ledger.backend(name, move |message, stream| {
            let _gone = stream.write_all(&echo(name, message));
            Next::Serve
        })
    });
    let pool = |name: &str, keys: &str, backend: &Backend| {
        let url = backend.address();
        format!(
            "[[pools]]\nname = \"{name}\"\n{keys}\
             backends = [{{ name = \"{name}\", url = \"http://{url}\" }}]\n"
        )
    };
    let team_keys = "match = { path = \"/team\" }\nstrip_prefix = \"/team\"\n";
    let pools = [pool("root", "", &root), pool("team", team_keys, &team)];
    (
        Pinring::start(&[ONE_THREAD, &pools.concat()].concat()),
        [root, team],
    )
}

/// What the backends have received, against what they may have.
#[derive(Default)]
struct Audit {
    failures: Vec<String>,
    /// How often each request was to come, less how often it came.
    missing: HashMap<String, i32>,
    may_be_cut: Vec<&'static str>,
}

impl Audit {
    fn expect(&mut self, echo: &str) {
        *self.missing.entry(echo.to_owned()).or_default() += 1;
    }

    /// Asks for something as another client, which must get just that.
    fn check_other(&mut self, other: &mut Reader, number: usize, sent: &str) {
        let asked = format!("GET /other/{number}");
        let told = other.get(&format!("/other/{number}"));
        if told != format!("200 root {asked}") {
            self.failures
                .push(format!("another client after {sent:?}: {told}"));
        }
        self.expect(&asked);
    }

    /// Ends pinring, so that nothing more can come, and judges.
    fn end(mut self, pinring: Pinring, ledger: &Ledger) {
        drop(pinring);
        eventually("all connections to the backends have ended", || {
            ledger.connections().iter().all(|arrived| arrived.ended)
        });
        for arrived in ledger.connections() {
            if let Some(fault) = &arrived.fault {
                self.failures.push(format!("a backend received {fault}"));
            }
            for message in &arrived.messages {
                *self.missing.entry(message.echo()).or_default() -= 1;
            }
            let rest = String::from_utf8_lossy(&arrived.rest);
            if !rest.is_empty() && !self.may_be_cut.iter().any(|cut| rest.starts_with(cut)) {
                self.failures
                    .push(format!("a backend received the beginning of {rest:.200}"));
            }
        }
        self.missing.retain(|_, missing| *missing != 0);
        assert!(
            self.failures.is_empty() && self.missing.is_empty(),
            "{} failures:\n{}\nrequests that came too seldom or, below zero, too often: {:#?}",
            self.failures.len(),
            self.failures.join("\n"),
            self.missing
        );
    }
}

#[test]
fn what_is_in_doubt_never_reaches_a_backend() {
    let ledger = Ledger::default();
    let (pinring, _backends) = start(&ledger);
    let mut other = Reader::connect(pinring.address());
    let mut audit = Audit::default();
    for (number, case) in all().iter().enumerate() {
        let sent = String::from_utf8_lossy(&case.sent[..case.sent.len().min(200)]);
        let mut client = Reader::connect(pinring.address());
        client.send(&case.sent);
        for wanted in case.told {
            if let Some(cut) = wanted.strip_prefix('~') {
                audit.may_be_cut.push(cut);
                continue;
            }
            let (told, wanted, came) = if *wanted == "open" {
                let told = client.get("/probe");
                (told, "200 root GET /probe", Some("GET /probe"))
            } else {
                let echo = wanted.strip_prefix("200 root ");
                let came = echo.or(wanted.strip_prefix("200 team "));
                (client.next(false), *wanted, came)
            };
            if told != wanted {
                let fault = format!("{sent:?} was told {told:?}, not {wanted:?}");
                audit.failures.push(fault);
            }
            came.inspect(|came| audit.expect(came));
        }
        audit.check_other(&mut other, number, &sent);
    }
    audit.end(pinring, &ledger);
}

/// The beginnings of requests.
const BROKEN_OFF: &[&str] = &[
    "",
    "POST",
    "POST /mcp HTTP/1.1",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\ncontent-length: 3\r\n\r\nab",
];

#[test]
fn a_request_that_breaks_off_is_whole_for_no_backend() {
    let ledger = Ledger::default();
    let (pinring, _backends) = start(&ledger);
    let mut other = Reader::connect(pinring.address());
    let mut audit = Audit {
        may_be_cut: vec!["POST /mcp HTTP/1.1\r\n"],
        ..Audit::default()
    };
    for (number, sent) in BROKEN_OFF.iter().enumerate() {
        for is_reset in [false, true] {
            let mut client = Reader::connect(pinring.address());
            client.send(sent);
            if is_reset {
                client.reset();
            } else {
                client.end();
                let told = client.next(false);
                if told.starts_with('2') || told == "quiet" {
                    audit.failures.push(format!("{sent:?} was told {told:?}"));
                }
            }
            audit.check_other(&mut other, number, sent);
        }
    }
    audit.end(pinring, &ledger);
}
