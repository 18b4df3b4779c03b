//! Which running process a command is for, and what it is told.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, error::ErrorKind};

use super::{Cli, SourceArgs};
use crate::config::{self, InvalidAdmin, InvalidQuantity, source::Source};

#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin socket of the process, as its server.admin says
    #[arg(long, value_name = "unix:PATH", value_parser = admin, conflicts_with = "config")]
    admin: Option<PathBuf>,
    /// The configuration file of the process, which names its admin socket
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// When what a drained backend still holds is lost.
pub(super) const DEFAULT_TIMEOUT: &str = "10m";

pub(super) fn duration(text: &str) -> Result<Duration, InvalidQuantity> {
    config::parse_duration(text)
}

fn admin(text: &str) -> Result<PathBuf, InvalidAdmin> {
    config::parse_admin(text)
}

/// Which process is to be asked.
#[derive(Debug)]
pub enum Asked {
    /// The one whose admin socket this is.
    At(PathBuf),
    /// The one with this configuration.
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
    ///
    /// # Errors
    ///
    /// When they name none.
    pub(super) fn asked(
        self,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Asked, clap::Error> {
        if let Some(path) = self.admin {
            return Ok(Asked::At(path));
        }
        let source = SourceArgs {
            config: self.config,
            listen: Vec::new(),
            backends: Vec::new(),
        };
        let source = source.given(env);
        if source.file.is_none() {
            let message = "which process? Name its admin socket with --admin unix:PATH, or its configuration with --config FILE\n";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message));
        }
        Ok(Asked::With(source))
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
        assert!(matches!(asked, Asked::At(path) if path.ends_with("x.sock")));
        let Command::Undrain { asked, .. } = parsed("pinring undrain a", Some("x.toml")).unwrap()
        else {
            panic!()
        };
        assert!(matches!(asked, Asked::With(source) if source.file == Some("x.toml".into())));
        assert!(parsed("pinring drain a", None).is_err());
    }
}
