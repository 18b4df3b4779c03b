//! The simulated network itself: what the rest is built on must be true.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, Write};
use pinring::net::{
    Bound, Instant, Liveness, Stream, connect, now, simulated,
    simulated::{Machine, Process},
    sleep,
};
use tokio::{runtime::Builder, task::LocalSet};

use crate::world;

const SECOND: Duration = Duration::from_secs(1);

fn simulate(story: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        simulated::begin(1);
        story.await;
    });
}

/// Runs `program` on a machine until it gives something.
async fn on<T: 'static>(machine: Machine, program: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    let process = Process::start(machine, async move {
        let value = program.await;
        place.replace(Some(value));
    });
    while !process.has_ended() {
        sleep(Duration::from_millis(1)).await;
    }
    result.take().unwrap()
}

/// A process that sends back what it gets.
fn echo(machine: Machine) -> Process {
    Process::start(machine, async move {
        let bound = Bound::bind(world::address(machine)).unwrap();
        let listener = bound.into_listener().unwrap();
        loop {
            let (mut stream, _) = listener.accept(Liveness::default()).await.unwrap();
            tokio::task::spawn_local(async move {
                while let Ok(bytes) = read(&mut stream).await {
                    write(&mut stream, &bytes).await;
                }
            });
        }
    })
}

async fn read(stream: &mut Stream) -> io::Result<Bytes> {
    let mut room = [0; 64];
    let mut buffer = ReadBuf::new(&mut room);
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer.unfilled())).await?;
    match buffer.filled() {
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(Bytes::copy_from_slice(bytes)),
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) {
    poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes))
        .await
        .unwrap();
}

async fn call(stream: &mut Stream) -> io::Result<Duration> {
    let began: Instant = now();
    write(stream, b"x").await;
    read(stream).await.map(|_| now() - began)
}

#[test]
fn a_cut_link_delays_and_loses_nothing() {
    simulate(async {
        let (server, client) = (world::backend(0), world::client(0));
        let _echo = echo(server);
        let took = on(client, async move {
            let open = connect(world::address(server), Liveness::default()).await;
            let mut stream = open.unwrap();
            let before = call(&mut stream).await.unwrap();
            simulated::cut(server.address, client.address);
            tokio::task::spawn_local(async move {
                sleep(SECOND).await;
                simulated::mend(server.address, client.address);
            });
            (before, call(&mut stream).await.unwrap())
        });
        let (before, cut) = took.await;
        assert!(before < SECOND / 100, "{before:?}");
        assert!(cut > SECOND && cut < SECOND * 3 / 2, "{cut:?}");
    });
}

#[test]
fn what_waits_for_a_cut_link_too_long_fails() {
    simulate(async {
        let (server, client) = (world::backend(0), world::client(0));
        let _echo = echo(server);
        let failed = on(client, async move {
            let liveness = Liveness::new(None, Some(SECOND), Duration::ZERO);
            let open = connect(world::address(server), liveness).await;
            simulated::cut(server.address, client.address);
            call(&mut open.unwrap()).await
        });
        assert_eq!(failed.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_killed_process_closes_and_refuses_and_a_frozen_one_accepts() {
    simulate(async {
        let (server, client) = (world::backend(0), world::client(0));
        let process = echo(server);
        let ends = on(client, async move {
            let open = || connect(world::address(server), Liveness::default());
            let mut stream = open().await.unwrap();
            process.freeze(true);
            open().await.unwrap();
            process.kill();
            (read(&mut stream).await, open().await)
        });
        let (closed, refused) = ends.await;
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn each_clock_goes_at_its_own_pace() {
    simulate(async {
        let slept = on(world::proxy(0, 2.0), async {
            let began = now();
            sleep(SECOND * 2).await;
            now() - began
        });
        let began = now();
        let slept = slept.await;
        assert!(slept >= SECOND * 2, "{slept:?}");
        assert!(now() - began < SECOND * 11 / 10);
    });
}
