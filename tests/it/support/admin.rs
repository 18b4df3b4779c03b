//! A pinring with an admin socket, and what is asked there.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Client, PATIENCE, Pinring};

/// The socket of [`administrated`] in `folder`.
pub(crate) fn socket_in(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

/// `[server]` with an admin socket in `folder`.
pub(crate) fn server_with_admin(folder: &Path) -> String {
    let socket = socket_in(folder);
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"unix:{}\"\n",
        socket.display()
    )
}

/// Starts a pinring with `toml` and an admin socket.
pub(crate) fn administrated(toml: &str) -> Pinring {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_admin(folder.path());
    Pinring::start_in(folder, &format!("{toml}\n{server}"), &[])
}

/// Asks at an admin socket; gives the status and the answer.
pub(crate) fn ask(socket: &Path, method: &str, target: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = exchange(socket, method, target, body);
    (status, serde_json::from_str(&body).unwrap())
}

/// Asks at an admin socket; gives the status, the head and the body.
pub(crate) fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    body: &str,
) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap(); // at once: an answer may come before the body is read
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// Starts a pinring with `toml` and an admin address, with `more` lines under `[server]`.
pub(crate) fn administrated_by_tcp(toml: &str, more: &str) -> Pinring {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
    Pinring::start(&format!("{toml}\n{server}{more}\n"))
}

impl Pinring {
    /// Its admin address.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let line = self.find_log("admin").unwrap();
        let mut places = line["admin"].as_str().unwrap().split(", ");
        places.find_map(|place| place.parse().ok()).unwrap()
    }

    /// Asks at its admin address, with further header lines.
    pub(crate) fn ask_by_tcp(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> (u16, Value) {
        let address = self.admin_address();
        let host = if headers.to_lowercase().contains("host:") {
            String::new()
        } else {
            format!("host: {address}\r\n")
        };
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\n{host}{headers}");
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        let answer = Client::connect(address).send(request).answer();
        let told = serde_json::from_slice(&answer.body);
        (answer.status, told.unwrap_or_default())
    }

    /// Its admin socket.
    pub(crate) fn admin(&self) -> PathBuf {
        socket_in(self.file().parent().unwrap())
    }

    /// How one backend stands, as `GET /backends` tells it.
    pub(crate) fn standing(&self, backend: &str) -> Value {
        let (status, answer) = ask(&self.admin(), "GET", "/backends", "");
        assert_eq!(status, 200, "{answer}");
        let backends = answer["backends"].as_array().unwrap();
        let found = backends.iter().find(|shown| shown["name"] == backend);
        found
            .unwrap_or_else(|| panic!("no {backend} in {answer}"))
            .clone()
    }
}
