use std::{ffi::OsString, io, net::IpAddr, num::NonZeroUsize, path::Path, time::SystemTime};

use super::{
    super::{Overrides, check},
    *,
};

struct Nowhere;

impl check::World for Nowhere {
    fn env(&self, name: &str) -> Option<OsString> {
        (!name.starts_with("OTEL_")).then(|| name.repeat(32).into())
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

fn config(text: &str) -> Config {
    check::check(text, &Overrides::default(), &Nowhere).unwrap_or_else(|errors| panic!("{errors}"))
}

fn between(old: &str, new: &str) -> Diff {
    diff(&config(old), &config(new))
}

const A: &str = "{ name = \"a\", url = \"http://127.0.0.1:1\" }";
const B: &str = "{ name = \"b\", url = \"http://127.0.0.1:2\" }";

fn pool(backends: &str, more: &str) -> String {
    format!("backends = [{backends}]\n{more}")
}

#[test]
fn what_needs_a_restart_is_named() {
    let more = "[server]\nlisten = \"127.0.0.1:81\"\nadmin = \"unix:/run/x.sock\"\nthreads = 2\nwatch = false\n[log]\nformat = \"json\"\nfilter = \"warn\"\naccess = false\n[tracing]\notlp = \"http://h:4318\"\n[store]\nurl = \"redis://h\"\nsessions = 1";
    let diff = between(&pool(A, ""), &pool(A, more));
    let expected = [
        "server.listen",
        "server.admin",
        "server.threads",
        "server.watch",
        "log.format",
        "tracing.otlp",
        "store.url",
        "store.sessions",
    ];
    assert_eq!(diff.restart, expected);
    assert!(
        diff.to_string()
            .starts_with("needs a restart: server.listen, server.admin, server.threads")
    );
}

#[test]
fn order_and_spelling_are_no_change() {
    let lists = |list| pool(A, &format!("[server]\nlisten = {list}"));
    let diff = between(
        &lists("[\"127.0.0.1:81\", \"127.0.0.1:82\"]"),
        &lists("[\"127.0.0.1:82\", \"127.0.0.1:81\"]"),
    );
    assert!(diff.is_empty());
    assert_eq!(diff.to_string(), "nothing");
    let none = "[timeouts]\ndrain = \"20000ms\"\n[affinity]\nsecrets = [\"none\"]";
    assert!(
        between(
            &pool(&format!("{A}, {B}"), ""),
            &pool(&format!("{B}, {A}"), none)
        )
        .is_empty()
    );
}

#[test]
fn changes_are_told_in_words() {
    let old = pool(&format!("{A}, {B}"), "");
    let new = pool(
        "{ name = \"a\", url = \"http://127.0.0.1:9\", draining = true }, { url = \"http://h\" }",
        "[timeouts]\ndrain = \"1m\"\nstream_idle = \"1h\"\n[pool]\nhost = \"rewrite\"",
    );
    let diff = between(&old, &new);
    assert!(diff.restart.is_empty());
    assert_eq!(
        diff.to_string(),
        "backends added: h:80; backends removed: b; \
         a.url http://127.0.0.1:1 → http://127.0.0.1:9; a.draining false → true; \
         timeouts.stream_idle 0s → 1h; timeouts.drain 20s → 1m; pools.default.host pass → rewrite"
    );
}

#[test]
fn pools_come_and_go_and_backends_move() {
    let pools = |name: &str| format!("[[pools]]\nname = \"{name}\"\nbackends = [{A}]");
    let diff = between(&pools("p"), &pools("q"));
    assert_eq!(diff.pools_added, ["q"]);
    assert_eq!(diff.pools_removed, ["p"]);
    assert_eq!(diff.backends_changed[0].to_string(), "a.pool p → q");
}

#[test]
fn the_order_of_secrets_is_a_change_because_the_first_signs() {
    let secrets = |list: &str| pool(A, &format!("[affinity]\nsecrets = [{list}]"));
    let diff = between(
        &secrets("\"env:A\", \"env:B\""),
        &secrets("\"env:B\", \"env:A\""),
    );
    let keys = diff.keys.unwrap();
    assert_eq!(keys.old.len(), 2);
    assert_eq!((keys.old[0], keys.old[1]), (keys.new[1], keys.new[0]));
    let none = between(&pool(A, ""), &secrets("\"env:A\""));
    assert!(none.keys.is_some());
    // Then the default of `unpinned` changes with them.
    assert_eq!(
        none.options[0].to_string(),
        "pools.default.unpinned ring → reject"
    );
}

#[test]
fn whose_pages_may_ask_and_read_needs_no_restart() {
    let pages = "[server]\nallowed_origins = [\"https://a\"]\n[cors]\nmax_age = \"1m\"";
    let diff = between(&pool(A, ""), &pool(A, pages));
    assert!(diff.restart.is_empty());
    let [origins, cors] = &diff.options[..] else {
        panic!("two changes: {diff}");
    };
    let told = "server.allowed_origins [\"loopback\"] → [\"https://a\"]";
    assert_eq!(origins.to_string(), told);
    assert!(
        cors.to_string()
            .starts_with("cors off → [\"https://a\"]; GET, POST, DELETE; ")
    );
}

#[test]
fn names_that_stand_for_backends_are_told_as_these_are() {
    const MCP: &str = "{ url = \"dns+http://mcp:1\" }";
    let diff = between(&pool(A, ""), &pool(&format!("{A}, {MCP}"), ""));
    assert_eq!(diff.to_string(), "backends added: dns+http://mcp:1");
    let heavier = MCP.replace(" }", ", weight = 2, family = \"ipv6\" }");
    let diff = between(
        &pool(MCP, ""),
        &pool(&heavier, "[discovery]\ntimeout = \"1s\""),
    );
    assert_eq!(
        diff.to_string(),
        "dns+http://mcp:1.family auto → ipv6; dns+http://mcp:1.weight 1 → 2; discovery.timeout 5s → 1s"
    );
}
