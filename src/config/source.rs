//! Where a configuration comes from: reads the file, the environment and names for `check`.
//!
//! [`Source::load`] does file and DNS I/O and blocks: a caller inside a runtime hands it to a thread of
//! its own. The same source is loaded again at each reload.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Admin, Config, ConfigErrors, Fault, Overrides, Place, Token,
    check::{self, World, check},
};
use crate::{net, pin::Keys};

/// A file, or none, and what flags and the environment gave beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// What stands beside it.
    pub overrides: Overrides,
}

/// How a running process is asked.
#[derive(Debug)]
pub struct AdminAccess {
    /// Where.
    pub admin: Admin,
    /// What a change over TCP has to show. Its file may be for that process alone, which is a fault only where
    /// it is needed.
    pub token: Result<Option<Token>, ConfigErrors>,
}

impl Source {
    /// Whether it names backends: a secret alone is no configuration.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        self.file.is_some() || !self.overrides.backends.is_empty()
    }

    /// The keys of the secret beside the file alone: for those who have no configuration.
    ///
    /// # Errors
    ///
    /// If the secret is too weak.
    pub fn keys(&self) -> Result<Keys, ConfigErrors> {
        let world = Process {
            folder: PathBuf::new(),
            chains: &[],
        };
        check::keys(&self.overrides, &world).map_err(|errors| errors.named("command line"))
    }

    /// Where the admin listener is, and its token, for who asks the process that runs with this configuration: nothing
    /// else is read or checked, for the secrets, the environment and the names are that process's.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or names no listener with that key.
    pub fn admin(&self) -> Result<AdminAccess, ConfigErrors> {
        let Some(file) = &self.file else {
            let (admin, token) = (Admin::unnamed(), Ok(None));
            return Ok(AdminAccess { admin, token });
        };
        let named = |errors: ConfigErrors| errors.named(file.display().to_string());
        let text = read_text(file).map_err(named)?;
        let world = Process {
            folder: file.parent().unwrap_or(Path::new("")).to_owned(),
            chains: &[],
        };
        Ok(AdminAccess {
            admin: check::admin(&text).map_err(named)?,
            token: check::admin_token(&text, &world).map_err(named),
        })
    }

    /// Where the process that runs with this configuration is asked whether it is ready, and by which path: where probes
    /// are asked, or, where the admin listener is switched off, where clients are. `None`: at the admin listener.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or says nothing usable about that.
    pub fn probed(&self) -> Result<Option<(SocketAddr, String)>, ConfigErrors> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let found = read_text(file).and_then(|text| check::probed(&text, &self.overrides));
        found.map_err(|errors| errors.named(file.display().to_string()))
    }

    /// Reads and checks everything. [`Config::files`] begins with the configuration file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or anything in it is wrong.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        self.load_again(&[])
    }

    /// The same for a process that serves with certificates of these `chains`: when their time is over, that does not keep
    /// it from taking everything else.
    ///
    /// # Errors
    ///
    /// As [`Source::load`].
    pub fn load_again(&self, chains: &[[u8; 32]]) -> Result<Config, ConfigErrors> {
        let Some(file) = &self.file else {
            let world = Process {
                folder: PathBuf::new(),
                chains,
            };
            return check("", &self.overrides, &world)
                .map_err(|errors| errors.named("command line"));
        };
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let world = Process { folder, chains };
        let named = |errors: ConfigErrors| errors.named(file.display().to_string());
        let text = read_text(file).map_err(named)?;
        let mut config = check(&text, &self.overrides, &world).map_err(named)?;
        let beside = config.files.iter().map(|path| world.folder.join(path));
        config.files = std::iter::once(file.clone()).chain(beside).collect();
        Ok(config)
    }
}

fn read_text(file: &Path) -> Result<String, ConfigErrors> {
    let fault = |place, message| {
        ConfigErrors::new(vec![Fault {
            place,
            key: String::new(),
            value: None,
            message,
        }])
    };
    let bytes = std::fs::read(file)
        .map_err(|error| fault(Place::File, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(good);
        let line = lines.filter(|byte| **byte == b'\n').count() + 1;
        fault(
            Place::Line(line),
            "is not UTF-8; save the file as UTF-8".to_owned(),
        )
    })
}

/// The world of this process.
struct Process<'a> {
    folder: PathBuf,
    chains: &'a [[u8; 32]],
}

impl World for Process<'_> {
    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(self.folder.join(path))
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = (host, 0).to_socket_addrs()?;
        Ok(addresses.map(|address: SocketAddr| address.ip()).collect())
    }

    fn cores(&self) -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    fn now(&self) -> SystemTime {
        net::time_of_day()
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "cannot read some of this machine's root certificates");
        }
        let certificates = found.certs.iter();
        certificates
            .map(|certificate| certificate.to_vec())
            .collect()
    }

    fn is_in_force(&self, chain: &[u8; 32]) -> bool {
        self.chains.contains(chain)
    }
}

#[cfg(test)]
mod tests;
