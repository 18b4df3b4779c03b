//! The keys behind the pins' tags: HMAC-SHA-256, one key signs and all verify.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::TAG_LEN;

/// How many keys were made.
static KEYS: AtomicU64 = AtomicU64::new(0);

const DOMAIN: &[u8] = b"pinring/1\0";
const MIN_SECRET_LEN: usize = 32;

/// SHA-256 of a principal, to which a pin is bound where session binding is on.
pub type Binding = [u8; 32];

/// The first byte of SHA-256 of a key: tells which of several keys signed a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub u8);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// A secret that may be a key: at least 32 bytes, not all zero, or [`Secret::zero`]. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// Why bytes cannot be a [`Secret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Too short; holds the length in bytes.
    #[error(
        "the secret has {0} bytes; it needs at least 32, as from: head -c 32 /dev/urandom | base64"
    )]
    Short(usize),
    /// All bytes are zero.
    #[error("the secret is all zero bytes; write \"none\" if that is meant")]
    Zero,
}

impl Secret {
    /// Takes the bytes as they stand.
    ///
    /// # Errors
    ///
    /// If there are fewer than 32, or if all are zero.
    pub fn try_new(bytes: &[u8]) -> Result<Self, WeakSecret> {
        if bytes.len() < MIN_SECRET_LEN {
            Err(WeakSecret::Short(bytes.len()))
        } else if bytes.iter().all(|byte| *byte == 0) {
            Err(WeakSecret::Zero)
        } else {
            Ok(Self(bytes.into()))
        }
    }

    /// The key of those who configured none: 32 zero bytes. Everybody knows it, so that a tag under it
    /// is a checksum, not a signature.
    #[must_use]
    pub fn zero() -> Self {
        Self([0; 32].into())
    }

    /// The id that pins signed with this secret carry.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(&self.0)[0])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(key {})", self.id())
    }
}

/// One key, its HMAC state prepared: two of the four SHA-256 blocks of a tag are done beforehand.
#[derive(Clone)]
pub(super) struct Key {
    id: KeyId,
    /// Its own in this process, and its clones'.
    number: u64,
    zero: bool,
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let mac = Hmac::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
        Self {
            id: secret.id(),
            number: KEYS.fetch_add(1, Ordering::Relaxed),
            zero: *secret == Secret::zero(),
            mac,
        }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn tag(
        &self,
        head: &[u8],
        binding: Option<&Binding>,
        string: &[u8],
    ) -> [u8; TAG_LEN] {
        let full: [u8; 32] = self
            .mac_of(head, binding, string)
            .finalize()
            .into_bytes()
            .into();
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&full[..TAG_LEN]);
        tag
    }

    pub(super) fn verifies(
        &self,
        head: &[u8],
        binding: Option<&Binding>,
        string: &[u8],
        tag: &[u8],
    ) -> bool {
        self.mac_of(head, binding, string)
            .verify_truncated_left(tag)
            .is_ok()
    }

    fn mac_of(&self, head: &[u8], binding: Option<&Binding>, string: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(DOMAIN);
        mac.update(head);
        match binding {
            Some(binding) => {
                mac.update(&[32]);
                mac.update(binding);
            }
            None => mac.update(&[0]),
        }
        mac.update(string);
        mac
    }
}

/// All keys of a process: the first signs, all verify. Never empty, no two with one id.
#[derive(Clone)]
pub struct Keys {
    signing: Key,
    others: Vec<Key>,
}

/// Why secrets cannot be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "secrets {first} and {second} of the list have one key id ({id}), so that pins could not tell them apart; make one of them anew"
)]
pub struct InvalidKeys {
    /// Number of the first of the two in the list, from 1.
    pub first: usize,
    /// Number of the second.
    pub second: usize,
    /// The id that both have.
    pub id: KeyId,
}

impl Keys {
    /// Takes the secrets in their order; the zero key alone where there are none.
    ///
    /// # Errors
    ///
    /// If two of them have one key id.
    pub fn try_new(secrets: &[Secret]) -> Result<Self, InvalidKeys> {
        for (second, secret) in secrets.iter().enumerate() {
            if let Some(first) = secrets[..second]
                .iter()
                .position(|earlier| earlier.id() == secret.id())
            {
                return Err(InvalidKeys {
                    first: first + 1,
                    second: second + 1,
                    id: secret.id(),
                });
            }
        }
        let mut keys = secrets.iter().map(Key::new);
        let signing = keys.next().unwrap_or_else(|| Key::new(&Secret::zero()));
        Ok(Self {
            signing,
            others: keys.collect(),
        })
    }

    /// Whether pins under the zero key verify here: anybody can then make a pin for any string.
    #[must_use]
    pub fn accept_zero(&self) -> bool {
        self.iter().any(|key| key.zero)
    }

    /// The ids of all keys, the signing one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.iter().map(Key::id)
    }

    /// Eight hexadecimal digits that stand for a backend's own session id in logs: the beginning of an
    /// HMAC under the signing key, so that lines of several proxies can be joined and no id is written.
    #[must_use]
    pub fn log_hash(&self, string: &[u8]) -> LogHash {
        let mut mac = self.signing.mac.clone();
        mac.update(b"pinring/log\0");
        mac.update(string);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        LogHash([full[0], full[1], full[2], full[3]])
    }

    /// Sixteen hexadecimal digits that are equal where the same keys stand in the same order. Each goes into it by an
    /// HMAC of nothing secret: no key can be found out from it, and the one byte of its id would not tell two apart.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut all = Sha256::new();
        for key in self.iter() {
            let mut mac = key.mac.clone();
            mac.update(b"pinring/keys\0");
            all.update(mac.finalize().into_bytes());
        }
        HEXLOWER.encode(&all.finalize()[..8])
    }

    pub(super) fn signing(&self) -> &Key {
        &self.signing
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        self.iter().find(|key| key.id == id)
    }

    fn iter(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.signing).chain(&self.others)
    }
}

impl Default for Keys {
    /// The zero key alone.
    fn default() -> Self {
        Self {
            signing: Key::new(&Secret::zero()),
            others: Vec::new(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.ids().map(|id| id.to_string()))
            .finish()
    }
}

/// What a log shows in place of a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHash([u8; 4]);

impl fmt::Display for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}
