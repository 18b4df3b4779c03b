//! What idle and stuck clients with HTTP/2 cost.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Backend, ONE_THREAD, Pinring, eventually,
    http2::{Http2, setting},
    ok,
};

const INITIAL_WINDOW_SIZE: u16 = 4;

/// Offers a gigabyte to each request, and counts what was taken.
fn generous() -> (Backend, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let backend = Backend::start(move |request, stream| {
        let media_type = match request.header("x-json") {
            Some(_) => "application/json",
            None => "text/event-stream",
        };
        let event = format!("data: {}\n\n", "x".repeat(32 * 1024 - 8));
        let block = format!("{:x}\r\n{event}\r\n", event.len());
        let mut offer = || -> std::io::Result<()> {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            )?;
            for _ in 0..(1 << 30) / event.len() {
                stream.write_all(block.as_bytes())?;
                count.fetch_add(block.len(), Ordering::SeqCst);
            }
            Ok(())
        };
        offer().is_ok()
    });
    (backend, written)
}

/// Waits until nothing was written for half a second.
fn settle(count: &AtomicUsize) {
    let (mut last, mut since) = (usize::MAX, Instant::now());
    eventually("the backend is held back", || {
        let now = count.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
}

/// Asks `times` for the whole of what is offered with such a window, and reads nothing.
fn get_stuck(pinring: &Pinring, window: u32, times: usize, headers: &[(&str, &str)]) -> Http2 {
    let mut client = Http2::with_settings(pinring.address(), &setting(INITIAL_WINDOW_SIZE, window));
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_recv_buffer_size(64 * 1024).unwrap(); // else the kernel takes megabytes of it
    // No limit but those of the streams and the socket.
    client.send(crate::support::http2::frame(
        8,
        0,
        0,
        &0x7000_0000_u32.to_be_bytes(),
    ));
    for _ in 0..times {
        client.ask("POST", headers, "{}");
    }
    client
}

#[test]
fn clients_that_do_not_read_cost_less_than_256_kib_each() {
    const STUCK: usize = 100;
    let (backend, written) = generous();
    let windows = [0, 1, 65_535, 0x7fff_ffff];
    for (window, headers) in windows
        .into_iter()
        .flat_map(|window| [(window, &[][..]), (window, &[("x-json", "1")])])
    {
        // Many clients, and one with many streams.
        for (clients, streams) in [(STUCK, 1), (1, STUCK)] {
            let pinring = Pinring::before(&[&backend], ONE_THREAD);
            drop(get_stuck(&pinring, window, 1, headers)); // what is paid once
            settle(&written);
            let before = pinring.share_of_memory();
            let stuck: Vec<Http2> = (0..clients)
                .map(|_| get_stuck(&pinring, window, streams, headers))
                .collect();
            settle(&written);
            let all = pinring.share_of_memory().saturating_sub(before);
            eprintln!(
                "a window of {window}, {headers:?}: {all} KiB for {clients} with {streams} streams"
            );
            assert!(all <= 256 * STUCK, "{all} KiB");
            drop(stuck);
        }
    }
}

#[test]
fn an_idle_connection_costs_little() {
    const CONNECTIONS: usize = 1000;
    rlimit::increase_nofile_limit(CONNECTIONS as u64 + 2000).unwrap();
    let backend = Backend::answering(ok("", "a"));
    for uses in [0, 1] {
        let pinring = Pinring::before(&[&backend], "");
        let connect = || {
            let mut client = Http2::connect(pinring.address());
            for _ in 0..uses {
                assert_eq!(client.call("POST", &[], "{}").status(), 200);
            }
            client
        };
        drop(connect());
        let before = pinring.share_of_memory();
        let idle: Vec<Http2> = (0..CONNECTIONS).map(|_| connect()).collect();
        eventually("each costs less than 64 KiB", || {
            pinring.share_of_memory() < before + 64 * CONNECTIONS
        });
        std::thread::sleep(Duration::from_millis(300)); // what is told is no more than a figure
        eprintln!(
            "{} KiB for {CONNECTIONS} connections that were used {uses} times",
            pinring.share_of_memory() - before
        );
        drop(idle);
    }
}
