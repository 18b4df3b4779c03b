//! From text to configuration or faults: what these files share. One of them for each kind of rule.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    net::IpAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    check::{World, check},
    *,
};
use crate::{
    backend::Admission,
    pin::{Keys, Secret},
};

mod discovered;
mod documents;
mod identity;
mod options;
mod pages;
mod pools;
mod secrets;
mod tls;
mod traces;

const BACKEND: &str = "[[backends]]\nurl = \"http://127.0.0.1:9001\"\n";

#[derive(Default)]
struct TestWorld {
    env: HashMap<&'static str, String>,
    files: HashMap<&'static str, Vec<u8>>,
    hosts: HashMap<&'static str, Vec<&'static str>>,
    chains_in_force: bool,
}

impl World for TestWorld {
    fn env(&self, name: &str) -> Option<OsString> {
        self.env.get(name).map(OsString::from)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = path.to_str().and_then(|path| self.files.get(path));
        bytes.cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = self.hosts.get(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn cores(&self) -> NonZeroUsize {
        NonZeroUsize::new(64).unwrap()
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) // in September 2026
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn is_in_force(&self, _chain: &[u8; 32]) -> bool {
        self.chains_in_force
    }
}

/// Checks a text alone.
fn checked(text: &str) -> Result<Config, ConfigErrors> {
    check(text, &Overrides::default(), &TestWorld::default())
}

/// The configuration of a text and one backend.
fn config(text: &str) -> Config {
    checked(&format!("{text}\n{BACKEND}")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The faults of a text, as `LINE: KEY = VALUE: MESSAGE`.
fn faults(text: &str) -> Vec<String> {
    lines(checked(text))
}

fn lines(result: Result<Config, ConfigErrors>) -> Vec<String> {
    let Err(errors) = result else {
        return Vec::new();
    };
    let faults = errors.faults().iter();
    faults
        .map(|fault| {
            let text = fault.display("f").to_string();
            text.strip_prefix("f:").unwrap_or(&text).to_owned()
        })
        .collect()
}

/// The one fault of a text followed by one backend.
fn fault(text: &str) -> String {
    let mut faults = faults(&format!("{text}\n{BACKEND}"));
    assert_eq!(faults.len(), 1, "{text:?}: {faults:#?}");
    faults.remove(0)
}

fn secret(byte: u8) -> Secret {
    Secret::try_new(&[byte; 32]).unwrap()
}

fn given(label: &'static str, values: &[&str]) -> Vec<Given> {
    let given = |value: &&str| Given {
        label,
        value: (*value).to_owned(),
    };
    values.iter().map(given).collect()
}
