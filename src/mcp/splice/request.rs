//! The carriers of a request whose body is in memory.

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::{
    Carrier, Splicing,
    place::{Field, Side},
    plain::is_plain,
    scan::Scanner,
    text::Text,
};

/// Most carriers that one request is searched for; what comes after them passes untouched. Only the filter of
/// `subscriptions/listen` can have more than one, and a body full of short ids would else take many times its
/// own size.
pub const MAX_FOUND: usize = 1024;

/// A request's body, read.
#[derive(Clone)]
pub struct Request {
    body: Bytes,
    found: Vec<Found>,
}

/// A carrier in a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub carrier: Carrier,
    /// The string as the client means it: decoded, never empty.
    pub string: String,
    /// Where it is written in the body, without its quotes.
    written: Range<usize>,
}

impl Request {
    /// Reads a body: a JSON-RPC request or notification. Of anything else nothing is found, and it comes back as it is.
    #[must_use]
    pub fn read(body: Bytes) -> Self {
        let found = if is_plain(&body) {
            Vec::new()
        } else {
            find(&body)
        };
        Self { body, found }
    }

    /// The id as it is written, or what stands in its place; the last where there are several, as in nearly all
    /// parsers. It is looked for anew: only errors of pinring's own repeat it.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        let (mut scanner, mut at, mut id) = (scanner(), 0, None);
        while let Some(field) = scanner.next(&self.body, &mut at) {
            match field {
                Field::Id => {
                    let quotes = if self.body[at - 1] == b'"' { 2 } else { 0 };
                    id = Some(at - scanner.raw_len() - quotes..at);
                }
                Field::Carrier(_) => {}
            }
        }
        self.body.get(id?)
    }

    /// All carriers, in the order of the body.
    #[must_use]
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body with carriers cut short. For each, `own_len` gives how many bytes of its string are the
    /// backend's own; `None`, or what is no boundary of a character, leaves it as it is.
    #[must_use]
    pub fn strip(self, mut own_len: impl FnMut(&Found) -> Option<usize>) -> Bytes {
        let mut spliced = Splicing::new(&self.body);
        for found in &self.found {
            let Some(own) = own_len(found).and_then(|len| found.string.get(..len)) else {
                continue;
            };
            let (start, end) = (found.written.start, found.written.end);
            let cut = end.saturating_sub(found.string.len() - own.len());
            // The client may have written what is cut off with escapes.
            if decode(self.body.get(start..cut).unwrap_or_default()).as_deref() == Some(own) {
                spliced.replace(cut..end, b"");
            } else {
                spliced.replace(start - 1..end + 1, quote(own).as_bytes());
            }
        }
        spliced.finish()
    }
}

/// All carriers of `body`, in its order.
fn find(body: &[u8]) -> Vec<Found> {
    let (mut scanner, mut at, mut found) = (scanner(), 0, Vec::new());
    while let Some(field) = scanner.next(body, &mut at) {
        match (field, scanner.string()) {
            (Field::Carrier(carrier), Some(string)) if found.len() < MAX_FOUND => {
                found.push(Found {
                    carrier,
                    string: string.to_owned(),
                    written: at - 1 - scanner.raw_len()..at - 1,
                });
            }
            (Field::Id | Field::Carrier(_), _) => {}
        }
    }
    found
}

/// A body has a limit of its own, and what is pinned is longer than what was.
fn scanner() -> Scanner {
    Scanner::new(Side::Request, usize::MAX)
}

/// What stands between the quotes of a string; `None` if that is not its whole.
fn decode(written: &[u8]) -> Option<String> {
    let mut text = Text::new();
    text.begin(usize::MAX);
    match (text.push(written), text.push(b"\"")) {
        (None, Some(0)) => text.string().map(str::to_owned),
        _ => None,
    }
}

fn quote(string: &str) -> String {
    serde_json::Value::from(string).to_string()
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.carrier, self.string.len())
    }
}
