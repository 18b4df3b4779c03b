//! `pinring drain` and `undrain`: tell one process through its admin socket, say what then holds, and wait.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use http::Method;

use super::CommandError;
use crate::{
    admin::{
        api::{Backend, Backends, Changes, Drain, Undrain},
        client::{ClientError, ask},
    },
    cli::{Asked, Deadline},
    config::format_duration,
    net::{self, Instant},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Between two lines that say the same.
const SAY_AGAIN: Duration = Duration::from_secs(10);

pub(super) fn drain(
    backend: &str,
    deadline: Deadline,
    wait: bool,
    asked: Asked,
) -> Result<ExitCode, CommandError> {
    let socket = socket(asked)?;
    let wanted = Drain {
        backend: backend.to_owned(),
        timeout: match deadline {
            Deadline::After(time) => Some(format_duration(time)),
            Deadline::Now | Deadline::Never => None,
        },
        now: deadline == Deadline::Now,
    };
    block_on(async {
        let changes: Changes = ask(&socket, Method::POST, "/drain", &wanted).await?;
        tell(&changes, backend)?;
        let is_open = |shown: &Backend| shown.sessions_lost.is_none();
        if wait && changes.backends.iter().any(is_open) {
            return until_empty(&socket, backend).await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn undrain(backend: &str, asked: Asked) -> Result<ExitCode, CommandError> {
    let socket = socket(asked)?;
    let wanted = Undrain {
        backend: backend.to_owned(),
    };
    block_on(async {
        let _done: Changes = ask(&socket, Method::POST, "/undrain", &wanted).await?;
        say(&format!(
            "{backend} takes new work again, in this one process: other proxies have not been asked."
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn socket(asked: Asked) -> Result<PathBuf, CommandError> {
    let source = match asked {
        Asked::At(path) => return Ok(path),
        Asked::With(source) => source,
    };
    let file = source.file.clone().unwrap_or_default();
    source
        .load()?
        .server
        .admin
        .ok_or(CommandError::NoAdmin { file })
}

fn block_on(
    work: impl Future<Output = Result<ExitCode, CommandError>>,
) -> Result<ExitCode, CommandError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(work)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What holds after the drain was asked for.
fn tell(changes: &Changes, name: &str) -> io::Result<()> {
    for shown in &changes.backends {
        for line in description(shown) {
            say(&line)?;
        }
    }
    let Some(first) = changes.backends.first() else {
        return say(&removed(name));
    };
    if changes.open_left == 0 {
        let pool = &first.pool;
        say(&format!(
            "Nobody else in pool {pool} takes new work: it is answered 503 (no_backend) from now on."
        ))?;
    }
    say(&format!(
        "This changed one process alone. `draining = true` for {name} in the file is for all proxies; without it, a reload takes this back."
    ))
}

fn removed(name: &str) -> String {
    format!("{name} is removed: its time is over, and what it held is lost.")
}

fn description(shown: &Backend) -> Vec<String> {
    let name = &shown.name;
    if let Some(lost) = shown.sessions_lost {
        return vec![format!(
            "{name} is drained: it holds nothing any more. {}",
            losses(shown, lost)
        )];
    }
    let what = match &*shown.state {
        "departed" => "is no longer in the file",
        _ => "gets no new work",
    };
    let mut lines = vec![format!("{name} {what}. {} on.", holds(shown, "go"))];
    if !shown.sessions_complete {
        lines.push(format!(
            "More may be live: only in {} will this process have seen all sessions since its start.",
            time(shown.sessions_complete_in_s)
        ));
    }
    lines.push(match shown.lost_in_s {
        Some(left) => format!("What it still holds in {} is lost then.", time(left)),
        None => "It may keep what it holds: no deadline was set.".to_owned(),
    });
    lines
}

fn holds(shown: &Backend, verb: &str) -> String {
    let (sessions, in_flight) = (shown.sessions, shown.in_flight);
    let plural = |count| if count == 1 { "" } else { "s" };
    format!(
        "{sessions} live session{} and {in_flight} request{} in flight {verb}",
        plural(sessions),
        plural(in_flight),
    )
}

fn losses(shown: &Backend, lost: u32) -> String {
    let more = if shown.sessions_complete {
        ""
    } else {
        ", and perhaps more: this process has not run for long enough to know all"
    };
    match lost {
        0 => format!("No live session was lost{more}."),
        1 => format!("1 live session was lost{more}."),
        _ => format!("{lost} live sessions were lost{more}."),
    }
}

fn time(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

/// Waits until the backend holds nothing, or its time is over.
async fn until_empty(socket: &Path, name: &str) -> Result<ExitCode, CommandError> {
    let mut said: Option<(String, Instant)> = None;
    loop {
        let all = ask::<Backends>(socket, Method::GET, "/backends", &()).await;
        let all = all.map_err(|error| broken_off(error, name))?;
        let mut its = all.backends.into_iter().filter(|shown| shown.name == name);
        let Some(shown) = its.next() else {
            say(&removed(name))?;
            return Ok(ExitCode::SUCCESS);
        };
        if let Some(end) = End::of(&shown) {
            say(&end.text(&shown))?;
            return Ok(match end {
                End::Undone => ExitCode::FAILURE,
                End::Empty | End::Over { .. } => ExitCode::SUCCESS,
            });
        }
        let (line, now) = (holds(&shown, "left"), net::now());
        let is_news = said.as_ref().is_none_or(|(before, at)| {
            *before != line || now.saturating_duration_since(*at) >= SAY_AGAIN
        });
        if is_news {
            say(&format!("waiting: {line}{}", remaining(&shown)))?;
            said = Some((line, now));
        }
        net::sleep(INTERVAL).await;
    }
}

/// How waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing is left.
    Empty,
    /// The deadline has passed.
    Over { lost: u32 },
    /// It takes new work again.
    Undone,
}

impl End {
    fn of(shown: &Backend) -> Option<Self> {
        match (shown.sessions_lost, &*shown.state) {
            (Some(lost), _) => Some(Self::Over { lost }),
            (None, "open" | "joining" | "suspect") => Some(Self::Undone),
            (None, _) => {
                let is_empty = shown.sessions == 0 && shown.in_flight == 0;
                (is_empty && shown.sessions_complete).then_some(Self::Empty)
            }
        }
    }

    fn text(self, shown: &Backend) -> String {
        let name = &shown.name;
        match self {
            Self::Empty => format!(
                "{name} holds nothing any more: no session is live, and nothing is in flight."
            ),
            Self::Over { lost } => format!("The deadline has passed. {}", losses(shown, lost)),
            Self::Undone => format!(
                "{name} takes new work again: somebody took the drain back, a reload did, or another process serves now."
            ),
        }
    }
}

fn remaining(shown: &Backend) -> String {
    let complete = if shown.sessions_complete {
        String::new()
    } else {
        format!(
            "; all sessions are known in {}",
            time(shown.sessions_complete_in_s)
        )
    };
    let deadline = shown.lost_in_s.map_or_else(String::new, |left| {
        format!("; the rest is lost in {}", time(left))
    });
    complete + &deadline
}

/// Whoever waits is told what the end of the process means for the drain.
fn broken_off(error: ClientError, name: &str) -> CommandError {
    match error {
        ClientError::NobodyListens { .. } | ClientError::Broken(_) => {
            CommandError::DrainForgotten {
                name: name.to_owned(),
                source: error,
            }
        }
        other => other.into(),
    }
}
