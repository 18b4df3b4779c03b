//! Socket activation: the listening socket comes from outside and outlives the process, so that at a restart
//! nobody is refused.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use crate::support::{Backend, Client, request};

/// Starts pinring as systemd does, with the socket as descriptor 3; it comes through the shell's standard input.
fn start(socket: &TcpListener, backend: SocketAddr) -> Child {
    let descriptor: OwnedFd = socket.try_clone().unwrap().into();
    Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_pinring"))
        .args([
            "--listen",
            "127.0.0.1:1",
            "--backend",
            &format!("a=http://{backend}"),
        ])
        .stdin(descriptor)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn stop(mut pinring: Child) {
    let pid = pinring.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(pinring.wait().unwrap().code(), Some(0));
}

#[test]
fn a_passed_socket_keeps_clients_waiting_while_nobody_serves() {
    let backend = Backend::stateful("a");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let first = start(&socket, backend.address());
    let id = Client::initialize(address);
    stop(first);
    let mut early = Client::connect(address);
    early.send(request("POST", &format!("mcp-session-id: {id}\r\n"), "{}"));
    let second = start(&socket, backend.address());
    assert_eq!(early.answer().text(), "a");
    stop(second);
}

#[test]
fn what_is_passed_and_no_socket_is_refused_with_a_clear_message() {
    let output = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3</dev/null",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_pinring"))
        .args(["--backend", "http://127.0.0.1:9001"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("LISTEN_FDS") && told.contains("TCP socket"),
        "{told}"
    );
}
