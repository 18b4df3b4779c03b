//! `affinity.secrets`: from the list in the file, or the one secret given beside it, to keys.
//!
//! No fault shows a value: what stands where a secret belongs may be one.

use std::{ffi::OsString, path::Path};

use super::{
    check::World,
    fault::Spot,
    file::Report,
    overrides::{Given, SECRET_VARIABLE},
    section::{Found, Section},
};
use crate::pin::{Keys, Secret};

/// What was read.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) list: Vec<Secret>,
    pub(super) keys: Keys,
    /// Whether any was to be read, be it usable or not.
    pub(super) any: bool,
}

impl Secrets {
    /// Why nobody's sessions can be bound to him with these.
    pub(super) fn unfit_to_bind(&self) -> Option<&'static str> {
        if self.list.contains(&Secret::zero()) {
            Some(
                "anybody can make a pin that \"none\" verifies, also for himself; remove \"none\" from affinity.secrets",
            )
        } else if !self.any {
            Some(
                "needs a secret: without one anybody can make a pin, also for himself. Make one with: head -c 32 \
                 /dev/urandom | base64 > pinring.secret, and write secrets = [\"file:pinring.secret\"] under [affinity]",
            )
        } else {
            None
        }
    }
}

/// Reads `secrets` of `affinity`; `given` is the secret from outside the file.
pub(super) fn read(
    affinity: &Section<'_>,
    given: Option<&Given<OsString>>,
    world: &dyn World,
) -> Secrets {
    let report = affinity.report();
    let reader = Reader { report, world };
    let written = affinity.strings("secrets");
    if let (Some(written), Some(given)) = (&written, given) {
        refuse_both(report, written, given);
    }
    let (list, complete) = match (&written, given) {
        (Some(written), _) => {
            let secrets = written.value.iter().map(|entry| reader.entry(entry));
            let list: Vec<Secret> = secrets.flatten().collect();
            let complete = list.len() == written.value.len();
            (list, complete)
        }
        (None, Some(given)) => {
            let bytes = given.value.as_encoded_bytes();
            let secret = reader.checked(bytes, given.spot());
            let complete = secret.is_some();
            (Vec::from_iter(secret), complete)
        }
        (None, None) => (Vec::new(), true),
    };
    let any = given.is_some() || !affinity.lacks("secrets");
    let keys = match (Keys::try_new(&list), written) {
        (Ok(keys), _) => keys,
        (Err(error), Some(written)) if complete => {
            let (first, second) = (&list[error.first - 1], &list[error.second - 1]);
            let message = if first == second {
                format!(
                    "entries {} and {} are the same secret; remove one",
                    error.first, error.second
                )
            } else {
                error.to_string()
            };
            report.push(written.spot.fault(message));
            Keys::default()
        }
        // One entry is missing, and its own fault says so: the numbers here would be wrong.
        (Err(_), _) => Keys::default(),
    };
    Secrets { list, keys, any }
}

fn refuse_both(report: &Report<'_>, written: &Found<Vec<Found<&str>>>, given: &Given<OsString>) {
    let variable = format!("env:{SECRET_VARIABLE}");
    if written.value.iter().all(|entry| entry.value != variable) {
        let label = given.label;
        let message = format!(
            "{label} is set too, and would be ignored; add \"{variable}\" to the list, or unset {label}"
        );
        report.push(written.spot.clone().fault(message));
    }
}

struct Reader<'a> {
    report: &'a Report<'a>,
    world: &'a dyn World,
}

impl Reader<'_> {
    fn entry(&self, entry: &Found<&str>) -> Option<Secret> {
        if entry.value == "none" {
            return Some(Secret::zero());
        }
        let right = "write \"file:PATH\", \"env:NAME\" or \"none\"; a secret itself never stands in the file";
        let bytes = behind(self.report, self.world, entry, right)?;
        self.checked(&bytes, entry.spot.clone())
    }

    fn checked(&self, bytes: &[u8], spot: Spot) -> Option<Secret> {
        match Secret::try_new(without_line_ends(bytes)) {
            Ok(secret) => Some(secret),
            Err(weak) => {
                self.report.push(spot.fault(weak.to_string()));
                None
            }
        }
    }
}

/// The bytes behind `file:PATH` or `env:NAME`; anything else is a fault that says what would be `right`.
pub(super) fn behind(
    report: &Report<'_>,
    world: &dyn World,
    entry: &Found<&str>,
    right: &str,
) -> Option<Vec<u8>> {
    let message = match entry.value.split_once(':') {
        Some(("file", path)) if !path.is_empty() => match world.read(Path::new(path)) {
            Ok(bytes) => return Some(bytes),
            Err(error) => format!("{path} cannot be read: {error}"),
        },
        Some(("env", name)) if is_variable(name) => match world.env(name) {
            Some(value) => return Some(value.as_encoded_bytes().to_vec()),
            None => format!("the variable {name} is not set"),
        },
        _ => right.to_owned(),
    };
    report.push(entry.spot.clone().fault(message));
    None
}

/// The bytes as they stand, without trailing line ends: editors and `echo` add them.
pub(super) fn without_line_ends(bytes: &[u8]) -> &[u8] {
    let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let end = bytes.iter().rposition(|byte| !line_end(byte));
    let (bytes, _) = bytes.split_at(end.map_or(0, |last| last + 1));
    bytes
}

/// What a shell takes as a name; anything else behind `env:` may be the secret itself.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
