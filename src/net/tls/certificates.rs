//! Which certificate a client is shown.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::tls::Certificate;

/// Certificates by the names that they are for.
#[derive(Debug)]
pub(super) struct Certificates {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that name no host, or one that is in none of them: all in their order.
    others: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                let of_name = by_name.entry(name.clone()).or_default();
                of_name.push(Arc::clone(&certificate.key));
            }
        }
        let others = certificates
            .iter()
            .map(|own| Arc::clone(&own.key))
            .collect();
        Self { by_name, others }
    }

    /// The first of those for `name` whose key the client can check, as there may be one with RSA beside one
    /// with ECDSA.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let of_name = name.as_deref().and_then(|name| {
            let above = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(name).or_else(above)
        });
        let fit = of_name.unwrap_or(&self.others);
        let can_check = |own: &&Arc<CertifiedKey>| own.key.choose_scheme(schemes).is_some();
        fit.iter().find(can_check).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
