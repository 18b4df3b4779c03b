//! Flags and environment: from what the user typed to one [`Command`].

mod admin;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;

use self::admin::{AdminArgs, DEFAULT_TIMEOUT, duration};
pub use self::admin::{Asked, Deadline};
use crate::config::{Overrides, source::Source};

const EXAMPLES: &str = "\
Examples:
  pinring demo                                   three replicas and the proxy, to try
  pinring --config /etc/pinring/pinring.toml     serve
  pinring --listen 127.0.0.1:8080 --backend http://127.0.0.1:9001 --backend http://127.0.0.1:9002
  pinring check pinring.toml                     every fault of a file at once
  pinring explain 0193c2e6-…-cftk5pn… --config pinring.toml
  pinring drain b --wait --config pinring.toml   no new work for b; wait until its sessions have ended
  pinring log debug --for 10m                    what the running process logs, changed for a while
  pinring --take-over --config pinring.toml      restart: the process before leaves when this one serves
  kill -HUP PID                                  reload

Environment: PINRING_CONFIG, PINRING_LISTEN, PINRING_BACKENDS and PINRING_SECRET stand in for the
flags (lists separated by commas); RUST_LOG filters the log.";

/// Keeps each MCP session on the server replica that holds it.
#[derive(Debug, Parser)]
#[command(name = "pinring", version, about, long_about = None, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Take the place of the process that runs with this configuration, without refusing anybody meanwhile
    #[arg(long)]
    take_over: bool,
    /// How log lines look: text on a terminal and JSON elsewhere by default
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An address to listen on, with https:// before it for TLS, in place of server.listen; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// A replica of the MCP server, where no file names any; may be given several times
    #[arg(long = "backend", value_name = "[NAME=]URL")]
    backends: Vec<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Check a configuration file: every fault at once; exit code 64 if there is any
    Check {
        /// The file
        #[arg(required_unless_present = "config", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The file, named as for serving
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say what a session id's pin names, and whether this configuration would accept it
    Explain {
        /// The session id as a client holds it
        id: String,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Show which share of the ring each backend has
    Ring {
        #[command(flatten)]
        source: SourceArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try it: three small MCP servers in this process, the proxy before them, and commands to paste
    Demo {
        /// Where the proxy listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Give a backend no new work, in the one process that is asked; what it still holds at the deadline is lost
    Drain {
        /// The backend's name
        backend: String,
        /// Wait until no session is live and nothing is under way, or the deadline has passed
        #[arg(long)]
        wait: bool,
        /// When what is left is lost; 0s: never
        #[arg(long, value_name = "TIME", default_value = DEFAULT_TIMEOUT, value_parser = duration, conflicts_with = "now")]
        timeout: Duration,
        /// Lose what it holds at once
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Take a drain back, in the one process that is asked
    Undrain {
        /// The backend's name
        backend: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show what the process logs, or change that while it runs
    Log {
        /// What to log, as in RUST_LOG: off, error, warn, info, debug, trace, or such as info,pinring::proxy=debug
        #[arg(value_name = "LEVEL", conflicts_with = "reset")]
        filter: Option<String>,
        /// How long; by default until the next reload
        #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "filter")]
        time: Option<Duration>,
        /// Log again as file and environment say
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Proxy, until a signal.
    Serve {
        /// Where the configuration comes from.
        source: Source,
        /// Whether to take the place of the process that runs.
        take_over: bool,
        /// A flag's word over the configuration's.
        log_format: Option<LogFormat>,
    },
    /// Check a configuration.
    Check(Source),
    /// Explain a session id.
    Explain {
        /// The id.
        id: String,
        /// With which keys and backends. Where it is no configuration: as far as its secret tells.
        source: Source,
    },
    /// Show the ring.
    Ring {
        /// Of which configuration.
        source: Source,
        /// As JSON.
        json: bool,
    },
    /// Demonstrate.
    Demo {
        /// Where the proxy listens.
        listen: SocketAddr,
    },
    /// Give a backend no new work.
    Drain {
        /// Its name.
        backend: String,
        /// Until when it may serve what it holds.
        deadline: Deadline,
        /// Whether to wait for that.
        wait: bool,
        /// Which process.
        asked: Asked,
    },
    /// Take that back.
    Undrain {
        /// The backend's name.
        backend: String,
        /// Which process.
        asked: Asked,
    },
    /// Show or change what is logged.
    Log {
        /// What is wanted.
        wanted: LogWanted,
        /// Which process.
        asked: Asked,
    },
    /// Print completions.
    Completions(Shell),
}

/// What `pinring log` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWanted {
    /// Show it.
    Shown,
    /// Log by this filter.
    Changed {
        /// As in `RUST_LOG`.
        filter: String,
        /// How long; `None`: until the next reload.
        time: Option<Duration>,
    },
    /// Log as configured.
    Reset,
}

/// Reads the command line. `env` gives the environment.
///
/// # Errors
///
/// When it cannot be understood, and when help or the version was asked for.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, clap::Error> {
    let cli = Cli::try_parse_from(arguments).map_err(hint)?;
    Ok(match cli.command {
        None => Command::Serve {
            source: cli.serve.source.source(&env)?,
            take_over: cli.serve.take_over,
            log_format: cli.serve.log_format,
        },
        Some(Subcommands::Check { file, config }) => Command::Check(Source {
            file: file.or(config),
            overrides: Overrides::new(&[], &[], &env),
        }),
        Some(Subcommands::Explain { id, source }) => Command::Explain {
            id,
            source: source.given(&env),
        },
        Some(Subcommands::Ring { source, json }) => Command::Ring {
            source: source.source(&env)?,
            json,
        },
        Some(Subcommands::Demo { listen }) => Command::Demo { listen },
        Some(Subcommands::Drain {
            backend,
            wait,
            timeout,
            now,
            admin,
        }) => Command::Drain {
            backend,
            deadline: Deadline::of(now, timeout),
            wait,
            asked: admin.asked(&env)?,
        },
        Some(Subcommands::Undrain { backend, admin }) => Command::Undrain {
            backend,
            asked: admin.asked(&env)?,
        },
        Some(Subcommands::Log {
            filter,
            time,
            reset,
            admin,
        }) => Command::Log {
            wanted: match filter {
                Some(filter) => LogWanted::Changed { filter, time },
                None if reset => LogWanted::Reset,
                None => LogWanted::Shown,
            },
            asked: admin.asked(&env)?,
        },
        Some(Subcommands::Completions { shell }) => Command::Completions(shell),
    })
}

/// Who names a file and no command means to serve it.
fn hint(error: clap::Error) -> clap::Error {
    let word = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => word,
        _ => return error,
    };
    let file = Path::new(word);
    let is_toml = file
        .extension()
        .is_some_and(|extension| extension == "toml");
    if !is_toml && !file.is_file() {
        return error;
    }
    let message = format!(
        "unrecognized subcommand '{word}'; a configuration file is named with --config: pinring --config {word}"
    );
    Cli::command().error(ErrorKind::InvalidSubcommand, message)
}

impl SourceArgs {
    fn given(self, env: impl Fn(&str) -> Option<OsString>) -> Source {
        let file = self.config.or_else(|| {
            env("PINRING_CONFIG")
                .filter(|file| !file.is_empty())
                .map(PathBuf::from)
        });
        let overrides = Overrides::new(&self.listen, &self.backends, &env);
        Source { file, overrides }
    }

    fn source(self, env: impl Fn(&str) -> Option<OsString>) -> Result<Source, clap::Error> {
        let source = self.given(env);
        if !source.is_configuration() {
            let message = "no configuration: name a file with --config FILE, or the replicas with --backend URL (several times).\n\
                           To see what it does first: pinring demo\n";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message));
        }
        Ok(source)
    }
}

/// Writes the completions for `shell`.
pub fn completions(shell: Shell, to: &mut dyn std::io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "pinring", to);
}

#[cfg(test)]
mod tests;
