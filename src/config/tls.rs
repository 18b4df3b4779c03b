//! TLS on both sides: `[tls]` here, `[pool.tls]` in `upstream`, and the files that they name.
//!
//! What is read is ready for use: a key that does not fit its certificate, a chain out of order or a certificate whose
//! time is over is a fault at the key that names the file. Sockets and sessions are the business of `net::tls`.

mod certificate;
mod pem;
mod upstream;

use std::{cell::OnceCell, fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};

pub use self::certificate::Certificate;
pub(super) use self::upstream::Upstream;
use super::{Listen, check::World, fault::Spot, file::Report, section::Section, word};
use crate::backend::Scheme;

/// What is shown to clients, and asked of them.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Never empty. The first is for clients that name no host, or one that is in none of them.
    pub certificates: Vec<Certificate>,
    /// Who checks clients' certificates; `None`: nobody asks for them.
    pub clients: Option<Clients>,
}

/// What is asked of clients.
#[derive(Clone)]
pub struct Clients {
    /// Checks their certificates.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Whether those without one are refused.
    pub need: Need,
    /// Of all that decides who is let in.
    pub digest: [u8; 32],
}

/// The word of the file, and as much of the digest as tells one from another.
impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            word(&Need::WORDS, &self.need),
            short(&self.digest)
        )
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({self})")
    }
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nobody asks.
    None,
    /// Those that show one have to show a good one.
    Optional,
    /// All have to.
    Required,
}

impl Need {
    const WORDS: [(&'static str, Self); 3] = [
        ("none", Self::None),
        ("optional", Self::Optional),
        ("required", Self::Required),
    ];
}

/// The algorithms of both sides.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads `[tls]`. `listen` is where clients come in.
pub(super) fn read(section: Section<'_>, listen: &[Listen], world: &dyn World) -> Option<Tls> {
    let report = section.report();
    let entries = section.tables("certificates", "{ certificate = \"…\", key = \"…\" }");
    let is_there = entries.as_ref().is_some_and(|entries| !entries.is_empty());
    let entries = entries.unwrap_or_default().into_iter();
    let read = entries.filter_map(|entry| {
        let read = certificate::read(&entry, world);
        entry.finish();
        read
    });
    let certificates: Vec<Certificate> = read.collect();
    let clients = clients(&section, world);
    let is_wanted = listen.iter().any(|listen| listen.scheme == Scheme::Https);
    if is_wanted && !is_there {
        section.missing(
            "certificates",
            "server.listen has an address with https://, and there is no certificate; write\n    [[tls.certificates]]\n    certificate = \"fullchain.pem\"\n    key = \"key.pem\"",
        );
    }
    if is_there && !is_wanted {
        report.note("there are tls.certificates, and no address of server.listen begins with https://: clients are served without TLS".to_owned());
    }
    section.finish();
    (!certificates.is_empty()).then_some(Tls {
        certificates,
        clients,
    })
}

fn clients(section: &Section<'_>, world: &dyn World) -> Option<Clients> {
    let need = section.choice("client_certificates", &Need::WORDS);
    let need = need.unwrap_or(Need::None);
    let file = section
        .string("client_ca")
        .filter(|found| !found.value.is_empty());
    let Some(file) = file else {
        if need != Need::None {
            let message = "whose certificates? Write client_ca = \"ca.pem\" beside it: the certificates of those who issue them";
            section.refuse("client_certificates", message);
        }
        return None;
    };
    if need == Need::None {
        section.report().push(file.spot.fault(
            "is asked of nobody; write client_certificates = \"required\" or \"optional\" beside it",
        ));
        return None;
    }
    let (roots, digest) = pem::roots(&file, section.report(), world)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match need {
        Need::Optional => builder.allow_unauthenticated(),
        Need::Required | Need::None => builder,
    };
    match builder.build() {
        Ok(verifier) => Some(Clients {
            verifier,
            need,
            digest: self::digest([word(&Need::WORDS, &need).as_bytes(), &digest]),
        }),
        Err(error) => {
            let message = format!("cannot be used: {error}");
            section.report().push(file.spot.fault(message));
            None
        }
    }
}

/// The roots of this machine, which are read when the first pool needs them.
pub(super) struct SystemRoots<'a> {
    world: &'a dyn World,
    read: OnceCell<(Arc<RootCertStore>, [u8; 32])>,
}

impl<'a> SystemRoots<'a> {
    pub(super) fn new(world: &'a dyn World) -> Self {
        Self {
            world,
            read: OnceCell::new(),
        }
    }

    fn get(&self, report: &Report<'_>, spot: &Spot) -> (Arc<RootCertStore>, [u8; 32]) {
        let read = self.read.get_or_init(|| {
            let mut store = RootCertStore::empty();
            let certificates = self.world.system_roots();
            let certificates: Vec<_> = certificates.into_iter().map(CertificateDer::from).collect();
            let digest = digest(certificates.iter().map(|certificate| &**certificate));
            // Some systems have old ones that nobody can use.
            store.add_parsable_certificates(certificates);
            (Arc::new(store), digest)
        });
        if read.0.is_empty() {
            let message = "this machine has no root certificates (package ca-certificates), so no backend's certificate can be checked; install them, or write roots = \"ca.pem\" under tls of the pool";
            report.push(spot.clone().fault(message));
        }
        read.clone()
    }
}

/// Of several parts, each with its length.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first of a digest, for people.
fn short(digest: &[u8; 32]) -> String {
    digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
