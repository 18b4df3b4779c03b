//! Where the admin listener is, and what changes over TCP need: `server.admin`, `server.admin_token` and `--admin`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{check::World, secrets, section::Section};

/// The kernel takes 107 bytes (`sun_path`); the rest is for the name under which the socket is made.
const LONGEST: usize = 90;

/// Where it is unless the file says otherwise: for this machine alone.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// Fewer bytes than this can be guessed by trying.
const MIN_TOKEN_LEN: usize = 16;

/// One place where an admin listener is. `Display` is as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminPlace {
    /// For whoever can connect to it: reads, and changes with a token.
    Tcp(SocketAddr),
    /// For its owner alone.
    Unix(PathBuf),
}

impl fmt::Display for AdminPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the admin listener is: in one place, in one of each sort, or nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    /// Its address.
    pub tcp: Option<SocketAddr>,
    /// Its Unix socket.
    pub unix: Option<PathBuf>,
    /// Whether the file says so. The default is tried, and does without if it cannot be had.
    pub is_named: bool,
}

impl Admin {
    /// What holds where the file says nothing.
    #[must_use]
    pub fn unnamed() -> Self {
        Self {
            tcp: Some(DEFAULT_ADDRESS),
            unix: None,
            is_named: false,
        }
    }

    /// Its places, the one first where changes need no token.
    pub fn places(&self) -> impl Iterator<Item = AdminPlace> {
        let unix = self.unix.clone().map(AdminPlace::Unix);
        unix.into_iter().chain(self.tcp.map(AdminPlace::Tcp))
    }
}

/// As the file may have it.
impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.places().map(|place| place.to_string()).collect();
        f.write_str(&places.join(", "))
    }
}

/// Why a text names no admin listener. Each says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAdmin {
    /// Neither an address nor `unix:PATH`.
    #[error(
        "write IP and port, such as \"127.0.0.1:9901\", or \"unix:/run/pinring/admin.sock\", or \"\" for none"
    )]
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

impl FromStr for AdminPlace {
    type Err = InvalidAdmin;

    /// Reads `IP:PORT` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, InvalidAdmin> {
        let Some(path) = text.strip_prefix("unix:") else {
            let address = text.parse().map_err(|_| InvalidAdmin::Form)?;
            return Ok(Self::Tcp(address));
        };
        let is_file = Path::new(path).file_name().is_some() && !path.ends_with('/');
        if !path.starts_with('/') || !is_file {
            Err(InvalidAdmin::Relative)
        } else if path.len() > LONGEST {
            Err(InvalidAdmin::TooLong)
        } else {
            Ok(Self::Unix(path.into()))
        }
    }
}

/// What a change over TCP has to show. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub fn try_new(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < MIN_TOKEN_LEN {
            Err(
                "the token has fewer than 16 characters; make one with: head -c 32 /dev/urandom | base64",
            )
        } else if !bytes.iter().all(u8::is_ascii_graphic) {
            Err(
                "a token is visible ASCII characters without spaces, as from: head -c 32 /dev/urandom | base64",
            )
        } else {
            Ok(Self(bytes.into()))
        }
    }

    /// Whether `shown` is this token. The time that it takes tells nothing of how much of it is right.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        let mac = |key| {
            let mac = Hmac::<Sha256>::new_from_slice(key);
            mac.expect("HMAC takes keys of any length")
        };
        let mut shown = mac(shown);
        let mut own = mac(&self.0);
        shown.update(b"pinring admin");
        own.update(b"pinring admin");
        own.verify(&shown.finalize().into_bytes()).is_ok()
    }

    /// As `Authorization` has it.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// `server.admin`.
pub(super) fn read(section: &Section<'_>) -> Admin {
    let Some(list) = section.one_or_more("admin") else {
        return Admin::unnamed();
    };
    let mut admin = Admin {
        is_named: true,
        ..Admin::default()
    };
    for found in list.value.iter().filter(|found| !found.value.is_empty()) {
        let refuse = |message: String| section.report().push(found.spot.clone().fault(message));
        let is_second = match found.value.parse() {
            Ok(AdminPlace::Tcp(address)) => admin.tcp.replace(address).is_some(),
            Ok(AdminPlace::Unix(path)) => admin.unix.replace(path).is_some(),
            Err(error) => {
                refuse(error.to_string());
                continue;
            }
        };
        if is_second {
            refuse("write one address and one Unix socket at most".to_owned());
        }
    }
    admin
}

/// `server.admin_token`.
pub(super) fn token(section: &Section<'_>, world: &dyn World) -> Option<Token> {
    let found = section.string("admin_token")?;
    let right = "write \"file:PATH\" or \"env:NAME\"; the token itself never stands in the file";
    let bytes = secrets::behind(section.report(), world, &found, right)?;
    let token = Token::try_new(secrets::without_line_ends(&bytes));
    let refuse = |message: &&str| section.report().push(found.spot.fault(*message));
    token.inspect_err(refuse).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_an_address_or_a_unix_socket_with_a_whole_path() {
        let parse = |text: &str| text.parse::<AdminPlace>();
        assert_eq!(
            parse("unix:/run/x.sock"),
            Ok(AdminPlace::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            parse("127.0.0.1:9901"),
            Ok(AdminPlace::Tcp(DEFAULT_ADDRESS))
        );
        assert_eq!(parse("/run/x.sock"), Err(InvalidAdmin::Form));
        assert_eq!(parse("localhost:9901"), Err(InvalidAdmin::Form));
        for path in ["unix:x.sock", "unix:", "unix:/run/", "unix:/.."] {
            assert_eq!(parse(path), Err(InvalidAdmin::Relative), "{path}");
        }
        let long = format!("unix:/{}", "x".repeat(LONGEST));
        assert_eq!(parse(&long), Err(InvalidAdmin::TooLong));
    }

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = Token::try_new(b"0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "",
            "0123456789abcdeg",
            "0123456789abcdef0",
            "0123456789abcde",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        for weak in ["short", "0123456789abcde\u{7f}", "0123456789 abcdef"] {
            assert!(Token::try_new(weak.as_bytes()).is_err(), "{weak}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }
}
