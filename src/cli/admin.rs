//! Which running process a command is for, and what it is told.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use super::SourceArgs;
use crate::config::{self, AdminPlace, InvalidAdmin, InvalidQuantity, source::Source};

const PLACE_VARIABLE: &str = "PINRING_ADMIN";
const TOKEN_VARIABLE: &str = "PINRING_ADMIN_TOKEN";

#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// Where the process is asked, as its server.admin says: IP:PORT or unix:PATH [default: 127.0.0.1:9901]
    #[arg(long, value_name = "PLACE", value_parser = place, conflicts_with = "config")]
    admin: Option<AdminPlace>,
    /// The configuration file of the process, which says where that is
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// When what a drained backend still holds is lost.
pub(super) const DEFAULT_TIMEOUT: &str = "10m";

pub(super) fn duration(text: &str) -> Result<Duration, InvalidQuantity> {
    config::parse_duration(text)
}

pub(super) fn place(text: &str) -> Result<AdminPlace, InvalidAdmin> {
    text.parse()
}

/// Which process is to be asked.
#[derive(Debug)]
pub struct Asked {
    /// Which.
    pub which: Which,
    /// The token of the environment, for changes over TCP. What the configuration says comes first.
    pub token: Option<OsString>,
}

/// Which process is to be asked.
#[derive(Debug)]
pub enum Which {
    /// The one whose admin listener is there.
    At(AdminPlace),
    /// The one with this configuration; without any, the one at the default address.
    With(Source),
}

/// When what a drained backend still holds is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// At once.
    Now,
    /// After this time.
    After(Duration),
    /// Never.
    Never,
}

impl Deadline {
    /// What `--now` and `--timeout` say.
    pub(super) fn of(now: bool, timeout: Duration) -> Self {
        match (now, timeout) {
            (true, _) => Self::Now,
            (false, Duration::ZERO) => Self::Never,
            (false, timeout) => Self::After(timeout),
        }
    }
}

impl AdminArgs {
    /// The process that they name.
    pub(super) fn asked(self, env: impl Fn(&str) -> Option<OsString>) -> Asked {
        let source = SourceArgs {
            config: self.config,
            listen: Vec::new(),
            backends: Vec::new(),
        };
        Asked::of(self.admin, source.given(&env), env)
    }
}

impl Asked {
    /// The process at this place, else the one with this configuration, else the one that the environment names.
    pub(super) fn of(
        place: Option<AdminPlace>,
        source: Source,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let token = env(TOKEN_VARIABLE).filter(|token| !token.is_empty());
        let named = || env(PLACE_VARIABLE)?.to_str()?.parse().ok();
        let which = match place {
            Some(place) => Which::At(place),
            None if source.file.is_some() => Which::With(source),
            None => named().map_or(Which::With(source), Which::At),
        };
        Self { which, token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};

    fn parsed(line: &str, file: Option<&str>) -> Result<Command, clap::Error> {
        let env = |name: &str| {
            file.filter(|_| name == "PINRING_CONFIG")
                .map(OsString::from)
        };
        parse(line.split(' ').map(OsString::from), env)
    }

    #[test]
    fn a_socket_counts_before_the_environment_s_file() {
        let line = "pinring drain a --timeout 0s --admin unix:/run/x.sock";
        let Command::Drain {
            deadline, asked, ..
        } = parsed(line, Some("x.toml")).unwrap()
        else {
            panic!()
        };
        assert_eq!(deadline, Deadline::Never);
        let socket = AdminPlace::Unix("/run/x.sock".into());
        assert!(matches!(asked.which, Which::At(place) if place == socket));
        let Command::Undrain { asked, .. } = parsed("pinring undrain a", Some("x.toml")).unwrap()
        else {
            panic!()
        };
        assert!(matches!(asked.which, Which::With(source) if source.file == Some("x.toml".into())));
        let Command::Undrain { asked, .. } = parsed("pinring undrain a", None).unwrap() else {
            panic!()
        };
        assert!(matches!(asked.which, Which::With(source) if source.file.is_none()));
    }
}
