//! Starts each peer with the configuration that its own users are told to write, in one process or thread that works.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::process::Proxy;

/// The core that a proxy has for itself; load and replicas share the other.
pub(crate) const CORE: &str = "0";

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// With a stick-table that is learned from answers.
    Haproxy,
    /// With a hash of the header: it sends three of four sessions to a replica that does not know them.
    Nginx,
    /// The binary of this crate, or the one that PINRING_BIN names.
    Pinring,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Haproxy, Self::Nginx, Self::Pinring];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Pinring => "pinring",
        }
    }

    /// Whether each request must reach the replica of its session.
    pub(crate) const fn is_right(self) -> bool {
        !matches!(self, Self::Nginx)
    }

    /// Starts it before `backends`, with what it needs in `folder`.
    pub(crate) fn start(self, backends: &[SocketAddr], folder: &Path) -> Proxy {
        self.start_under(&[], backends, folder)
    }

    /// The same by another program, with its arguments.
    pub(crate) fn start_under(
        self,
        under: &[String],
        backends: &[SocketAddr],
        folder: &Path,
    ) -> Proxy {
        let address = free_address();
        let (program, arguments) = match self {
            Self::Haproxy => {
                let file = write(folder, "haproxy.cfg", &haproxy(address, backends));
                (
                    "haproxy".to_owned(),
                    vec!["-f".to_owned(), file, "-db".to_owned()],
                )
            }
            Self::Nginx => {
                let file = write(folder, "nginx.conf", &nginx(address, backends, folder));
                ("nginx".to_owned(), vec!["-c".to_owned(), file])
            }
            Self::Pinring => {
                let file = write(folder, "pinring.toml", &pinring(address, backends));
                let program = std::env::var("PINRING_BIN");
                let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_pinring").to_owned());
                (program, vec!["--config".to_owned(), file])
            }
        };
        let log_path = folder.join(format!("{}.log", self.name()));
        let log = fs::File::create(&log_path).expect("a log");
        let child = Command::new("taskset")
            .args(["-c", CORE])
            .args(under)
            .arg(&program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let proxy = Proxy { address, child };
        wait_for(address, self.name(), &log_path);
        proxy
    }
}

fn haproxy(address: SocketAddr, backends: &[SocketAddr]) -> String {
    let servers: String = backends
        .iter()
        .enumerate()
        .map(|(index, backend)| format!("  server s{index} {backend}\n"))
        .collect();
    format!(
        "global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option http-keep-alive
  option http-no-delay
frontend traffic
  bind {address}
  default_backend replicas
backend replicas
  balance roundrobin
  http-reuse always
  stick-table type string len 64 size 1m expire 1h
  stick store-response res.hdr(mcp-session-id)
  stick on req.hdr(mcp-session-id)
{servers}"
    )
}

fn nginx(address: SocketAddr, backends: &[SocketAddr], folder: &Path) -> String {
    let servers: String = backends
        .iter()
        .map(|backend| format!("    server {backend};\n"))
        .collect();
    let folder = folder.display();
    format!(
        "worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log;
daemon off;
worker_rlimit_nofile 18500;
events {{ worker_connections 18400; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  upstream replicas {{
    hash $http_mcp_session_id consistent;
{servers}    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"
    )
}

fn pinring(address: SocketAddr, backends: &[SocketAddr]) -> String {
    let backends: String = backends
        .iter()
        .enumerate()
        .map(|(index, backend)| {
            format!("[[backends]]\nname = \"s{index}\"\nurl = \"http://{backend}\"\n")
        })
        .collect();
    format!("[server]\nlisten = \"{address}\"\nthreads = 1\n[log]\naccess = false\n{backends}")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(text.as_bytes()).expect("a file");
    path.display().to_string()
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn wait_for(address: SocketAddr, name: &str, log: &Path) {
    for _ in 0..600 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    panic!("{name} does not listen on {address}; it said: {said}");
}
