//! What a call of each era costs the whole proxy: CPU time of its process for each request, over real sockets.
//!
//! ```sh
//! cargo bench --bench eras              # in rounds, A B C A B C …; about half a minute
//! cargo bench --bench eras -- 40 20000  # so many rounds of so many requests
//! ```
//!
//! PINRING_BIN names another binary than the one that is built for it. Only the ratios of one run mean anything: they
//! compare medians of rounds that took turns. Linux alone counts this.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

const CLIENTS: usize = 8;

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"12 degrees, light rain, wind from the west at 20 km/h; tomorrow 14 degrees and dry"}],"isError":false,"structuredContent":{"temperature":12,"unit":"celsius","wind":{"from":"west","speed":20}},"resultType":"complete"}}"#;

/// The kinds of calls that are compared; the first is what the others are measured by.
const KINDS: [(&str, &str, &str); 3] = [
    (
        "legacy, pinned",
        "mcp-protocol-version: 2025-11-25\r\nmcp-session-id: {id}\r\n",
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"New York","units":"metric","days":3},"_meta":{"progressToken":7}}}"#,
    ),
    (
        "modern, tools/call",
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: get_weather\r\n",
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"New York","units":"metric","days":3},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"client","version":"2.4.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"sampling":{}}}}}"#,
    ),
    (
        "modern, of a method that is not read",
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: completion/complete\r\n",
        r#"{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"weather"},"argument":{"name":"city","value":"New"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"client","version":"2.4.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"sampling":{}}}}}"#,
    ),
];

fn main() {
    let numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    let (rounds, requests) = match numbers[..] {
        [rounds, requests] => (rounds, requests),
        _ => (60, 2_400),
    };
    let backends = [(); 3].map(|()| backend());
    let (proxy, address) = proxy(&backends);
    let id = session(address);
    let calls = KINDS.map(|(_, headers, body)| request(&headers.replace("{id}", &id), body));
    let mut costs = KINDS.map(|_| Vec::new());
    for round in 0..=rounds {
        for (call, costs) in calls.iter().zip(&mut costs) {
            let before = cpu_nanoseconds(proxy.0.id());
            send(address, call, requests);
            let cost = cpu_nanoseconds(proxy.0.id()) - before;
            if round > 0 {
                costs.push(cost as f64 / requests as f64 / 1000.0); // the first one warms up
            }
        }
    }
    let medians = costs.map(median);
    for ((name, ..), median) in KINDS.iter().zip(medians) {
        let ratio = median / medians[0];
        println!("{name:40} {median:7.2} µs of CPU, × {ratio:.3}");
    }
}

/// The program under test, which ends with this one.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn proxy(backends: &[SocketAddr]) -> (Proxy, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder for its file");
    let file = folder.path().join("pinring.toml");
    let names = ('a'..).zip(backends);
    let listed = names.map(|(name, at)| format!("{{ name = \"{name}\", url = \"http://{at}\" }}"));
    let listed: Vec<String> = listed.collect();
    let text = format!(
        "backends = [{}]\n[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nwatch = false\n[log]\naccess = false\n",
        listed.join(", ")
    );
    fs::write(&file, text).expect("the folder is ours");
    let built = env!("CARGO_BIN_EXE_pinring").into();
    let mut child = Command::new(std::env::var_os("PINRING_BIN").unwrap_or(built))
        .arg("--config")
        .arg(&file)
        .args(["--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut log = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("text"), 0, "it ended");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if let Some(address) = line["listen"].as_str() {
            break address.parse().expect("an address");
        }
    };
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (Proxy(child), address)
}

/// A server that answers every request alike, and knows one session.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let length = ANSWER.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: 6a8f5bb8-0c1f-4c39-9b3a-2b7d8f5e1a77\r\n\
         content-length: {length}\r\n\r\n{ANSWER}"
    );
    let stateless = answer.replace(
        "mcp-session-id: 6a8f5bb8-0c1f-4c39-9b3a-2b7d8f5e1a77\r\n",
        "",
    );
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (answer, stateless) = (answer.clone(), stateless.clone());
            thread::spawn(move || {
                let mut connection = Connection::of(stream);
                while let Some(head) = connection.message() {
                    let is_modern = head.contains("2026-07-28");
                    let answer = if is_modern { &stateless } else { &answer };
                    if connection.stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn request(headers: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:8080\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\nuser-agent: bench\r\naccept-encoding: gzip, deflate\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Opens a session, and gives its id.
fn session(address: SocketAddr) -> String {
    let mut connection = Connection::to(address);
    let call = request("", "{}");
    connection.stream.write_all(call.as_bytes()).expect("sent");
    let head = connection.message().expect("an answer");
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("mcp-session-id: "));
    id.expect("it was issued").to_owned()
}

/// Sends a call so many times over all connections, one after the other on each.
fn send(address: SocketAddr, call: &str, requests: usize) {
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::to(address);
                for _ in 0..requests / CLIENTS {
                    connection.stream.write_all(call.as_bytes()).expect("sent");
                    let head = connection.message().expect("an answer");
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                }
            });
        }
    });
}

/// Reads messages with a Content-Length.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("it listens"))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("it is TCP");
        let read = Vec::new();
        Self { stream, read }
    }

    /// The head of the next one, whose body is read and dropped; `None` at the end.
    fn message(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
                if self.read.len() >= end + 4 + length {
                    self.read.drain(..end + 4 + length);
                    return Some(head.replacen("http/", "HTTP/", 1));
                }
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(length @ 1..) => self.read.extend_from_slice(&bytes[..length]),
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

/// What all threads of a process have run so far.
fn cpu_nanoseconds(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs, on Linux");
    let ran = |thread: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    threads.flatten().filter_map(ran).sum()
}

fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}
