//! The configuration's text: any is a configuration or has faults that say something, the same each time.
#![no_main]

use std::{ffi::OsString, io, net::IpAddr, num::NonZeroUsize, path::Path, time::SystemTime};

use libfuzzer_sys::fuzz_target;
use pinring::config::{
    Overrides,
    check::{World, check},
};

/// Has one variable, one file and one host.
struct Alone;

impl World for Alone {
    fn env(&self, name: &str) -> Option<OsString> {
        (name == "A").then(|| "0123456789abcdef0123456789abcdef".into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = path == Path::new("a");
        found
            .then(|| vec![b'x'; 32])
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = host == "localhost";
        found
            .then(|| vec![IpAddr::from([127, 0, 0, 1])])
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn system_roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn cores(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }
}

fuzz_target!(|text: &str| {
    let told = || match check(text, &Overrides::default(), &Alone) {
        Ok(config) => format!("{config:?}"),
        Err(faults) => {
            let faults = faults.to_string();
            assert!(!faults.trim().is_empty());
            faults
        }
    };
    assert_eq!(told(), told());
});
