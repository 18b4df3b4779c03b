//! `pinring status`: how the process that runs stands, for a person.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use http::Method;

use super::{
    CommandError,
    asking::{block_on, client},
};
use crate::{
    admin::api::{Backend, PoolStatus, Status},
    cli::Asked,
    config::format_duration,
};

pub(super) fn status(asked: Asked, as_json: bool) -> Result<ExitCode, CommandError> {
    let client = client(asked)?;
    let text = block_on(async {
        if as_json {
            let told: serde_json::Value = client.ask(Method::GET, "/status", &()).await?;
            return Ok(format!("{told:#}\n"));
        }
        let told: Status = client.ask(Method::GET, "/status", &()).await?;
        Ok(table(&told))
    })?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(told: &Status) -> String {
    let mut text = String::new();
    let ready = if told.ready { "ready" } else { "not ready" };
    // Writing to a string cannot fail.
    let _ok = writeln!(
        text,
        "pinring {}, process {}, up for {}: {}, {ready}",
        told.version,
        told.pid,
        time(told.uptime_s),
        told.phase
    );
    for (name, value) in facts(told) {
        let _ok = writeln!(text, "  {name:<15}{value}");
    }
    for pool in &told.pools {
        text.push('\n');
        text.push_str(&of_pool(pool));
    }
    text
}

fn facts(told: &Status) -> Vec<(&'static str, String)> {
    let list = |list: &[String]| match list {
        [] => "nothing".to_owned(),
        list => list.join("; "),
    };
    let places = &told.listeners;
    let mut listens = places.traffic.join(", ");
    for (name, places) in [("admin", &places.admin), ("probes", &places.probes)] {
        if !places.is_empty() {
            listens += &format!("; {name} {}", places.join(", "));
        }
    }
    let file = told.file.as_deref().unwrap_or("no file");
    let mut facts = vec![
        ("listens on", listens),
        ("unprotected", list(&told.unprotected)),
        (
            "configuration",
            format!("{file}; digests: ring {}, keys {}", told.ring, told.keys),
        ),
    ];
    if let Some(reload) = &told.last_reload {
        let mut line = format!(
            "{} {} ago ({})",
            reload.result,
            time(reload.ago_s),
            reload.reason
        );
        for detail in &reload.details {
            line += &format!("; {detail}");
        }
        facts.push(("last reload", line));
    }
    let complete = if told.sessions_complete {
        String::new()
    } else {
        format!(" (all are known in {})", time(told.sessions_complete_in_s))
    };
    facts.push((
        "sessions",
        format!(
            "{} live{complete}, {} requests and streams in flight, {} connections",
            told.sessions, told.in_flight, told.limits.connections
        ),
    ));
    let reached = told.limits.reached.iter().filter(|(_, times)| **times > 0);
    let reached: Vec<String> = reached
        .map(|(limit, times)| format!("{limit} {times} times"))
        .collect();
    if !reached.is_empty() {
        facts.push(("limits reached", reached.join(", ")));
    }
    let counts = counts(told);
    if !counts.is_empty() {
        facts.push(("since it began", counts.join(", ")));
    }
    facts
}

fn counts(told: &Status) -> Vec<String> {
    let counts = &told.counts;
    let counts = [
        (counts.sessions_reinitialized, "sessions brought back"),
        (counts.handshakes_forgotten, "handshakes forgotten"),
        (
            counts.principals_refused,
            "requests refused another's session",
        ),
        (counts.sessions_withheld, "sessions of nobody ended"),
        (counts.tls_handshakes_failed, "TLS handshakes failed"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    counts
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
}

fn of_pool(pool: &PoolStatus) -> String {
    let home = pool.home.as_deref().unwrap_or("nobody");
    let mut text = format!(
        "pool {} ({}): on_loss {}, placement {}, home {home}\n",
        pool.name, pool.matches, pool.on_loss, pool.placement
    );
    let head = [
        "backend",
        "state",
        "since",
        "sessions",
        "in flight",
        "weight",
        "ring",
        "why",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(pool.backends.iter().map(row));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += "  ";
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn row(backend: &Backend) -> [String; 8] {
    let more = if backend.sessions_complete { "" } else { "+" };
    let lost = backend
        .sessions_lost
        .map(|lost| format!("{lost} live sessions were lost"));
    let ends = backend
        .lost_in_s
        .map(|left| format!("what it holds is lost in {}", time(left)));
    let forgot = (backend.forgotten > 0).then(|| {
        format!(
            "it forgot {} sessions: several workers behind one address?",
            backend.forgotten
        )
    });
    let why = Some(backend.why.clone()).filter(|why| !why.is_empty());
    let why: Vec<String> = [why, ends, lost, forgot].into_iter().flatten().collect();
    [
        backend.name.clone(),
        backend.state.clone(),
        time(backend.since_s),
        format!("{}{more}", backend.sessions),
        backend.in_flight.to_string(),
        backend.weight.to_string(),
        format!("{:.1} %", backend.ring_share * 100.0),
        why.join("; "),
    ]
}

fn time(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}
