//! How TLS is spoken with a backend: whom to believe, whom to expect, and who this side says that it is.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};

/// The settings of TLS with one backend. Cheap to clone. Equal ones were made of the same files and names, so that
/// connections need not be made anew after a reload.
#[derive(Clone)]
pub struct Tls(Arc<Settings>);

struct Settings {
    config: Arc<ClientConfig>,
    digest: [u8; 32],
    name: ServerName<'static>,
}

impl Tls {
    /// `digest` stands for all that `config` was made of; the backend's certificate has to be for `name`.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, digest: [u8; 32], name: ServerName<'static>) -> Self {
        Self(Arc::new(Settings {
            config,
            digest,
            name,
        }))
    }

    /// The settings of all connections.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.config)
    }

    /// What the backend's certificate has to be for; a DNS name is sent along, too (SNI).
    #[must_use]
    pub fn name(&self) -> &ServerName<'static> {
        &self.0.name
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.digest, &self.0.name) == (&other.0.digest, &other.0.name)
    }
}

impl Eq for Tls {}

/// The name, and as much of the digest as tells two settings from each other.
impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.digest.first_chunk::<4>();
        let start = start.map_or(0, |start| u32::from_be_bytes(*start));
        write!(f, "{} ({start:08x})", self.name().to_str())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({self})")
    }
}
