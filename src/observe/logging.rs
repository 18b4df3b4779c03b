//! Sets up the log: text for people on a terminal, JSON elsewhere, on standard error.
//!
//! Lines are written by a thread of their own, for a full pipe behind the log must not stop requests: lines
//! are then dropped, and nothing else.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::ACCESS;

/// Lines that wait to be written before further ones are dropped.
const BUFFERED_LINES: usize = 16_384;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text where standard error is a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What logs each frame of HTTP/2, and with them what must not be logged.
const FRAMES: &str = "h2::";

/// Begins to log. Lines that wait are written out when the guard is dropped.
///
/// `access` tells whether each request gets a line, unless the filter speaks of `pinring::access` itself.
///
/// # Panics
///
/// When called twice in one process.
pub fn start(format: Format, mut filter: EnvFilter, access: bool) -> WorkerGuard {
    let directives = filter.to_string();
    let mut without = |target: &str| {
        if !directives.contains(target) {
            let off = format!("{target}=off").parse();
            let off = off.expect("a target and a level are a directive");
            filter = std::mem::take(&mut filter).add_directive(off);
        }
    };
    if !access {
        without(ACCESS);
    }
    without(FRAMES);
    let builder = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true);
    let (writer, guard) = builder.finish(std::io::stderr());
    let on_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(on_terminal);
    let as_text = match format {
        Format::Auto => on_terminal,
        Format::Text => true,
        Format::Json => false,
    };
    if as_text {
        lines.init();
    } else {
        lines.json().flatten_event(true).init();
    }
    guard
}
