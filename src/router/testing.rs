//! Configurations from text, for the tests of the router's modules.

use std::{ffi::OsString, io, net::IpAddr, num::NonZeroUsize, path::Path, time::SystemTime};

use crate::config::{
    Config, Overrides,
    check::{World, check},
};

/// A world in which nothing but the text exists, and the environment variables that tests name.
struct Nothing;

impl World for Nothing {
    fn env(&self, name: &str) -> Option<OsString> {
        name.starts_with("SECRET")
            .then(|| format!("{name:x<40}").into())
    }

    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// The configuration of `toml`.
pub(crate) fn config(toml: &str) -> Config {
    check(toml, &Overrides::default(), &Nothing).unwrap_or_else(|errors| panic!("{errors}"))
}

/// One pool of backends with these names, with further lines before them.
pub(crate) fn pool_of(names: &[&str], lines: &str) -> Config {
    let backend = |(port, name): (u16, &&str)| {
        format!("[[backends]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}\"\n")
    };
    let backends: String = (9001..).zip(names).map(backend).collect();
    config(&format!("{lines}\n{backends}"))
}
