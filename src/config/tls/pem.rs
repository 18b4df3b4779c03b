//! PEM files: what is in them, and what to say where it is something else.

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

use super::digest;
use crate::config::{check::World, file::Report, section::Found};

/// The bytes of a file that the configuration names.
pub(super) fn bytes(file: &str, world: &dyn World) -> Result<Vec<u8>, String> {
    let read = world.read(file.as_ref());
    read.map_err(|error| format!("{file} cannot be read: {error}"))
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    file: &str,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if has(bytes, "PRIVATE KEY-----") => Err(format!(
            "{file} holds a private key and no certificate; are the two files exchanged?"
        )),
        Ok(_) => Err(nothing(file, bytes, "certificate", "x509")),
        Err(error) => Err(damaged(file, &error)),
    }
}

/// The private key in a file.
pub(super) fn key(file: &str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(_) if has(bytes, "ENCRYPTED") => Err(format!(
            "{file} is encrypted, and nobody is here to enter its password; write it in the clear for pinring's user alone: openssl pkey -in {file} -out NEW"
        )),
        Err(pem::Error::NoItemsFound) if has(bytes, "BEGIN CERTIFICATE") => Err(format!(
            "{file} holds a certificate and no private key; are the two files exchanged?"
        )),
        Err(pem::Error::NoItemsFound) => Err(nothing(file, bytes, "private key", "pkey")),
        Err(error) => Err(damaged(file, &error)),
    }
}

/// The root certificates in a file, and their digest.
pub(super) fn roots(
    file: &Found<&str>,
    report: &Report<'_>,
    world: &dyn World,
) -> Option<(RootCertStore, [u8; 32])> {
    let read = bytes(file.value, world).and_then(|bytes| {
        let certificates = certificates(file.value, &bytes)?;
        let digest = digest(certificates.iter().map(|certificate| &**certificate));
        let mut store = RootCertStore::empty();
        for (number, certificate) in (1..).zip(certificates) {
            store.add(certificate).map_err(|error| {
                format!(
                    "certificate {number} in {} cannot be a root: {error}",
                    file.value
                )
            })?;
        }
        Ok((store, digest))
    });
    read.map_err(|message| report.push(file.spot.clone().fault(message)))
        .ok()
}

fn nothing(file: &str, bytes: &[u8], what: &str, tool: &str) -> String {
    // The first byte of everything that is DER.
    if bytes.first() == Some(&0x30) {
        return format!(
            "{file} is DER, not PEM; write it as PEM: openssl {tool} -inform der -in {file} -out NEW"
        );
    }
    format!("{file} holds no {what} in PEM, which has a line that begins with \"-----BEGIN\"")
}

fn damaged(file: &str, error: &pem::Error) -> String {
    format!("{file} is damaged PEM: {error}")
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}
