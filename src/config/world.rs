//! What the check of a configuration asks of the world outside the text.

use std::{
    cell::RefCell,
    ffi::OsString,
    io,
    net::IpAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// All that a check may ask of the world outside the text.
pub trait World {
    /// A variable of the environment, as [`std::env::var_os`]: a secret need not be text.
    fn env(&self, name: &str) -> Option<OsString>;

    /// The bytes of a file; a relative path begins at the folder of the configuration file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The addresses of a DNS name.
    ///
    /// # Errors
    ///
    /// If it does not resolve now, which is no fault: it is resolved again at each connect.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// The cores that this process may use.
    fn cores(&self) -> NonZeroUsize;

    /// The time of day, by which certificates are judged.
    fn now(&self) -> SystemTime;

    /// The root certificates that this machine believes, in DER; none where it has none.
    fn system_roots(&self) -> Vec<Vec<u8>>;

    /// Whether the chain of certificates with this digest is shown already: that its time is over is then no reason to
    /// refuse all else.
    fn is_in_force(&self, _chain: &[u8; 32]) -> bool {
        false
    }
}

/// A world that remembers which files were read, and which chains of certificates.
pub(super) struct Remembering<'a> {
    world: &'a dyn World,
    files: RefCell<Vec<PathBuf>>,
    chains: RefCell<Vec<[u8; 32]>>,
}

impl<'a> Remembering<'a> {
    pub(super) fn new(world: &'a dyn World) -> Self {
        Self {
            world,
            files: RefCell::default(),
            chains: RefCell::default(),
        }
    }

    /// The files that were asked for, each once.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.take()
    }

    /// The digests of the chains.
    pub(super) fn chains(&self) -> Vec<[u8; 32]> {
        self.chains.take()
    }
}

impl World for Remembering<'_> {
    fn env(&self, name: &str) -> Option<OsString> {
        self.world.env(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut files = self.files.borrow_mut();
        if !files.iter().any(|known| known == path) {
            files.push(path.to_owned());
        }
        self.world.read(path)
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.world.resolve(host)
    }

    fn cores(&self) -> NonZeroUsize {
        self.world.cores()
    }

    fn now(&self) -> SystemTime {
        self.world.now()
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        self.world.system_roots()
    }

    fn is_in_force(&self, chain: &[u8; 32]) -> bool {
        self.chains.borrow_mut().push(*chain);
        self.world.is_in_force(chain)
    }
}
