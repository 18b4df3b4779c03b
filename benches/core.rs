//! What one request costs in the core: reading a pin, finding a backend, classifying and rewriting a head, counting its
//! session and itself; and what a change of backends costs. `splice` has what looking into bodies costs.
//!
//! ```sh
//! cargo bench --bench core -- --save-baseline before    # then change something
//! cargo bench --bench core -- --baseline before
//! ```

use std::{
    fs,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, StatusCode};
use pinring::{
    backend::{BackendId, Name, Scheme},
    config::{Config, Overrides, source::Source},
    health::Observation,
    mcp::{self, session::ServerSessionId},
    observe::{Exchange, Meters, Outcome, Route},
    pin::{Keys, Kind, Pin, Secret},
    proxy::headers::{self, Forwarded, Seen},
    ring::{Coordinate, Member, Nodes, Ring},
    router::{membership::Membership, table::publish},
    sessions::Sessions,
};

const ID: &[u8] = b"0193c2e6-7b1e-7c3a-9f00-5a1b2c3d4e5f";

/// How many backends.
const FLEETS: [usize; 3] = [4, 100, 10_000];

fn address(number: usize) -> String {
    format!(
        "10.{}.{}.{}:8080",
        number >> 16,
        number >> 8 & 255,
        number & 255
    )
}

fn fleet(size: usize) -> Vec<Nodes> {
    let name = |number| Name::try_new(&address(number)).expect("visible ASCII");
    (0..size).map(|number| Nodes::of(&name(number))).collect()
}

fn pins(c: &mut Criterion) {
    let secret = Secret::try_new(&[7; 32]).expect("32 bytes");
    let keys = Keys::try_new(&[secret]).expect("one key");
    let mut text = [ID, b"-"].concat();
    text.extend_from_slice(&keys.mint(Kind::Session, Coordinate(42), None, ID));
    c.bench_function("verify a pin", |b| {
        b.iter(|| {
            let pin = Pin::parse(Kind::Session, black_box(&text)).expect("it has one");
            keys.verify(&pin, None)
        });
    });
    c.bench_function("mint a pin", |b| {
        b.iter(|| keys.mint(Kind::Session, Coordinate(42), None, black_box(ID)))
    });
}

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for size in FLEETS {
        let nodes = fleet(size);
        let ring = Ring::try_new((0..).zip(&nodes)).expect("not empty");
        println!("ring of {size}: {} bytes for each", ring.bytes() / size);
        let mut random = fastrand::Rng::with_seed(7);
        // A node of a random backend each time, as live pins are, and never before the last one was found: else the caches
        // and the processor's looking ahead would flatter us.
        let mut place = || nodes[random.usize(..size)].points()[random.usize(..160)].0;
        let pins: Vec<u64> = std::iter::repeat_with(&mut place).take(1 << 20).collect();
        let keys: Vec<u64> = std::iter::repeat_with(|| random.u64(..))
            .take(1 << 20)
            .collect();
        chained(&mut group, "exact lookup", size, &pins, |place| {
            ring.exact(place).expect("it is somebody's")
        });
        chained(&mut group, "successor", size, &keys, |place| {
            ring.successor(place)
        });
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("build", size), |b| {
            b.iter(|| Ring::try_new((0..).zip(&nodes)));
        });
        group.bench_function(BenchmarkId::new("build of all but one", size), |b| {
            b.iter(|| ring.part((1..).zip(&nodes[1..])));
        });
        group.bench_function(BenchmarkId::new("virtual nodes", size), |b| {
            b.iter(|| fleet(size));
        });
        group.sample_size(100);
    }
    group.finish();
}

/// Looks `places` up, one after the other.
fn chained(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    what: &str,
    size: usize,
    places: &[u64],
    look_up: impl Fn(Coordinate) -> Member,
) {
    let (mut next, mut last) = (0, 0);
    group.bench_function(BenchmarkId::new(what, size), |b| {
        b.iter(|| {
            next = (next + 1) % places.len();
            // No member has such a number, which only we know.
            last = look_up(Coordinate(places[next] ^ u64::from(last >> 31)));
        });
    });
}

