//! Tells most texts without a carrier from the others at a glance.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The names of all members that may hold a carrier, `taskIds` in the third place, and the beginning of the only escapes
/// that can stand for their letters.
static WORDS: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| ["requestState", "taskId", "\\u"].map(Finder::new));

/// Whether a whole JSON text, or several, certainly have no carrier. Nearly all are so: reading a call takes 5,500
/// instructions, and this 400.
pub(super) fn is_plain(texts: &[u8]) -> bool {
    WORDS.iter().all(|word| word.find(texts).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_carrier_is_missed() {
        for plain in ["", "{}", r#"{"params":{"task":"\\n\"","State":"request"}}"#] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        for other in [
            r#"{"params":{"requestState":"s"}}"#,
            r#"{"params":{"taskId":"t"}}"#,
            r#"{"params":{"notifications":{"taskIds":["t"]}}}"#,
            r#"{"params":{"t\u0061skId":"t"}}"#,
        ] {
            assert!(!is_plain(other.as_bytes()), "{other}");
        }
    }
}
