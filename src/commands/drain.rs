//! `pinring drain` and `undrain`: tell one process through its admin listener, say what then holds, and wait.

use std::{io, process::ExitCode, time::Duration};

use http::Method;

use super::{
    CommandError,
    asking::{block_on, client, say},
};
use crate::{
    admin::{
        api::{Backend, Backends, Changes, Drain, Undrain},
        client::{Client, ClientError},
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
    let client = client(asked)?;
    let wanted = Drain {
        backend: backend.to_owned(),
        timeout: match deadline {
            Deadline::After(time) => Some(format_duration(time)),
            Deadline::Now | Deadline::Never => None,
        },
        now: deadline == Deadline::Now,
    };
    block_on(async {
        let changes: Changes = client.ask(Method::POST, "/drain", &wanted).await?;
        tell(&changes, backend)?;
        let is_open = |shown: &Backend| shown.sessions_lost.is_none();
        if wait && changes.backends.iter().any(is_open) {
            return until_empty(&client, backend).await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn undrain(backend: &str, asked: Asked) -> Result<ExitCode, CommandError> {
    let client = client(asked)?;
    let wanted = Undrain {
        backend: backend.to_owned(),
    };
    block_on(async {
        let _done: Changes = client.ask(Method::POST, "/undrain", &wanted).await?;
        say(&format!(
            "{backend} takes new work again, in this one process: other proxies have not been asked."
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What holds after the drain was asked for.
fn tell(changes: &Changes, name: &str) -> io::Result<()> {
    for shown in &changes.backends {
        for line in description(shown) {
            say(&line)?;
        }
    }
    let is_listed = |shown: &&Backend| shown.state != "departed";
    let listed = changes.backends.iter().find(is_listed);
    let Some(shown) = listed.or(changes.backends.first()) else {
        return say(&removed(name));
    };
    if changes.open_left == 0 {
        let pool = &shown.pool;
        say(&format!(
            "Nobody else in pool {pool} takes new work and is well: it goes to backends that are down, and where there is none it is answered 503 (no_backend) from now on."
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
            "More may be live: only in {} will this process have seen all sessions.",
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
        ", and perhaps more: this process has not counted for long enough to know all"
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
async fn until_empty(client: &Client, name: &str) -> Result<ExitCode, CommandError> {
    let mut said: Option<(String, Instant)> = None;
    loop {
        let all = client.ask::<Backends>(Method::GET, "/backends", &()).await;
        let all = all.map_err(|error| broken_off(error, name))?;
        let its = all.backends.into_iter().filter(|shown| shown.name == name);
        let its: Vec<Backend> = its.collect();
        let Some(shown) = together(&its) else {
            say(&removed(name))?;
            return Ok(ExitCode::SUCCESS);
        };
        if let Some(end) = End::of_all(&its) {
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

/// All that a backend holds, where it stands in several pools because it was moved.
fn together(its: &[Backend]) -> Option<Backend> {
    let add = |mut sum: Backend, next: Backend| {
        sum.sessions += next.sessions;
        sum.in_flight += next.in_flight;
        sum.sessions_complete &= next.sessions_complete;
        let complete_in = sum.sessions_complete_in_s.max(next.sessions_complete_in_s);
        sum.sessions_complete_in_s = complete_in;
        let both = sum.lost_in_s.zip(next.lost_in_s);
        sum.lost_in_s = both.map(|(one, other)| one.max(other));
        sum
    };
    its.iter().cloned().reduce(add)
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
    /// Of a backend in several pools: when all are over, or one takes new work.
    fn of_all(its: &[Backend]) -> Option<Self> {
        let ends: Vec<Option<Self>> = its.iter().map(Self::of).collect();
        if ends.contains(&Some(Self::Undone)) {
            return Some(Self::Undone);
        }
        let add = |sum: Self, next: Self| match (sum, next) {
            (Self::Over { lost }, Self::Over { lost: more }) => Self::Over { lost: lost + more },
            (over @ Self::Over { .. }, _) | (_, over) => over,
        };
        ends.into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .reduce(add)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: &str, sessions: u32, sessions_lost: Option<u32>) -> Backend {
        Backend {
            pool: "one".to_owned(),
            name: "a".to_owned(),
            state: state.to_owned(),
            why: String::new(),
            since_s: 0,
            url: String::new(),
            weight: 1,
            local: false,
            ring_share: 0.0,
            sessions,
            sessions_complete: true,
            sessions_complete_in_s: 0,
            in_flight: 0,
            lost_in_s: (sessions_lost.is_none()).then_some(60),
            sessions_lost,
            forgotten: 0,
            draining_in_file: false,
        }
    }

    #[test]
    fn waiting_for_one_that_was_moved_ends_when_it_is_over_in_all_its_pools() {
        let empty = shown("departed", 0, None);
        let end = |listed| End::of_all(&[empty.clone(), listed]);
        assert_eq!(end(shown("draining", 1, None)), None);
        assert_eq!(end(shown("draining", 0, None)), Some(End::Empty));
        let over = Some(End::Over { lost: 2 });
        assert_eq!(end(shown("drained", 0, Some(2))), over);
        assert_eq!(end(shown("open", 0, None)), Some(End::Undone));
        let held = [shown("departed", 2, None), shown("draining", 1, None)];
        let held = together(&held).unwrap();
        assert_eq!((held.sessions, held.lost_in_s), (3, Some(60)));
    }
}