/// A change comes into force: all that the writer of the table does, and the end of the table before.
fn tables(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = c.benchmark_group("table");
    group.sample_size(10);
    for size in FLEETS {
        let [before, after] =
            [0..size, 0..size + 1].map(|numbers| configuration(folder.path(), numbers));
        let now = Instant::now();
        let begun = || {
            let mut membership = Membership::new();
            membership.update(&before, None, now);
            let (publisher, _) = publish(membership.table(&before));
            (membership, publisher)
        };
        group.bench_function(BenchmarkId::new("one joins", size), |b| {
            b.iter_batched_ref(
                begun,
                |(membership, publisher)| {
                    membership.update(&after, Some(&before), now);
                    membership.mark(now);
                    publisher.replace(membership.table(&after));
                },
                BatchSize::PerIteration,
            );
        });
        let joining = || {
            let (mut membership, publisher) = begun();
            membership.update(&after, Some(&before), now);
            (membership, publisher)
        };
        let (mut membership, publisher) = joining();
        group.bench_function(BenchmarkId::new("it has joined", size), |b| {
            b.iter_batched_ref(
                joining,
                |(membership, publisher)| {
                    membership.advance(now + Duration::from_secs(60));
                    membership.mark(now);
                    publisher.replace(membership.table(&after));
                },
                BatchSize::PerIteration,
            );
        });
        let mut seen = [Observation::Refused, Observation::Answered]
            .into_iter()
            .cycle();
        group.bench_function(BenchmarkId::new("one's health changes", size), |b| {
            b.iter(|| {
                let seen = seen.next().expect("there is no end");
                membership.observe(BackendId(1), seen, now, 0.5);
                membership.mark(now);
                publisher.replace(membership.table(&after));
            });
        });
    }
    group.finish();
}

fn configuration(folder: &Path, numbers: std::ops::Range<usize>) -> Config {
    let file = folder.join("pinring.toml");
    let backend = |number| format!("[[backends]]\nurl = \"http://{}\"\n", address(number));
    let text: String = numbers.map(backend).collect();
    fs::write(&file, text).expect("the folder is ours");
    let source = Source {
        file: Some(file),
        overrides: Overrides::default(),
    };
    source.load().expect("it has no fault")
}

fn heads(c: &mut Criterion) {
    let request = Request::post("/mcp")
        .header("host", "mcp.example")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2025-11-25")
        .header("mcp-session-id", ID)
        .header("user-agent", "node")
        .header("accept-language", "*");
    let (head, ()) = request.body(()).expect("valid").into_parts();
    c.bench_function("classify", |b| b.iter(|| mcp::classify(black_box(&head))));
    c.bench_function("scan for ambiguities", |b| {
        b.iter(|| headers::scan(black_box(&head), Seen::of(&head.headers), false))
    });
    let scan = headers::scan(&head, Seen::of(&head.headers), false).expect("it is in order");
    let peer = HeaderValue::from_static("192.0.2.1");
    let session = ServerSessionId::try_from(HeaderValue::from_static("0193c2e6"));
    let session = session.expect("it is visible ASCII");
    c.bench_function("rewrite a head", |b| {
        b.iter_batched_ref(
            || head.clone(),
            |head| {
                let forwarded = Forwarded {
                    peer: &peer,
                    scheme: Scheme::Http,
                };
                headers::to_backend(head, &scan, forwarded, None, Some(session.clone()));
            },
            BatchSize::SmallInput,
        );
    });
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions");
    for count in [1000, 10_000, 100_000, 1_000_000] {
        let (sessions, load, other) = (Sessions::new(), Arc::default(), Arc::default());
        for number in 0..count {
            drop(sessions.visit(&session_id(number), &load));
        }
        let mut random = fastrand::Rng::with_seed(7);
        group.bench_function(BenchmarkId::new("visit", count), |b| {
            b.iter(|| sessions.visit(&session_id(random.u32(..count)), &load));
        });
        // As the search for idle ones does every ten seconds.
        group.bench_function(BenchmarkId::new("look at all", count), |b| {
            b.iter(|| sessions.forget(&other));
        });
    }
    group.finish();
}

/// Made when it is needed: a million of them in memory would be in the caches' way.
fn session_id(number: u32) -> [u8; 36] {
    let mut id = *b"0193c2e6-7b1e-7c3a-9f00-5a1b00000000";
    for (place, digit) in id[28..].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (28 - 4 * place) & 15) as usize];
    }
    id
}

/// All that is counted of a request that is forwarded, without its line in the log.
fn metrics(c: &mut Criterion) {
    let meters = Meters::new();
    let meter = meters.meter();
    let (pool, backend) = (Arc::default(), Arc::default());
    c.bench_function("count a request", |b| {
        b.iter(|| {
            let exchange = Exchange::unlogged(black_box(&meter));
            exchange.matched("default", &pool);
            exchange.routed("a", &backend, Route::Pinned);
            let (body, answer) = (exchange.clone(), exchange.clone());
            body.received(black_box(72));
            exchange.answered(black_box(StatusCode::OK), true);
            drop((exchange, body));
            answer.sent(black_box(165));
            answer.end(Outcome::Complete);
        });
    });
    c.bench_function("read the clock", |b| b.iter(pinring::net::now));
}

criterion_group!(benches, pins, rings, tables, heads, sessions, metrics);
criterion_main!(benches);
