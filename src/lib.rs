//! pinring: a session-affinity reverse proxy for MCP servers.
//!
//! A session of an MCP server lives in the memory of one replica. pinring lets the replica issue the session
//! id, appends a *pin* to what the client sees, and routes whatever carries that pin to the replica
//! again: without a table, a store or a word between proxies.
//!
//! # The way of a request
//!
//! ```text
//! listener ── accept, permit, PROXY protocol, TLS, HTTP/1.1 or HTTP/2, pace of the connection
//!    └─ proxy::Proxy::handle
//!         1 classify  mcp              request head → RequestKind, Era
//!         2 route     router           RequestKind × RoutingTable → Decision or Refusal   (pure; uses pin, ring)
//!         3 rewrite   proxy::headers   strip the pin, hop-by-hop headers, X-Forwarded-*
//!         4 send      proxy::deliver, upstream   pooled connection, deadlines; again only while no byte has left
//!                     (proxy::reinitialize       where on_loss says so: a lost session's handshake, at another backend)
//!         5 answer    proxy::{gone, answer, body}    hear that the session is gone; pin what the server issued; stream the body as it comes
//!         6 observe   observe          count it once, and write one access-log line, on every path
//! ```
//!
//! Beside it: `reload` is the only writer of the routing table, `admin` asks it for what an operator wants,
//! `takeover` and `shutdown` end everything, `app` puts all parts together.
//!
//! # The modules
//!
//! *Pure* (P) modules know no socket, clock or random source: these are arguments. *I/O* (I) talks to the
//! world and decides nothing. *Wiring* (W) knows everybody and has no rules. `tests/layering.rs` reads this
//! table and holds the code to it. A module may use itself and what stands below it.
//!
//! | module | kind | its job in one sentence | may import |
//! |---|---|---|---|
//! | `admin` | I | answers and obeys on its own listeners, and is the client of that; the writer is asked | backend, config, limits, net, observe::logging, observe::metrics, observe::tally, pin, reload::command, ring, router, router::membership, router::table, sessions, shutdown, takeover |
//! | `app` | W | builds every part from `Config`, binds all sockets, serves until drained | admin, backend, config, discovery, health::probe, incoming, limits, listener, net, observe, proxy, reload, router, router::membership, router::table, sessions, shutdown, takeover, upstream |
//! | `backend` | P | one replica: name (its identity), address, weight, admission | - |
//! | `cli` | P | argv and environment → one `Command` | config |
//! | `commands` | W | what the subcommands do | admin, app, backend, cli, config, demo, discovery, net, observe::logging, pin, ring |
//! | `config` | P | `Config`: complete and checked, every fault at once with its line | backend, health, identity, pin |
//! | `config::tls` | P | certificates, keys and roots, checked: what is wrong with a file is said before a client meets it | backend, config |
//! | `config::source` | I | reads what a configuration names: files, environment, host names, root certificates | config, net, pin |
//! | `demo` | I | small stateful MCP servers in this process | net |
//! | `discovery` | I | turns DNS names into addresses of backends, by their TTL, and reports changes | backend, config, net |
//! | `discovery::list` | P | what is known of one name, and when it is to be asked for again | backend, config |
//! | `discovery::search` | P | which whole names a name may mean | - |
//! | `health` | P | rise and fall of one backend: healthy, suspect, lost | backend |
//! | `health::probe` | I | probes suspects and carries what was seen to the writer | backend, health, net, upstream::connect, upstream::names |
//! | `identity` | P | the principal of a request (a JWT's claim, a trusted proxy's header, an address) and its digest | - |
//! | `identity::trusted` | P | whom to believe about clients, and where a client is by that | - |
//! | `incoming` | I | a request's body, which tells its connection when all of it was taken | - |
//! | `limits` | P | how often each limit was reached, and the budget of connections | - |
//! | `listener` | I | accepts, with TLS or without, keeps the pace of connections, serves HTTP/1.1 and HTTP/2 with a given handler | incoming, limits, net, shutdown |
//! | `listener::proxy_protocol` | I | reads whose connection a balancer passes on | net |
//! | `mcp` | P | request head → `RequestKind`: era, session id, what begins something | - |
//! | `mcp::endpoint` | P | the first event of an HTTP+SSE stream, and the query of its messages | - |
//! | `mcp::era` | P | revisions and header names, with their specification sections | - |
//! | `mcp::initialize` | P | the handshake of a session: what of it can be repeated, and its reply | - |
//! | `mcp::jsonrpc` | P | the body of an error of pinring's own | - |
//! | `mcp::listen` | P | the request and the messages of `subscriptions/listen`, as far as several servers are one to its client | - |
//! | `mcp::loss` | P | recognises what servers say of a session that they do not know | mcp::sse |
//! | `mcp::sentinel` | P | values of mirrored headers, plain or in base64 | - |
//! | `mcp::modern` | P | a request without sessions: where it may hold carriers, and which | mcp |
//! | `mcp::session` | P | session ids of the two sides as two checked, redacted types | - |
//! | `mcp::splice` | P | finds the carriers in bodies and splices them, every other byte untouched | - |
//! | `mcp::sse` | P | where one event of a stream ends, and the next begins | - |
//! | `net` | I | all sockets, timers and clocks | - |
//! | `net::simulated` | I | machines, links and clocks for `tests/sim`, in the place of the real ones | net |
//! | `net::tls` | I | TLS over those sockets, for both sides, and what outlives a change of certificates | backend, config::tls, net |
//! | `observe` | I | what is counted of each request, its line in the access log, its spans; takes plain values | config, net |
//! | `observe::logging` | I | sets up the log, and changes what is logged | config, net, observe |
//! | `observe::metrics` | I | all that is counted, and how the process stands, as OpenMetrics text | observe |
//! | `observe::otlp` | I | sends spans to a collector, from a thread of its own | backend, config, net, upstream, upstream::connect, upstream::names |
//! | `observe::request_id` | P | the name under which a request is found in everybody's log | - |
//! | `observe::spans` | I | a request as spans of a trace | net, observe, observe::otlp |
//! | `observe::tally` | P | counters by the words of an enumeration | observe |
//! | `observe::trace_context` | P | which trace a request belongs to, as W3C Trace Context has it | - |
//! | `observe::traffic` | P | what one backend was asked, counted over all threads | observe |
//! | `observe::word` | P | the words that logs, metrics and bodies share | observe |
//! | `pin` | P | a backend's string and a coordinate ⇄ the client's string; the keys | ring |
//! | `proxy` | I | the six phases and nothing else | backend, config, health, identity, incoming, limits, mcp, net, observe, pin, ring, router, sessions, shutdown, upstream |
//! | `proxy::body` | I | bodies as streams with a count, deadlines and a guard | config, incoming, mcp::endpoint, mcp::splice, mcp::sse, net, observe, pin, router::placement, sessions, shutdown, upstream |
//! | `proxy::carriers` | I | reads what may hold carriers, takes their pins off and puts them on | mcp, pin, proxy, ring, router |
//! | `proxy::cors` | P | whose web pages may ask, and what browsers are told of answers | config |
//! | `proxy::error` | P | every error → status, JSON-RPC body, reason, in one match | limits, mcp, observe::tally, observe::word, proxy, router, upstream |
//! | `proxy::headers` | P | rewrites heads, refuses ambiguous ones | backend, config, identity::trusted, mcp, router::table |
//! | `proxy::listen` | I | one `subscriptions/listen` at every backend of a pool, merged | backend, config, health, mcp, mcp::listen, mcp::splice, mcp::sse, net, observe, proxy, proxy::carriers, ring, router, router::placement, router::table, sessions, shutdown, upstream |
//! | `proxy::listen::merge` | P | what leaves of what several backends say | mcp::listen, mcp::sse |
//! | `proxy::reinitialize` | I | repeats the recorded handshake of a lost session elsewhere and sends the request again | config, health, mcp, mcp::initialize, mcp::session, mcp::sse, net, observe, pin, proxy, ring, router, router::table, sessions, sessions::store, upstream |
//! | `proxy::unknown` | I | waits and counts for pins that cannot be judged yet | mcp::session, net, ring::hash, router, proxy |
//! | `reload` | I | the table's only writer: configuration, what was discovered, health and time in, new table out | backend, config, discovery, health, net, observe, router::membership, router::placement, router::table, sessions, shutdown, upstream::names |
//! | `reload::command` | I | what the writer is asked and told | config, net, router::membership |
//! | `ring` | P | sorted virtual nodes: coordinate or key → backend | backend |
//! | `ring::hash` | P | the frozen hash, a wire contract | backend, ring |
//! | `router` | P | `RequestKind` × `RoutingTable` → `Decision` or `Refusal`: all routing rules | backend, config, health, mcp, observe::word, pin, ring |
//! | `router::affinity` | P | where on the ring a request without a session belongs by its pool's keys | config, identity, mcp, ring |
//! | `router::asker` | P | who asks, and which pins are good for that one | identity, pin, router, router::table |
//! | `router::carriers` | P | which backend a carrier in a body names | mcp, pin, ring, router, router::asker |
//! | `router::membership` | P | who belongs to each pool and since when: joining, listed, departed, lost | backend, config, health, observe::traffic, pin, ring, router |
//! | `router::placement` | P | the backend of new work: the lighter of two that chance picks | backend, ring |
//! | `router::table` | P | one immutable table of all that routing reads; one writer, many readers | backend, config, health, identity, observe::traffic, pin, ring, router::placement |
//! | `router::unknown` | P | since when each unknown pin has been seen | - |
//! | `sessions` | I | the live sessions of each backend and principal as this process knows them | net, ring::hash, router::placement |
//! | `sessions::redis` | I | that memory at a Redis or Valkey, shared by several proxies | net, ring, router, sessions |
//! | `sessions::store` | I | how sessions began and where they went, for those whose backend is lost | net, ring::hash, router, sessions |
//! | `shutdown` | I | signals, the phases of a drain, and what tells every connection of them | net |
//! | `takeover` | I | listening sockets go from a running process to the one that takes its place | net |
//! | `upstream` | I | sends one request to one given backend over a pooled connection, of HTTP/1.1 or HTTP/2 | backend, net |
//! | `upstream::connect` | I | connects within one deadline, of which resolving has a share | backend, net, upstream |
//! | `upstream::http1` | I | one request over a connection that it has to itself, driven by its own task | backend, net, upstream |
//! | `upstream::http1::framing` | P | where the body of an answer ends | - |
//! | `upstream::http1::head` | P | the head of an answer, and what it says of its body and connection | upstream::http1::framing |
//! | `upstream::http2` | I | shares connections among requests that speak HTTP/2, and takes back those that a backend has refused | backend, net, upstream |
//! | `upstream::names` | I | looks host names up, each once at a time, and remembers where they led | net, upstream |

pub mod admin;
pub mod app;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod health;
pub mod identity;
pub mod incoming;
pub mod limits;
pub mod listener;
pub mod mcp;
pub mod net;
pub mod observe;
pub mod pin;
pub mod proxy;
pub mod reload;
pub mod ring;
pub mod router;
pub mod sessions;
pub mod shutdown;
pub mod takeover;
pub mod upstream;
