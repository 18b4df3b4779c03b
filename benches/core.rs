//! What one request costs in the core: reading a pin, finding a backend, classifying a head, counting its session and itself.
//!
//! ```sh
//! cargo bench --bench core -- --save-baseline before    # then change something
//! cargo bench --bench core -- --baseline before
//! ```

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{Request, StatusCode};
use pinring::{
    backend::Name,
    mcp,
    observe::{Exchange, Meters, Outcome, Route},
    pin::{Keys, Kind, Pin, Secret},
    ring::{Coordinate, Nodes, Ring, hash},
    router::placement::Load,
    sessions::Sessions,
};

const ID: &[u8] = b"0193c2e6-7b1e-7c3a-9f00-5a1b2c3d4e5f";

fn fleet(size: usize) -> Vec<Nodes> {
    let name = |number: usize| {
        Name::try_new(&format!(
            "10.{}.{}.{}:8080",
            number >> 16,
            number >> 8 & 255,
            number & 255
        ))
    };
    (0..size)
        .map(|number| Nodes::of(&name(number).expect("visible ASCII")))
        .collect()
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
    for size in [4, 100, 10_000] {
        let nodes = fleet(size);
        let ring = Ring::try_new((0..).zip(&nodes)).expect("not empty");
        let mut random = fastrand::Rng::with_seed(7);
        // A node of a random backend each time, as live pins are: else the caches would flatter us.
        let mut coordinate = || nodes[random.usize(..size)].points()[random.usize(..160)];
        group.bench_function(BenchmarkId::new("exact lookup", size), |b| {
            b.iter_batched(
                &mut coordinate,
                |coordinate| ring.exact(coordinate),
                criterion::BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("successor", size), |b| {
            b.iter(|| ring.successor(hash::position(black_box(ID))));
        });
        group
            .sample_size(10)
            .bench_function(BenchmarkId::new("build", size), |b| {
                b.iter(|| Ring::try_new((0..).zip(&nodes)));
            });
    }
    group.finish();
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
        b.iter(|| pinring::proxy::headers::scan(black_box(&head), false))
    });
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions");
    for count in [1000, 20_000, 500_000] {
        let (sessions, load) = (Sessions::new(), Arc::new(Load::default()));
        let ids: Vec<String> = (0..count)
            .map(|number| format!("0193c2e6-7b1e-7c3a-9f00-5a1b{number:08x}"))
            .collect();
        for id in &ids {
            drop(sessions.visit(id.as_bytes(), &load));
        }
        let mut random = fastrand::Rng::with_seed(7);
        group.bench_function(BenchmarkId::new("visit", count), |b| {
            b.iter(|| sessions.visit(ids[random.usize(..ids.len())].as_bytes(), &load));
        });
    }
    group.finish();
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
            exchange.answered(black_box(StatusCode::OK));
            drop((exchange, body));
            answer.sent(black_box(165));
            answer.end(Outcome::Complete);
        });
    });
    c.bench_function("read the clock", |b| b.iter(pinring::net::now));
}

criterion_group!(benches, pins, rings, heads, sessions, metrics);
criterion_main!(benches);
