//! Sets up the log: text for people on a terminal, JSON elsewhere, on standard error. And changes meanwhile what is
//! logged.
//!
//! Lines are written by a thread of their own, for a full pipe behind the log must not stop requests: lines
//! are then dropped, and nothing else. There is one log in a process, as there is one subscriber of `tracing`; so what
//! changes it is found without being passed around, and does nothing where no log was begun.

use std::{
    io::IsTerminal as _,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use super::ACCESS;
use crate::{
    config::{self, InvalidFilter, LogFormat, parse_filter},
    net::{self, Instant},
};

/// Lines that wait to be written before further ones are dropped.
const BUFFERED_LINES: usize = 16_384;

/// What logs each frame of HTTP/2 at `debug`, and at `trace` what must not be logged.
const FRAMES: &str = "h2::";

/// Where neither the file nor the environment says what is logged.
const DEFAULT_FILTER: &str = "info";

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    handle: reload::Handle<EnvFilter, Registry>,
    /// Locked for a change only, which is rare.
    state: Mutex<State>,
}

/// What is logged, and why that.
#[derive(Debug)]
struct State {
    /// What the environment says.
    environment: Option<String>,
    configured: Configured,
    /// What an operator wants instead.
    wanted: Option<Wanted>,
    /// Counts the changes, so that only the last one ends by itself.
    changes: u64,
}

#[derive(Debug)]
struct Wanted {
    filter: String,
    until: Option<Instant>,
}

/// What a configuration says of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// What is logged; `None` leaves it to the environment.
    pub filter: Option<String>,
    /// Whether each request gets a line, unless the filter speaks of `pinring::access` itself.
    pub access: bool,
}

impl From<&config::Log> for Configured {
    fn from(log: &config::Log) -> Self {
        Self {
            filter: log.filter.clone(),
            access: log.access,
        }
    }
}

/// What is logged at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The filter in force.
    pub filter: String,
    /// The one of file and environment.
    pub configured: String,
    /// For how long an operator's filter stands in for that one; `None`: until the next reload. Nothing where they
    /// are the same.
    pub left: Option<Duration>,
}

/// There is no log to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process has no log that can be changed")]
pub struct NoLog;

/// One change, to be ended when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u64);

impl State {
    fn configured(&self) -> &str {
        let filter = self
            .configured
            .filter
            .as_ref()
            .or(self.environment.as_ref());
        filter.map_or(DEFAULT_FILTER, String::as_str)
    }

    fn filter(&self) -> &str {
        self.wanted
            .as_ref()
            .map_or_else(|| self.configured(), |wanted| &wanted.filter)
    }

    fn standing(&self) -> Standing {
        let until = self.wanted.as_ref().and_then(|wanted| wanted.until);
        Standing {
            filter: self.filter().to_owned(),
            configured: self.configured().to_owned(),
            left: until.map(|until| until.saturating_duration_since(net::now())),
        }
    }

    /// The filter in force, without what is to be silent unless it speaks of it.
    fn effective(&self) -> Result<EnvFilter, InvalidFilter> {
        let text = self.filter();
        let mut filter = parse_filter(text)?;
        for (target, is_wanted) in [(ACCESS, self.configured.access), (FRAMES, false)] {
            if !is_wanted && !text.contains(target) {
                let off = format!("{target}=off").parse();
                filter = filter.add_directive(off.expect("a target and a level are a directive"));
            }
        }
        Ok(filter)
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, state: &State) {
        match state.effective() {
            // It fails only where the subscriber has ended, and with it the log.
            Ok(filter) => drop(self.handle.reload(filter)),
            Err(error) => tracing::error!(%error, "the log's filter is unchanged"),
        }
    }
}

/// Begins to log. Lines that wait are written out when the guard is dropped. `environment` is what `RUST_LOG` says.
///
/// # Errors
///
/// When a filter cannot be used.
///
/// # Panics
///
/// When called twice in one process.
pub fn start(
    format: LogFormat,
    configured: Configured,
    environment: Option<String>,
) -> Result<WorkerGuard, InvalidFilter> {
    let state = State {
        environment,
        configured,
        wanted: None,
        changes: 0,
    };
    let (filter, handle) = reload::Layer::new(state.effective()?);
    let builder = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true);
    let (writer, guard) = builder.finish(std::io::stderr());
    let on_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(on_terminal);
    let as_text = match format {
        LogFormat::Auto => on_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = if as_text {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    let state = Mutex::new(state);
    drop(LOG.set(Log { handle, state })); // `init` panics where there is one
    Ok(guard)
}

/// What is logged at the moment.
///
/// # Errors
///
/// Where there is no log.
pub fn standing() -> Result<Standing, NoLog> {
    Ok(LOG.get().ok_or(NoLog)?.lock().standing())
}

/// Logs by `filter`, which [`parse_filter`] takes, for a time or until the next reload; without one, as file and
/// environment say. Whoever asks for a time calls [`end`] with what this gives when it is over.
///
/// # Errors
///
/// Where there is no log.
pub fn change(filter: Option<String>, time: Option<Duration>) -> Result<(Standing, Change), NoLog> {
    let log = LOG.get().ok_or(NoLog)?;
    let mut state = log.lock();
    state.changes += 1;
    let until = time.and_then(|time| net::now().checked_add(time));
    state.wanted = filter.map(|filter| Wanted { filter, until });
    log.apply(&state);
    Ok((state.standing(), Change(state.changes)))
}

/// The time of a change is over. Whether it was the last one, and the log is as configured again.
pub fn end(change: Change) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    let mut state = log.lock();
    let is_last = state.changes == change.0 && state.wanted.is_some();
    if is_last {
        state.wanted = None;
        log.apply(&state);
    }
    is_last
}

/// The configuration was read again: it counts before what an operator wanted. Whether that is over by it.
pub fn follow(configured: Configured) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    let mut state = log.lock();
    let is_over = state.wanted.take().is_some();
    if is_over || state.configured != configured {
        state.changes += 1;
        state.configured = configured;
        log.apply(&state);
    }
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(file: Option<&str>, environment: Option<&str>, access: bool) -> State {
        State {
            environment: environment.map(str::to_owned),
            configured: Configured {
                filter: file.map(str::to_owned),
                access,
            },
            wanted: None,
            changes: 0,
        }
    }

    #[test]
    fn an_operator_counts_before_the_file_and_that_before_the_environment() {
        assert_eq!(state(None, None, true).filter(), "info");
        assert_eq!(state(None, Some("warn"), true).filter(), "warn");
        let mut state = state(Some("error"), Some("warn"), true);
        assert_eq!(state.filter(), "error");
        state.wanted = Some(Wanted {
            filter: "trace".into(),
            until: None,
        });
        assert_eq!(state.filter(), "trace");
        assert_eq!(state.standing().configured, "error");
    }

    #[test]
    fn without_an_access_log_only_a_filter_that_names_it_asks_for_lines() {
        let effective = |filter, access| {
            let filter = state(Some(filter), None, access).effective();
            filter.unwrap().to_string()
        };
        assert!(effective("debug", false).contains("pinring::access=off"));
        assert!(!effective("debug", true).contains("pinring::access"));
        let named = effective("warn,pinring::access=info", false);
        assert!(named.contains("pinring::access=info") && !named.contains("access=off"));
    }
}
