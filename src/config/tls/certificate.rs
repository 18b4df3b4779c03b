//! A certificate with its chain and key, checked: each says here what is wrong with it, before a client does.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate as X509,
    der::{Decode as _, oid::db::rfc5280::ID_AD_CA_ISSUERS},
    ext::pkix::{AuthorityInfoAccessSyntax, SubjectAltName, name::GeneralName},
    time::Time,
};

use super::{digest, pem, provider, short};
use crate::config::{
    check::World,
    section::{Found, Section},
};

/// A chain of certificates and the key of its first.
#[derive(Clone)]
pub struct Certificate {
    /// The host names that it is for, in lower case; `*.example.com` is for all names one level below.
    pub names: Vec<String>,
    /// What TLS is spoken with.
    pub key: Arc<CertifiedKey>,
    /// Of the chain.
    pub digest: [u8; 32],
    /// The last moment of its time.
    pub until: SystemTime,
    /// The same as text.
    expires: String,
}

/// Names, end and digest: what tells one from another, and no more of it.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() {
            "no name".to_owned()
        } else {
            self.names.join(" ")
        };
        write!(
            f,
            "{names} until {} ({})",
            self.expires,
            short(&self.digest)
        )
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({self})")
    }
}

/// Reads `certificate` and `key` of a section; `None` where there is neither, or something is wrong.
pub(super) fn read(section: &Section<'_>, world: &dyn World) -> Option<Certificate> {
    let chain = section.string("certificate");
    let key = section.string("key");
    for (wanted, other) in [("certificate", "key"), ("key", "certificate")] {
        if !section.has(wanted) && section.has(other) {
            section.missing(wanted, "is missing; write the path of its file, in PEM");
        }
    }
    let report = section.report();
    let refuse = |found: &Found<&str>, message: String| {
        report.push(found.spot.clone().fault(message));
    };
    // What is wrong with one file hides nothing about the other.
    let chain = chain.and_then(|found| match Chain::read(found.value, world) {
        Ok(chain) => Some((chain, found)),
        Err(message) => {
            refuse(&found, message);
            None
        }
    });
    let key = key.and_then(|found| {
        let read = pem::bytes(found.value, world).and_then(|bytes| pem::key(found.value, &bytes));
        read.map_err(|message| refuse(&found, message))
            .ok()
            .map(|key| (key, found))
    });
    let ((chain, chain_found), (key, key_found)) = (chain?, key?);
    for note in chain
        .overdue
        .iter()
        .chain(&chain.incomplete(chain_found.value))
    {
        report.note(format!("{}: {note}", chain_found.spot.reference()));
    }
    let key = chain.with(key, chain_found.value, key_found.value);
    let key = key.map_err(|message| refuse(&key_found, message)).ok()?;
    Some(Certificate {
        names: chain.names(),
        key: Arc::new(key),
        digest: chain.digest(),
        until: chain.until().to_system_time(),
        expires: chain.until().to_string(),
    })
}

/// Certificates, each issued by the next; never empty.
struct Chain {
    encoded: Vec<CertificateDer<'static>>,
    parsed: Vec<X509>,
    /// What there is to say of one that is in force and whose time is over.
    overdue: Option<String>,
}

impl Chain {
    fn read(file: &str, world: &dyn World) -> Result<Self, String> {
        let encoded = pem::certificates(file, &pem::bytes(file, world)?)?;
        let parsed = (1..).zip(&encoded).map(|(number, certificate)| {
            X509::from_der(certificate)
                .map_err(|error| format!("certificate {number} in {file} cannot be read: {error}"))
        });
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let mut chain = Self {
            encoded,
            parsed,
            overdue: None,
        };
        chain.check_order(file)?;
        let is_in_force = world.is_in_force(&chain.digest());
        match chain.check_time(file, world.now()) {
            Err(message) if is_in_force => chain.overdue = Some(message),
            checked => checked?,
        }
        Ok(chain)
    }

    fn until(&self) -> Time {
        self.first().tbs_certificate().validity().not_after
    }

