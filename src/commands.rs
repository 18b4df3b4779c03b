//! What the subcommands do. Each prints to standard output and gives its exit code.

mod asking;
mod discovered;
mod drain;
mod explain;
mod health;
mod log;
mod status;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    thread,
};

use serde_json::json;
use tracing_appender::non_blocking::WorkerGuard;

use crate::{
    admin::client::ClientError,
    app::{Bound, StartError},
    cli::{self, Command, LogFormat},
    config::{self, Config, ConfigErrors, InvalidFilter, Overrides, source::Source},
    demo::{self, Replica},
    net,
    observe::logging::{self, Configured},
    ring::{Nodes, Ring},
};

/// The exit code for a configuration or command line that cannot be used: `EX_USAGE` of sysexits.h.
pub const BAD_CONFIGURATION: u8 = 64;

const DEMO_REPLICAS: [&str; 3] = ["a", "b", "c"];

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration has faults.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The log's filter of the environment cannot be used.
    #[error("RUST_LOG {value:?} cannot be used")]
    Filter {
        /// What the variable holds.
        value: String,
        /// What is wrong with it.
        source: InvalidFilter,
    },
    /// The demo's port is taken. It has no configuration file that could name another.
    #[error(
        "cannot listen on {address}: another process listens there; stop it, or choose another address with --listen, such as 127.0.0.1:0 for any free port"
    )]
    DemoPort {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The configuration switches the admin listener off.
    #[error(
        "{} has no admin listener: take `admin = \"\"` out of [server] there, or write \"unix:/run/pinring/admin.sock\", and restart pinring",
        file.display()
    )]
    NoAdmin {
        /// The file.
        file: PathBuf,
    },
    /// The configuration does not even tell where the admin listener is.
    #[error(
        "where the admin listener is cannot be read; mend the file, or name the place: --admin unix:PATH or --admin IP:PORT"
    )]
    AdminUnknown(#[source] ConfigErrors),
    /// The token of the environment cannot be one.
    #[error("PINRING_ADMIN_TOKEN: {0}")]
    Token(&'static str),
    /// The process that runs could not be asked, or refused.
    #[error(transparent)]
    Admin(#[from] ClientError),
    /// The process ended while somebody waited for a drain.
    #[error(
        "pinring has ended, and the drain of {name} with it: another process knows only what the file says"
    )]
    DrainForgotten {
        /// The backend.
        name: String,
        /// How it was noticed.
        source: ClientError,
    },
    /// Something else of the system.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl CommandError {
    /// The exit code that tells it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::AdminUnknown(_) | Self::Token(_) | Self::Filter { .. } => {
                ExitCode::from(BAD_CONFIGURATION)
            }
            Self::DemoPort { .. }
            | Self::Start(_)
            | Self::NoAdmin { .. }
            | Self::Admin(_)
            | Self::DrainForgotten { .. }
            | Self::System(_) => ExitCode::FAILURE,
        }
    }
}

