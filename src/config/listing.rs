//! The values of a configuration as text, key by key: what `effective` shows, and what `diff` compares.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use http::HeaderValue;

use super::{
    Config, Cors, Discovery, Limits, Local, Log, PathPrefix, Pool, PrincipalLimit, Sampling,
    Server, Service, Timeouts, Tracing,
    tls::Tls,
    units::{format_duration, format_size},
};
use crate::backend::{Admission, Backend};

/// Keys and their values, in the order of the documentation.
pub(super) type Listing = Vec<(&'static str, String)>;

/// The options of a process that need no restart.
pub(super) fn of_process(config: &Config) -> impl Iterator<Item = (&'static str, String)> {
    let listings = [
        timeouts(&config.timeouts),
        limits(&config.limits),
        server(&config.server),
        log(&config.log),
        tracing(config.tracing.as_ref()),
        pages(config),
        tls(config.tls.as_ref()),
        discovery(&config.discovery),
    ];
    listings.into_iter().flatten()
}

fn timeouts(timeouts: &Timeouts) -> Listing {
    let Timeouts {
        request_head,
        request_body_idle,
        connect,
        response_head,
        open_head,
        stream_idle,
        stream_comment,
        keep_alive,
        upstream_keep_alive,
        tcp_keep_alive,
        tcp_user_timeout,
        shutdown_delay,
        drain,
    } = timeouts;
    let or_zero = |duration: &Option<Duration>| duration.unwrap_or_default();
    [
        ("timeouts.request_head", *request_head),
        ("timeouts.request_body_idle", *request_body_idle),
        ("timeouts.connect", *connect),
        ("timeouts.response_head", *response_head),
        ("timeouts.open_head", *open_head),
        ("timeouts.stream_idle", or_zero(stream_idle)),
        ("timeouts.stream_comment", or_zero(stream_comment)),
        ("timeouts.keep_alive", *keep_alive),
        ("timeouts.upstream_keep_alive", *upstream_keep_alive),
        ("timeouts.tcp_keep_alive", or_zero(tcp_keep_alive)),
        ("timeouts.tcp_user_timeout", or_zero(tcp_user_timeout)),
        ("timeouts.shutdown_delay", *shutdown_delay),
        ("timeouts.drain", *drain),
    ]
    .into_iter()
    .map(|(key, duration)| (key, format_duration(duration)))
    .collect()
}

/// What of `[server]` needs no restart.
fn server(server: &Server) -> Listing {
    let Server {
        listen: _,
        admin: _,
        admin_token: _, // not to be seen
        probes,
        threads: _,
        watch: _,
        allowed_origins: _, // see `pages`
        trusted_proxies,
        proxy_protocol,
    } = server;
    let trusted = trusted_proxies.networks().iter();
    let trusted: Vec<String> = trusted.map(ToString::to_string).collect();
    vec![
        ("server.trusted_proxies", format!("{trusted:?}")),
        ("server.proxy_protocol", proxy_protocol.to_string()),
        ("server.probes_drain", probes.drain.to_string()),
        (
            "server.health_path",
            format!(
                "\"{}\"",
                probes.health_path.as_ref().map_or("", PathPrefix::as_str)
            ),
        ),
    ]
}

fn limits(limits: &Limits) -> Listing {
    let Limits {
        header_bytes,
        headers,
        target_bytes,
        connections,
        connections_per_address,
        http2_streams,
        sessions_per_backend,
        sessions_per_principal,
        replay_bytes,
        body_bytes,
        body_bytes_total,
    } = limits;
    let or_zero = |most: Option<NonZeroU32>| most.map_or(0, NonZeroU32::get).to_string();
    let per_principal = match sessions_per_principal {
        Some(PrincipalLimit { most, by }) => format!("{most} by {by}"),
        None => "0".to_owned(),
    };
    vec![
        ("limits.header_bytes", format_size(*header_bytes)),
        ("limits.headers", headers.to_string()),
        ("limits.target_bytes", format_size(*target_bytes)),
        ("limits.connections", connections.to_string()),
        (
            "limits.connections_per_address",
            connections_per_address
                .map_or(0, NonZeroUsize::get)
                .to_string(),
        ),
        ("limits.http2_streams", http2_streams.to_string()),
        (
            "limits.sessions_per_backend",
            or_zero(*sessions_per_backend),
        ),
        ("limits.sessions_per_principal", per_principal),
        ("limits.replay_bytes", format_size(*replay_bytes)),
        ("limits.body_bytes", format_size(*body_bytes)),
        ("limits.body_bytes_total", format_size(*body_bytes_total)),
    ]
}

fn log(log: &Log) -> Listing {
    let Log {
        format: _, // needs a restart
        filter,
        access,
        sample,
        request_id,
    } = log;
    vec![
        (
            "log.filter",
            format!("\"{}\"", filter.as_deref().unwrap_or_default()),
        ),
        ("log.access", access.to_string()),
        ("log.access_sample", sample.share.to_string()),
        ("log.access_slow", format_duration(sample.slow)),
        ("log.request_id", request_id.to_string()),
    ]
}

fn tracing(tracing: Option<&Tracing>) -> Listing {
    let sampling = tracing.map(
        |Tracing {
             sampling,
             export: _,
         }| {
            // Of what is exported, and where to, a restart is needed.
            let Sampling { share, trust } = sampling;
            (share.to_string(), trust.to_string())
        },
    );
    let (sample, trust) = sampling.unwrap_or_else(|| ("off".to_owned(), "off".to_owned()));
    vec![("tracing.sample", sample), ("tracing.trust", trust)]
}

fn tls(tls: Option<&Tls>) -> Listing {
    let (certificates, clients) = match tls {
        Some(Tls {
            certificates,
            clients,
        }) => (&certificates[..], clients.as_ref()),
        None => (&[][..], None),
    };
    let certificates: Vec<String> = certificates.iter().map(ToString::to_string).collect();
    vec![
        ("tls.certificates", format!("[{}]", certificates.join(", "))),
        (
            "tls.client_certificates",
            clients.map_or("none".to_owned(), ToString::to_string),
        ),
    ]
}

fn pages(config: &Config) -> Listing {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let described = config.cors.as_ref().map_or("off".to_owned(), |cors| {
        let Cors {
            origins,
            methods,
            headers,
            exposed,
            max_age,
            credentials,
            private_network,
        } = &**cors;
        let values = [methods, headers, exposed, max_age].map(text).join("; ");
        format!("{origins}; {values}; credentials {credentials}; private network {private_network}")
    });
    vec![
        (
            "server.allowed_origins",
            config.server.allowed_origins.to_string(),
        ),
        ("cors", described),
    ]
}

pub(super) fn options(pool: &Pool) -> Listing {
    let Pool {
        name: _,
        matcher,
        strip_prefix,
        host,
        http2,
        unpinned,
        bind,
        accept_unbound,
        join_delay,
        departed,
        unknown_grace,
        patience,
        on_loss,
        session_idle,
        normalize_lost_session,
        read_bodies,
        listen_streams,
        stateless_affinity,
        placement,
        local,
        probe_path,
        probe_status,
        backends: _, // see `backends`
        services: _,
        undiscovered: _,
    } = pool;
    let affinity: Vec<String> = stateless_affinity.iter().map(ToString::to_string).collect();
    let strip = strip_prefix.as_ref().map_or("", PathPrefix::as_str);
    vec![
        ("match", matcher.to_string()),
        ("strip_prefix", format!("\"{strip}\"")),
        ("host", host.to_string()),
        ("http2", http2.to_string()),
        ("unpinned", unpinned.to_string()),
        (
            "bind",
            format!(
                "\"{}\"",
                bind.as_ref().map(ToString::to_string).unwrap_or_default()
            ),
        ),
        ("accept_unbound", accept_unbound.to_string()),
        ("join_delay", format_duration(*join_delay)),
        ("departed", format_duration(*departed)),
        ("unknown_grace", format_duration(*unknown_grace)),
        ("loss_after", format_duration(patience.refused)),
        ("unreachable_after", format_duration(patience.unreachable)),
        ("on_loss", on_loss.to_string()),
        ("session_idle", format_duration(*session_idle)),
        ("normalize_lost_session", normalize_lost_session.to_string()),
        ("read_bodies", read_bodies.to_string()),
        ("listen_streams", listen_streams.to_string()),
        ("stateless_affinity", format!("{affinity:?}")),
        ("placement", placement.to_string()),
        (
            "local",
            format!("\"{}\"", local.as_ref().map_or("", Local::as_str)),
        ),
        (
            "probe_path",
            format!("\"{}\"", probe_path.as_deref().unwrap_or_default()),
        ),
        ("probe_status", probe_status.to_string()),
    ]
}

pub(super) fn description(pool: &Pool, backend: &Backend) -> Listing {
    let Backend {
        name: _,
        endpoint,
        weight,
        admission,
        join_delay: _, // not the file's
    } = backend;
    vec![
        ("url", endpoint.url()),
        (
            "tls",
            endpoint
                .tls
                .as_ref()
                .map_or("none".to_owned(), ToString::to_string),
        ),
        ("weight", weight.0.to_string()),
        ("draining", (*admission == Admission::Draining).to_string()),
        ("pool", pool.name.clone()),
    ]
}

pub(super) fn service(pool: &Pool, service: &Service) -> Listing {
    let Service {
        url,
        naming,
        tls,
        http2: _, // its pool's option
        weight,
        admission,
    } = service;
    let tls = tls.as_ref();
    vec![
        ("family", url.question.family.to_string()),
        ("name", naming.text()),
        ("tls", tls.map_or("none".to_owned(), ToString::to_string)),
        ("weight", weight.0.to_string()),
        ("draining", (*admission == Admission::Draining).to_string()),
        ("pool", pool.name.clone()),
    ]
}

fn discovery(discovery: &Discovery) -> Listing {
    let Discovery {
        servers,
        min_interval,
        max_interval,
        timeout,
    } = discovery;
    vec![
        ("discovery.servers", format!("{servers:?}")),
        ("discovery.min_interval", format_duration(*min_interval)),
        ("discovery.max_interval", format_duration(*max_interval)),
        ("discovery.timeout", format_duration(*timeout)),
    ]
}
