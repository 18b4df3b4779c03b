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
pub use self::admin::{Asked, Deadline, Which};
use crate::config::{AdminPlace, Overrides, source::Source};

const EXAMPLES: &str = "\
Examples:
  pinring demo                                   three replicas and the proxy, to try
  pinring --config /etc/pinring/pinring.toml     serve
  pinring --listen 127.0.0.1:8080 --backend http://127.0.0.1:9001 --backend http://127.0.0.1:9002
  pinring check pinring.toml                     every fault of a file at once
  pinring status                                 how the process that runs stands
  pinring explain 0193c2e6-…-cftk5pn…            where that session is, and what becomes of it now
  pinring drain b --wait --config pinring.toml   no new work for b; wait until its sessions have ended
  pinring log debug --for 10m                    what the running process logs, changed for a while
  pinring --take-over --config pinring.toml      restart: the process before leaves when this one serves
  pinring reload --config pinring.toml           read the configuration again (or kill -HUP PID)

Environment: PINRING_CONFIG, PINRING_LISTEN, PINRING_BACKENDS and PINRING_SECRET stand in for the
flags (lists separated by commas), PINRING_ADMIN for --admin, and PINRING_ADMIN_TOKEN is what changes over TCP show;
RUST_LOG filters the log.";

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
    /// Say what becomes of a session id now, by the process that runs, or by its configuration if none answers
    Explain {
        /// The session id as a client holds it
        id: String,
        /// Where the process is asked, as its server.admin says: IP:PORT or unix:PATH
        #[arg(long, value_name = "PLACE", value_parser = admin::place)]
        admin: Option<AdminPlace>,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Show how the process that runs stands: listeners, backends and why, sessions, drains, the last reload
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask whether the process is ready: exit code 0 if it is, else 1. For containers' health checks
    Health {
        #[command(flatten)]
        admin: AdminArgs,
        /// Ask also whether each pool has a backend that takes new work and is well
        #[arg(long)]
        backends: bool,
    },
    /// Have the process read its configuration again, and say what came of it
    Reload {
        #[command(flatten)]
        admin: AdminArgs,
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
        /// The process that may run with it.
        asked: Asked,
    },
    /// Show how a process stands.
    Status {
        /// As JSON.
        json: bool,
        /// Which.
        asked: Asked,
    },
    /// Ask whether a process is ready.
    Health {
        /// Its backends too.
        backends: bool,
        /// Which.
        asked: Asked,
    },
    /// Have a process read its configuration again.
    Reload {
        /// Which.
        asked: Asked,
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
        Some(Subcommands::Explain { id, admin, source }) => {
            let source = source.given(&env);
            Command::Explain {
                id,
                asked: Asked::of(admin, source.clone(), &env),
                source,
            }
        }
        Some(Subcommands::Status { admin, json }) => Command::Status {
            json,
            asked: admin.asked(&env),
        },
        Some(Subcommands::Health { admin, backends }) => Command::Health {
            backends,
            asked: admin.asked(&env),
        },
        Some(Subcommands::Reload { admin }) => Command::Reload {
            asked: admin.asked(&env),
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
            asked: admin.asked(&env),
        },
        Some(Subcommands::Undrain { backend, admin }) => Command::Undrain {
            backend,
            asked: admin.asked(&env),
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
            asked: admin.asked(&env),
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
