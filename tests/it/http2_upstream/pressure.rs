//! Who is slow, on either side, holds up nobody else and costs little.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::Response;

use super::{server::forever, *};

#[test]
fn clients_that_do_not_read_hold_up_neither_others_nor_their_own_calls() {
    let offered: Arc<AtomicUsize> = Arc::default();
    let counts = Arc::clone(&offered);
    let server = Server::start(move |mut call| {
        let offered = Arc::clone(&counts);
        async move {
            if call.request.method() != "GET" {
                let body = call.body().await;
                return call.reply(Response::builder(), &String::from_utf8_lossy(&body));
            }
            let head = Response::builder().header("content-type", "text/event-stream");
            let mut stream = call.begin(head);
            loop {
                stream.reserve_capacity(16 * 1024);
                let ready = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let Some(Ok(room)) = ready else { return };
                offered.fetch_add(room, Ordering::SeqCst);
                let line = Bytes::from(vec![b'x'; room]);
                if stream.send_data(line, false).is_err() {
                    return;
                }
            }
        }
    });
    let pinring = before(&[server.address()], "");
    let memory = pinring.memory_kib();
    let slow: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::connect(pinring.address());
            client.send(request("GET", "", ""));
            client
        })
        .collect();
    let mut last = 0;
    eventually("nobody takes more", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = offered.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now && server.requests().len() == slow.len()
    });
    for _ in 0..10 {
        assert_eq!(Client::once(pinring.address(), "POST", "", "x").text(), "x");
    }
    assert_eq!(server.connections(), 1);
    let grown = pinring.memory_kib().saturating_sub(memory);
    assert!(grown <= 32 * 1024, "{grown} KiB");
}

#[test]
fn a_backend_that_does_not_read_stops_the_client_that_sends_and_no_other() {
    let server = Server::start(|mut call| async move {
        if call.request.method() == "PUT" {
            forever().await; // its body is never read
        }
        let body = call.body().await;
        call.reply(Response::builder(), &String::from_utf8_lossy(&body));
    });
    let pinring = before(&[server.address()], "");
    let memory = pinring.memory_kib();
    let mut slow = Client::connect(pinring.address());
    slow.send("PUT /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
    let sender = slow.stream.try_clone().unwrap();
    sender
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut sent = 0;
    while let Ok(length) = std::io::Write::write(&mut &sender, &[b'x'; 64 * 1024]) {
        sent += length;
    }
    assert!(sent < 90_000_000, "{sent}");
    let grown = pinring.memory_kib().saturating_sub(memory);
    assert!(grown <= 4 * 1024, "{grown} KiB");
}
