//! The beginning of a URL path, in whole segments.

use std::fmt;

/// The beginning of a path in whole segments: `/` or `/a/b`, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPrefix(Box<str>);

/// Why a string is no [`PathPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path begins with \"/\", has no \"/\" at its end, no empty, \".\" or \"..\" segment, no query and no spaces, as \"/team/mcp\""
)]
pub struct InvalidPrefix;

impl PathPrefix {
    /// The prefix of every path.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Checks and takes a prefix.
    ///
    /// # Errors
    ///
    /// If it does not begin with `/`, ends in one (but for `/` itself), has an empty or dot segment,
    /// or holds `?`, `#` or anything but visible ASCII: such a path could never match.
    pub fn try_new(path: &str) -> Result<Self, InvalidPrefix> {
        if path == "/" {
            return Ok(Self::root());
        }
        let rest = path.strip_prefix('/').ok_or(InvalidPrefix)?;
        let fits = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
        };
        if rest.split('/').all(fits) {
            Ok(Self(path.into()))
        } else {
            Err(InvalidPrefix)
        }
    }

    /// What is left of `path` behind this prefix: empty, or beginning with `/`. `None` if the path does
    /// not begin with it in whole segments.
    #[must_use]
    pub fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        if &*self.0 == "/" {
            return path.starts_with('/').then_some(path);
        }
        let rest = path.strip_prefix(&*self.0)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments() {
        let prefix = PathPrefix::try_new("/a").unwrap();
        assert_eq!(prefix.strip("/a"), Some(""));
        assert_eq!(prefix.strip("/a/b"), Some("/b"));
        assert_eq!(prefix.strip("/a/"), Some("/"));
        assert_eq!(prefix.strip("/ab"), None);
        assert_eq!(prefix.strip("/"), None);
        assert_eq!(PathPrefix::root().strip("/a/b"), Some("/a/b"));
        assert_eq!(PathPrefix::root().strip("*"), None);
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for bad in [
            "", "a", "/a/", "//", "/a//b", "/a?b", "/a#b", "/a b", "/ä", "/..", "/./a",
        ] {
            assert_eq!(PathPrefix::try_new(bad), Err(InvalidPrefix), "{bad:?}");
        }
        assert!(PathPrefix::try_new("/a/b.c/%20").is_ok());
    }
}