/// Does what the command says.
///
/// # Errors
///
/// See [`CommandError`].
pub fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Serve {
            source,
            take_over,
            log_format,
        } => serve(source, take_over, log_format),
        Command::Check(source) => check(&source),
        Command::Explain { id, source, asked } => explain::explain(&id, &source, asked),
        Command::Status { json, asked } => status::status(asked, json),
        Command::Health { backends, asked } => health::health(asked, backends),
        Command::Reload { asked } => health::reload(asked),
        Command::Ring { source, json } => ring(&source, json),
        Command::Demo { listen } => demo(listen),
        Command::Drain {
            backend,
            deadline,
            wait,
            asked,
        } => drain::drain(&backend, deadline, wait, asked),
        Command::Undrain { backend, asked } => drain::undrain(&backend, asked),
        Command::Log { wanted, asked } => log::log(wanted, asked),
        Command::Completions(shell) => {
            cli::completions(shell, &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn serve(
    mut source: Source,
    take_over: bool,
    log_format: Option<LogFormat>,
) -> Result<ExitCode, CommandError> {
    source.overrides.open_files = Some(net::raise_open_files()?);
    let config = source.load()?;
    let _log = start_log(&config, log_format)?;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    Bound::new(source, config, take_over)?.run()?;
    Ok(ExitCode::SUCCESS)
}

fn start_log(config: &Config, format: Option<LogFormat>) -> Result<WorkerGuard, CommandError> {
    let format = match format {
        Some(LogFormat::Text) => config::LogFormat::Text,
        Some(LogFormat::Json) => config::LogFormat::Json,
        None => config.log.format,
    };
    let from_environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let configured = Configured::from(&config.log);
    logging::start(format, configured, from_environment.clone()).map_err(|source| {
        // That of the file has been checked: what is refused here is the environment's.
        CommandError::Filter {
            value: from_environment.unwrap_or_default(),
            source,
        }
    })
}

fn check(source: &Source) -> Result<ExitCode, CommandError> {
    let config = source.load()?;
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let services: usize = config.pools.iter().map(|pool| pool.services.len()).sum();
    let services = match services {
        0 => String::new(),
        names => format!(", {names} name(s) that stand for backends"),
    };
    let signed = if config.keys.accept_zero() {
        "pins are checksums, not signed: see affinity.secrets"
    } else {
        "pins are signed"
    };
    writeln!(
        io::stdout(),
        "good: {} pool(s), {backends} backend(s){services}, {signed}",
        config.pools.len()
    )?;
    let (_, found) = discovered::discover(&config)?;
    for note in config.notes.iter().chain(&found) {
        writeln!(io::stdout(), "note: {note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ring(source: &Source, as_json: bool) -> Result<ExitCode, CommandError> {
    let config = discovered::load(source)?;
    let mut text = String::new();
    let mut pools = Vec::new();
    for pool in &config.pools {
        let nodes: Vec<Nodes> = pool
            .backends
            .iter()
            .map(|backend| Nodes::of(&backend.name))
            .collect();
        let shares = Ring::try_new((0..).zip(&nodes))
            .map(|ring| ring.shares(nodes.len()))
            .unwrap_or_default();
        let mut backends = Vec::new();
        // Writing to a string cannot fail.
        let _ok = writeln!(
            text,
            "pool {}: shares of the ring, for ids without a pin; new work goes by weight",
            pool.name
        );
        for (backend, share) in pool.backends.iter().zip(shares) {
            let _ok = writeln!(
                text,
                "  {:6.2} %  {}  ({})",
                share * 100.0,
                backend.name,
                backend.endpoint
            );
            backends.push(json!({ "name": backend.name.as_str(), "endpoint": backend.endpoint.to_string(), "share": share }));
        }
        pools.push(json!({ "name": pool.name, "backends": backends }));
    }
    if as_json {
        text = json!({ "pools": pools }).to_string();
        text.push('\n');
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn demo(listen: SocketAddr) -> Result<ExitCode, CommandError> {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let replicas: Vec<Replica> = DEMO_REPLICAS
        .iter()
        .map(|name| Replica::bind(name, loopback))
        .collect::<io::Result<_>>()?;
    let backends: Vec<String> = DEMO_REPLICAS
        .iter()
        .zip(&replicas)
        .map(|(name, replica)| format!("{name}=http://{}", replica.address()))
        .collect();
    let mut source = Source {
        file: None,
        overrides: Overrides::new(&[listen.to_string()], &backends, |_| None),
    };
    source.overrides.open_files = Some(net::raise_open_files()?);
    let config = source.load()?;
    let _log = start_log(&config, None)?;
    let bound = Bound::new(source, config, false).map_err(|error| match error {
        StartError::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            CommandError::DemoPort { address, source }
        }
        error => error.into(),
    })?;
    for replica in replicas {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || runtime.block_on(replica.serve()))?;
    }
    let address = bound.addresses().first().copied().unwrap_or(listen);
    io::stdout().write_all(demo::tour(address).as_bytes())?;
    bound.run()?;
    Ok(ExitCode::SUCCESS)
}
