//! Where the admin listener is: `server.admin` and `--admin`.

use std::path::{Path, PathBuf};

use super::section::Section;

/// The kernel takes 107 bytes (`sun_path`); the rest is for the name under which the socket is made.
const LONGEST: usize = 90;

/// Why a text names no admin listener. Each says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAdmin {
    /// An IP address and a port.
    #[error(
        "an IP address is not yet supported by this version; write \"unix:/run/pinring/admin.sock\", or \"\" for none"
    )]
    NotYet,
    /// Neither that nor `unix:PATH`.
    #[error("write \"unix:/run/pinring/admin.sock\", or \"\" for none")]
    Form,
    /// A path that depends on where the process was started.
    #[error("write a whole path that begins with /, such as \"unix:/run/pinring/admin.sock\"")]
    Relative,
    /// A path that the kernel would not take.
    #[error(
        "the path is longer than the {LONGEST} bytes that a socket's may have; choose a shorter one"
    )]
    TooLong,
}

/// Reads `unix:PATH`.
///
/// # Errors
///
/// If it is anything else, or the path is no path for a socket.
pub fn parse(text: &str) -> Result<PathBuf, InvalidAdmin> {
    let Some(path) = text.strip_prefix("unix:") else {
        let is_tcp = text.parse::<std::net::SocketAddr>().is_ok();
        return Err(if is_tcp {
            InvalidAdmin::NotYet
        } else {
            InvalidAdmin::Form
        });
    };
    let is_file = Path::new(path).file_name().is_some() && !path.ends_with('/');
    if !path.starts_with('/') || !is_file {
        Err(InvalidAdmin::Relative)
    } else if path.len() > LONGEST {
        Err(InvalidAdmin::TooLong)
    } else {
        Ok(path.into())
    }
}

/// `server.admin`.
pub(super) fn read(section: &Section<'_>) -> Option<PathBuf> {
    let found = section
        .string("admin")
        .filter(|found| !found.value.is_empty())?;
    match parse(found.value) {
        Ok(path) => Some(path),
        Err(error) => {
            section.report().push(found.spot.fault(error.to_string()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_a_unix_socket_with_a_whole_path() {
        assert_eq!(parse("unix:/run/x.sock"), Ok("/run/x.sock".into()));
        assert_eq!(parse("127.0.0.1:9901"), Err(InvalidAdmin::NotYet));
        assert_eq!(parse("/run/x.sock"), Err(InvalidAdmin::Form));
        for path in ["unix:x.sock", "unix:", "unix:/run/", "unix:/.."] {
            assert_eq!(parse(path), Err(InvalidAdmin::Relative), "{path}");
        }
        let long = format!("unix:/{}", "x".repeat(LONGEST));
        assert_eq!(parse(&long), Err(InvalidAdmin::TooLong));
    }
}
