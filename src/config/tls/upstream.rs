//! `[pool.tls]`: how `https://` is spoken with the backends of a pool.

use std::{cell::OnceCell, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName, sign::SingleCertAndKey};

use super::{Certificate, SystemRoots, certificate, digest, pem, provider};
use crate::{
    backend::{Host, Tls},
    config::{check::World, fault::Spot, file::Report, section::Section},
};

/// What backends are offered, and nothing else.
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// The settings of one pool.
pub(in crate::config) struct Upstream<'a> {
    report: &'a Report<'a>,
    system: &'a SystemRoots<'a>,
    roots: Roots,
    certificate: Option<Certificate>,
    name: Option<ServerName<'static>>,
    spot: Spot,
    exists: bool,
    http2: bool,
    made: OnceCell<(Arc<ClientConfig>, [u8; 32])>,
}

/// Who is believed.
enum Roots {
    System,
    Own(Arc<RootCertStore>, [u8; 32]),
    /// There is a fault.
    Unusable,
}

impl<'a> Upstream<'a> {
    /// With `http2` that is spoken with the pool's backends.
    pub(in crate::config) fn read(
        section: Section<'a>,
        world: &dyn World,
        system: &'a SystemRoots<'a>,
        http2: bool,
    ) -> Self {
        let report = section.report();
        let file = section
            .string("roots")
            .filter(|found| !found.value.is_empty());
        let roots = match file {
            None => Roots::System,
            Some(file) => match pem::roots(&file, report, world) {
                Some((roots, digest)) => Roots::Own(Arc::new(roots), digest),
                None => Roots::Unusable,
            },
        };
        let name = section
            .string("server_name")
            .filter(|found| !found.value.is_empty())
            .and_then(|found| {
                let name = ServerName::try_from(found.value.to_owned());
                if name.is_err() {
                    let message =
                        "write the host name or IP address that the backends' certificates are for";
                    report.push(found.spot.fault(message));
                }
                name.ok()
            });
        let upstream = Self {
            report,
            system,
            roots,
            certificate: certificate::read(&section, world),
            name,
            spot: section.spot().clone(),
            exists: section.exists(),
            http2,
            made: OnceCell::new(),
        };
        section.finish();
        upstream
    }

    /// The settings for what is asked that is no backend: whom this machine believes is believed.
    pub(in crate::config) fn of_system(
        report: &'a Report<'a>,
        system: &'a SystemRoots<'a>,
        spot: &Spot,
    ) -> Self {
        Self {
            report,
            system,
            roots: Roots::System,
            certificate: None,
            name: None,
            spot: spot.clone(),
            exists: false,
            http2: false,
            made: OnceCell::new(),
        }
    }

    /// The settings for a backend of this pool at `host`, which is named at `spot`. `None` where it has no name to be
    /// checked by.
    pub(in crate::config) fn to(&self, host: &Host, spot: &Spot) -> Option<Tls> {
        let (config, digest) = self.made.get_or_init(|| self.make(spot)).clone();
        let name = match (&self.name, host) {
            (Some(name), _) => name.clone(),
            (None, Host::Ip(address)) => ServerName::IpAddress((*address).into()),
            (None, Host::Dns(name)) => ServerName::try_from(name.to_string()).ok()?,
        };
        Some(Tls::new(config, digest, name))
    }

    /// Whether HTTP/2 is spoken with the backends of this pool, with TLS or without.
    pub(in crate::config) fn http2(&self) -> bool {
        self.http2
    }

    /// Notes settings that are there for nothing. To be called when all backends were read.
    pub(in crate::config) fn finish(self) {
        if self.exists && self.made.get().is_none() {
            self.report.note(format!(
                "{} is there, and no backend of that pool has a URL with https://",
                self.spot.reference()
            ));
        }
    }

    fn make(&self, spot: &Spot) -> (Arc<ClientConfig>, [u8; 32]) {
        let (roots, of_roots) = match &self.roots {
            Roots::System => self.system.get(self.report, spot),
            Roots::Own(roots, digest) => (Arc::clone(roots), *digest),
            Roots::Unusable => (Arc::new(RootCertStore::empty()), [0; 32]),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the algorithms of all versions")
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = SingleCertAndKey::from(Arc::clone(&certificate.key));
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        let protocol = if self.http2 { HTTP2 } else { HTTP1 };
        config.alpn_protocols = vec![protocol.to_vec()];
        let of_certificate = self.certificate.as_ref().map_or([0; 32], |own| own.digest);
        let digest = digest([&of_roots[..], &of_certificate, protocol]);
        (Arc::new(config), digest)
    }
}