    fn digest(&self) -> [u8; 32] {
        digest(self.encoded.iter().map(|certificate| &**certificate))
    }

    fn first(&self) -> &X509 {
        self.parsed.first().expect("a chain is never empty")
    }

    fn check_order(&self, file: &str) -> Result<(), String> {
        for (number, pair) in (1..).zip(self.parsed.windows(2)) {
            let [one, next] = pair else { continue };
            let issuer = one.tbs_certificate().issuer();
            if issuer == next.tbs_certificate().subject() {
                continue;
            }
            let behind = number + 1;
            let is_issuer = |other: &X509| other.tbs_certificate().subject() == issuer;
            return Err(match self.parsed.iter().position(is_issuer) {
                Some(place) if place + 1 == number => format!(
                    "certificate {number} in {file}, {issuer}, is a root: nothing may follow it, and certificate {behind} does; the server's own certificate stands first, and behind it its issuer, and so on"
                ),
                Some(place) => format!(
                    "the certificates in {file} are out of order: number {number} is issued by {issuer}, which is number {}, and must stand right behind it",
                    place + 1
                ),
                None => format!(
                    "the chain in {file} is incomplete: certificate {number} is issued by {issuer}, which must stand right behind it; there stands {}",
                    next.tbs_certificate().subject()
                ),
            });
        }
        Ok(())
    }

    fn check_time(&self, file: &str, now: SystemTime) -> Result<(), String> {
        for (number, certificate) in (1..).zip(&self.parsed) {
            let validity = certificate.tbs_certificate().validity();
            let (from, until) = (validity.not_before, validity.not_after);
            if until.to_system_time() < now {
                return Err(format!(
                    "certificate {number} in {file} expired at {until}: renew it"
                ));
            }
            if now < from.to_system_time() {
                return Err(format!(
                    "certificate {number} in {file} is not valid before {from}: is this machine's clock right?"
                ));
            }
        }
        Ok(())
    }

    /// What there is to say where clients may miss the certificate of its issuer.
    fn incomplete(&self, file: &str) -> Option<String> {
        let own = self.first().tbs_certificate();
        let is_self_signed = own.issuer() == own.subject();
        // Where to get the issuer's certificate: who issues with an intermediate one says so.
        let issuers = own.get_extension::<AuthorityInfoAccessSyntax>();
        let names_issuer = issuers.ok().flatten().is_some_and(|(_, list)| {
            let mut ways = list.0.iter();
            ways.any(|access| access.access_method == ID_AD_CA_ISSUERS)
        });
        (self.parsed.len() == 1 && !is_self_signed && names_issuer).then(|| {
            format!(
                "{file} may be incomplete: it holds the first certificate alone, and most clients do not know its issuer, {}; append that certificate (CAs offer a \"fullchain\")",
                own.issuer()
            )
        })
    }

    /// The host names in it, in lower case.
    fn names(&self) -> Vec<String> {
        let own = self.first().tbs_certificate();
        let names = own.get_extension::<SubjectAltName>().ok().flatten();
        let names = names.into_iter().flat_map(|(_, names)| names.0);
        names
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
                _ => None,
            })
            .collect()
    }

    /// The chain with its key, if that fits.
    fn with(
        &self,
        key: PrivateKeyDer<'static>,
        file: &str,
        key_file: &str,
    ) -> Result<CertifiedKey, String> {
        let provider = provider();
        let key = provider.key_provider.load_private_key(key).map_err(|_| {
            format!("the key in {key_file} is of a kind that is not supported; use RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519")
        })?;
        let fits = |certificate: &CertificateDer<'static>| {
            let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key));
            pair.keys_match().is_ok()
        };
        match self.encoded.iter().position(fits) {
            Some(0) => Ok(CertifiedKey::new(self.encoded.clone(), key)),
            Some(place) => Err(format!(
                "the key in {key_file} is that of certificate {} in {file}, which must stand first there",
                place + 1
            )),
            None => Err(format!(
                "the key in {key_file} does not fit the certificate in {file}: it is the key of another one"
            )),
        }
    }
}
